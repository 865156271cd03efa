"""Pruning: `prune` and what it returns, and the scores that edges are ranked by."""

from kanlens.pruning._compaction import compact
from kanlens.pruning._history import PruneResult
from kanlens.pruning._prune import prune
from kanlens.pruning._scores import SCORES, edge_scores

__all__ = ["SCORES", "PruneResult", "compact", "edge_scores", "prune"]
