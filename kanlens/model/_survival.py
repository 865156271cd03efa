"""Survival: Breslow's baseline hazard [1]_, and the concordance of hazards with times [2]_.

Times are signed: positive at an event, negative where censored.

References
----------
.. [1] N. Breslow, Discussion of regression models and life-tables by D. Cox, 1972.
.. [2] F. Harrell et al., Evaluating the yield of medical tests, 1982.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from kanlens.data._cell_parsing import Array

EVENTS = 5000  # most events whose pairs are compared, evenly spread


def cumulative_hazard(sums: Array, targets: Array, weights: Array) -> Callable[[Array], Array]:
    """Return Breslow's cumulative baseline hazard as a function of times.

    Arguments are log hazards, signed times, and weights (batch,).
    """
    happened = targets > 0
    times = np.unique(targets[happened])
    order = np.abs(targets).argsort()
    ahead = np.append((weights * np.exp(sums))[order][::-1].cumsum()[::-1], 0.0)
    risk = ahead[np.searchsorted(np.abs(targets)[order], times)]
    places = np.searchsorted(times, targets[happened])
    events = np.bincount(places, weights[happened], len(times))
    steps = np.divide(events, risk, out=np.zeros(len(times)), where=risk > 0)
    hazard = np.append(0.0, steps.cumsum())
    return lambda at: hazard[np.searchsorted(times, at, side="right")]


def concordance(output: Array, y: Array) -> float:
    """Return the share of comparable pairs with the larger output at the shorter time.

    Outputs and times `y` are (batch,). A pair is comparable if the shorter time is that of an
    event; equal outputs count one half.
    """
    times, places, right, pairs = np.abs(y), np.flatnonzero(y > 0), 0.0, 0
    for place in places[:: 1 + len(places) // EVENTS]:
        later = (times > times[place]) | ((times == times[place]) & (y < 0))
        others = output[later]
        right += (others < output[place]).sum() + (others == output[place]).sum() / 2
        pairs += len(others)
    return right / pairs if pairs else np.nan
