"""Pruning: `prune` and what it returns."""

from kanlens.pruning.compaction import compact
from kanlens.pruning.cutting import prune
from kanlens.pruning.result import PruneResult

__all__ = ["PruneResult", "compact", "prune"]
