"""What features do together, and what flows through the edges, as records for page and twin."""

from __future__ import annotations

import itertools
from typing import Any

from kanlens.reporting.analysis import Analysis

LISTED = 100  # pairs, the strongest


def describe_pairs(analysis: Analysis) -> dict[str, Any] | None:
    """Return the strongest interactions, and how much of all effects they are.

    Returns
    -------
    dict or None
        rows and background_rows they are means over, `share` of all effects that is interactions,
        and one record per pair, the strongest first: features, size (mean |value|), mean (with its
        sign), share. None where interactions are not known.
    """
    found, planned = analysis.pairs, analysis.plan.pairs
    if found is None or found.interactions is None or planned is None:
        return None
    sizes, means = found.interactions.abs().mean(0), found.interactions.mean(0)
    alone = float(sizes.diagonal().sum())
    together = float(sizes.triu(1).sum())
    total = alone + together or 1.0
    pairs: list[dict[str, Any]] = [
        {
            "features": [found.features[i], found.features[j]],
            "size": float(sizes[i, j]),
            "mean": float(means[i, j]),
            "share": float(sizes[i, j]) / total,
        }
        for i, j in itertools.combinations(range(len(found.features)), 2)
    ]
    pairs.sort(key=lambda record: -record["size"])
    return {
        "method": found.method,
        "rows": len(planned[0]),
        "background_rows": len(planned[1]),
        "share": together / total,
        "pairs": pairs[:LISTED],
    }


def describe_flows(analysis: Analysis) -> dict[str, Any] | None:
    """Return the mean size of what flows through every edge; None where that is not known.

    Returns
    -------
    dict or None
        method, and `layers`: for every layer a table of the mean |flow|, outputs x inputs.
    """
    found = analysis.flows
    if found is None or found.paths is None:
        return None
    return {"method": found.method, "layers": [flow.abs().mean(0) for flow in found.paths]}
