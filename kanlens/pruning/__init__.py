"""Pruning: `prune` and what it returns, and the scores that edges are ranked by."""

from kanlens.pruning.compaction import compact
from kanlens.pruning.cutting import prune
from kanlens.pruning.history import PruneResult
from kanlens.pruning.scores import SCORES, edge_scores

__all__ = ["SCORES", "PruneResult", "compact", "edge_scores", "prune"]
