"""Attribution and restarts in one process, in several, or on a Dask cluster."""

from kanlens.distributed._analyses import AttributionFolder, attribute, importance
from kanlens.distributed._restarts import discover, fit

__all__ = ["AttributionFolder", "attribute", "discover", "fit", "importance"]
