"""Work that is shared: by one process, by several, or by a cluster of Dask."""

from kanlens.distributed.analyses import AttributionFolder, attribute, compare, importance

__all__ = ["AttributionFolder", "attribute", "compare", "importance"]
