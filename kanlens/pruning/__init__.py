"""Pruning: `prune`, its result, and the scores that rank edges."""

from kanlens.pruning._propagation import compact
from kanlens.pruning._prune import PruneResult, prune
from kanlens.pruning._scores import SCORES, edge_scores

__all__ = ["SCORES", "PruneResult", "compact", "edge_scores", "prune"]
