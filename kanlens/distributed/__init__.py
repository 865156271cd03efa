"""Work that is shared: by one process, by several, or by a cluster of Dask."""

from kanlens.distributed.analyses import AttributionFolder, attribute, compare, importance
from kanlens.distributed.restarts import discover, fit

__all__ = ["AttributionFolder", "attribute", "compare", "discover", "fit", "importance"]
