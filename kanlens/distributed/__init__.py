"""Tables of any size, part by part: by one process, by several, or on a cluster of Dask."""

from kanlens.distributed.analyses import AttributionFolder, attribute, importance

__all__ = ["AttributionFolder", "attribute", "importance"]
