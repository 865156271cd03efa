"""Pure functions on B-spline knots and coefficients, one row of knots per input.

A grid of G intervals and degree k has G + 2k + 1 knots: the G + 1 breakpoints of the grid and k
more beyond either end, strictly increasing along each row. Fits are solved in float64.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from kanlens.errors import ShapeError

Extrapolation = Literal["linear", "zero"]
COLLAPSED = 1e-2  # share of the even spacing below which quantiles count as repeated
RIDGE = 1e-12  # relative to the largest squared column norm of a least-squares problem
OUTSIDE_WEIGHT = 1e-4  # of a refit's points beyond the old grid, if the new grid contains the old


def uniform_knots(
    n_inputs: int, low: float, high: float, grid_size: int, *, degree: int
) -> Tensor:  # (in, knot)
    """Return evenly spaced knots, the same for every input, in torch's default dtype."""
    step = (high - low) / grid_size
    places = torch.arange(-degree, grid_size + degree + 1, dtype=torch.float64)
    return (low + places * step).to(torch.get_default_dtype()).repeat(n_inputs, 1)


def extend(cuts: Tensor, degree: int) -> Tensor:  # (in, G + 1) -> (in, knot)
    """Return breakpoints with `degree` more knots beyond each end."""
    low, high = cuts[:, :1], cuts[:, -1:]
    step = (high - low) / (cuts.shape[1] - 1)
    places = torch.arange(1, degree + 1, dtype=cuts.dtype, device=cuts.device)
    return torch.cat([low - step * places.flip(0), cuts, high + step * places], dim=1)


def grid_ends(knots: Tensor, degree: int) -> tuple[Tensor, Tensor]:  # (in,), (in,)
    """Return the ends of the range of each grid."""
    return knots[:, degree], knots[:, knots.shape[1] - degree - 1]


def greville(knots: Tensor, degree: int) -> Tensor:  # (in, basis)
    """Return the Greville abscissae: the coefficients of x as a B-spline (Marsden's identity)."""
    return knots[:, 1:-1].unfold(1, degree, 1).mean(-1)


def basis(
    x: Tensor,  # (..., in)
    knots: Tensor,  # (in, knot)
    degree: int,
    *,
    derivative: int = 0,
    extrapolation: Extrapolation = "zero",
) -> Tensor:  # (..., in, basis)
    """Evaluate every B-spline basis function of every input, or its `derivative`-th derivative.

    Uses the Cox-de Boor recursion [1]_. Outside the grid, ``extrapolation="zero"`` lets the
    functions decay to zero over the knots beyond, and ``"linear"`` continues each linearly. The
    right end of the grid belongs to its last interval. NaN gives NaN.

    References
    ----------
    .. [1] C. de Boor, A Practical Guide to Splines, 1978, chapters IX and X.
    """
    if x.dim() == 0 or x.shape[-1] != knots.shape[0]:
        expected, got = f"x of shape (..., {knots.shape[0]})", str(tuple(x.shape))
        raise ShapeError("basis", expected, got, "Give one row of knots per column of x")
    if extrapolation == "zero":
        return _basis(x, knots, degree, derivative)
    low, high = grid_ends(knots, degree)
    inside = x.clamp(low, high)  # NaN stays NaN; the slope at an end is that inside
    values = _basis(inside, knots, degree, derivative)
    beyond = (x - inside).unsqueeze(-1)  # (..., in, 1)
    if derivative == 0:
        below, above = end_slopes(knots, degree)
        return values + beyond.clamp(max=0) * below + beyond.clamp(min=0) * above
    if derivative == 1:
        return values
    return values.masked_fill((beyond < 0) | (beyond > 0), 0.0)


def end_slopes(knots: Tensor, degree: int) -> tuple[Tensor, Tensor]:  # (in, basis) twice
    """Return the slope of every basis function at the left and the right end of the grid."""
    low, high = grid_ends(knots, degree)
    slopes = _basis(torch.stack([low, high]), knots, degree, 1)
    return slopes[0], slopes[1]


def _basis(x: Tensor, knots: Tensor, degree: int, derivative: int) -> Tensor:
    """Evaluate by Cox-de Boor up to degree - derivative, then take `derivative` differences."""
    lowest = degree - derivative
    if lowest < 0:
        return x.unsqueeze(-1) * knots.new_zeros(knots.shape[1] - degree - 1)
    starts = knots.clone()
    end = knots.shape[1] - degree - 1  # the right end of the grid belongs to the left piece
    starts[:, end] = torch.nextafter(knots[:, end], torch.full_like(knots[:, end], torch.inf))
    points = x.unsqueeze(-1)
    distance = points - knots  # (..., in, knot)
    reached = points >= starts
    values = (reached[..., :-1] > reached[..., 1:]).to(x.dtype)
    if lowest == 0:
        values = values + 0 * points  # NaN stays NaN
    for p in range(1, lowest + 1):
        rising = distance[..., :-p] * (knots[:, p:] - knots[:, :-p]).reciprocal() * values
        # the next function times its falling ramp: that function less its rising part
        values = rising[..., :-1] + values[..., 1:] - rising[..., 1:]
    for p in range(lowest + 1, degree + 1):
        scaled = values * (p / (knots[:, p:] - knots[:, :-p]))
        values = scaled[..., :-1] - scaled[..., 1:]
    return values


def evaluate(
    x: Tensor,  # (batch, in)
    coef: Tensor,  # (out, in, basis)
    knots: Tensor,  # (in, knot)
    degree: int,
    *,
    derivative: int = 0,
    extrapolation: Extrapolation = "zero",
) -> Tensor:  # (batch, out, in)
    """Evaluate splines at points, each input's splines at that input's points."""
    values = basis(x, knots, degree, derivative=derivative, extrapolation=extrapolation)
    return torch.einsum("bik,oik->boi", values, coef)


def local_sums(
    x: Tensor,  # (batch, in), inside the grid
    coef: Tensor,  # (out, in, basis)
    knots: Tensor,  # (in, knot)
    degree: int,
) -> Tensor:  # (batch, out)
    """Return the sums of splines over the inputs, from the nonzero basis functions alone.

    Only the `degree` + 1 functions that are nonzero at each number of x are evaluated, so that time
    does not grow with the grid.
    """
    cuts = knots[:, degree + 1 : -degree - 1].contiguous()
    piece = torch.searchsorted(cuts, x.mT.contiguous(), right=True).mT.unsqueeze(-1)
    column = torch.arange(x.shape[1], device=x.device).unsqueeze(-1)
    near = knots[column, piece + torch.arange(1, 2 * degree + 1, device=x.device)]
    points = x.unsqueeze(-1)
    values = torch.ones_like(points)
    for p in range(1, degree + 1):
        left, right = near[..., degree - p : degree], near[..., degree : degree + p]
        rising = (points - left) / (right - left) * values
        values = functional.pad(values - rising, (0, 1)) + functional.pad(rising, (1, 0))
    chosen = coef.permute(1, 2, 0)[column, piece + torch.arange(degree + 1, device=x.device)]
    return torch.einsum("bik,biko->bo", values, chosen)


def differentiate(coef: Tensor, knots: Tensor, degree: int) -> tuple[Tensor, Tensor]:
    """Return coefficients (..., basis - 1) and knots of the derivative inside the grid."""
    width = knots[:, degree + 1 : -1] - knots[:, 1 : -degree - 1]
    return degree * coef.diff(dim=-1) / width, knots[:, 1:-1]


def fit(
    x: Tensor,  # (batch, in)
    y: Tensor,  # (batch, out, in)
    knots: Tensor,  # (in, knot)
    degree: int,
    *,
    weights: Tensor | None = None,  # (batch, in)
    ridge: float = RIDGE,
    extrapolation: Extrapolation = "zero",
) -> Tensor:  # (out, in, basis)
    """Fit splines by least squares, with one factorization per input for all outputs.

    A ridge of `ridge` times the largest squared column norm keeps coefficients finite for repeated
    points, empty intervals or few rows. `weights` multiply the residuals. Solved in
    float64, returned in the dtype of `y`.
    """
    design = basis(x.double(), knots.double(), degree, extrapolation=extrapolation)
    matrix, values = design.movedim(0, 1), y.double().permute(2, 0, 1)  # (in, batch, ...)
    if weights is not None:
        scale = weights.double().movedim(0, 1).unsqueeze(-1)
        matrix, values = matrix * scale, values * scale
    n_basis = matrix.shape[-1]
    largest = matrix.square().sum(1).amax(1).clamp_min(1e-300)  # (in,)
    eye = torch.eye(n_basis, dtype=matrix.dtype, device=matrix.device)
    stacked = torch.cat([matrix, (ridge * largest).sqrt()[:, None, None] * eye], dim=1)
    zeros = values.new_zeros(values.shape[0], n_basis, values.shape[2])
    q, r = torch.linalg.qr(stacked)
    right = q.mT @ torch.cat([values, zeros], dim=1)
    solution: Tensor = torch.linalg.solve_triangular(r, right, upper=True)  # (in, basis, out)
    return solution.permute(2, 0, 1).to(y.dtype).contiguous()


def refit(
    coef: Tensor,  # (out, in, basis)
    old_knots: Tensor,
    new_knots: Tensor,
    degree: int,
    *,
    extrapolation: Extrapolation = "zero",
) -> Tensor:  # (out, in, new basis)
    """Return the coefficients of splines on another grid.

    Least squares over the new grid; all intervals between breakpoints of either grid have the same
    weight. If the new grid has all breakpoints of the old one, points beyond the old grid have the
    weight `OUTSIDE_WEIGHT`; inside, the fit is then exact to rounding, unless a wider grid cannot
    follow the extrapolation of the old one.
    """
    old, new = old_knots.double(), new_knots.double()
    low, high = grid_ends(new, degree)
    cuts = torch.cat([breakpoints(old, degree), breakpoints(new, degree)], dim=1)
    cuts = cuts.clamp(low[:, None], high[:, None]).sort(dim=1).values
    count = degree + 2
    places = torch.arange(count, dtype=torch.float64, device=cuts.device)
    places = 0.5 - 0.5 * torch.cos((places + 0.5) * torch.pi / count)  # Chebyshev, in (0, 1)
    width = cuts.diff(dim=1)[..., None]  # (in, piece, 1); zero where both grids have a breakpoint
    x = (cuts[:, :-1, None] + width * places).flatten(1).mT  # (point, in)
    target = evaluate(x, coef.double(), old, degree, extrapolation=extrapolation)
    old_low, old_high = grid_ends(old, degree)
    beyond = (x < old_low) | (x > old_high)
    theirs, ours = breakpoints(old, degree), breakpoints(new, degree)
    gap = (theirs[:, :, None] - ours[:, None, :]).abs().amin(2)  # (in, old)
    holds = (gap <= 1e-6 * (old_high - old_low)[:, None]).all(1)  # every old breakpoint
    weights = torch.where(beyond & holds, OUTSIDE_WEIGHT, 1.0)
    weights = weights * (width > 0).expand(-1, -1, count).flatten(1).mT
    solved = fit(x, target, new, degree, weights=weights, ridge=1e-18, extrapolation=extrapolation)
    return solved.to(coef.dtype)


def breakpoints(knots: Tensor, degree: int) -> Tensor:  # (in, G + 1)
    """Return the breakpoints of each grid: its knots in the range."""
    return knots[:, degree : knots.shape[1] - degree]


def adapted_breakpoints(
    x: Tensor,  # (batch, in)
    old: Tensor,  # (in, G + 1)
    *,
    eps: float,  # weight of even spacing
    margin: float,  # room beyond the data at either end, as a share of their range
) -> Tensor:  # (in, G + 1)
    """Place breakpoints at quantiles of the data, mixed with even spacing.

    Repeated quantiles are replaced by those of the distinct values. A column whose finite values do
    not differ by more than rounding keeps its `old` breakpoints.
    """
    rows = [_adapted_column(x[:, i], old[i], eps, margin) for i in range(x.shape[1])]
    return torch.stack(rows).to(old)


def _adapted_column(x: Tensor, old: Tensor, eps: float, margin: float) -> Tensor:
    values, cuts = x[torch.isfinite(x)].sort().values.double().cpu(), old.double().cpu()
    distinct = values.unique_consecutive()
    grid_size = len(cuts) - 1
    if not len(distinct):
        return cuts
    span = float(distinct[-1] - distinct[0])
    rounding = torch.finfo(old.dtype).eps
    least = 2 * rounding / COLLAPSED * grid_size * float(distinct.abs().max())
    if span <= max(64 * rounding * float(cuts.abs().max()), least):  # breakpoints would coincide
        return cuts
    places = torch.linspace(0, 1, grid_size + 1, dtype=torch.float64)
    first, last = float(distinct[0]) - margin * span, float(distinct[-1]) + margin * span
    even = first + (last - first) * places
    cuts = quantiles(values, places)
    if float(cuts.diff().min()) < COLLAPSED * span / grid_size:
        cuts = quantiles(distinct, places)
    cuts[0], cuts[-1] = first, last
    share = eps if float(cuts.diff().min()) >= COLLAPSED * span / grid_size else max(eps, 0.1)
    return share * even + (1 - share) * cuts


def quantiles(values: Tensor, places: Tensor) -> Tensor:  # (value, ...) -> (place, ...)
    """Return quantiles at shares `places`, interpolated; torch.quantile takes 16 million values."""
    ordered = values.sort(dim=0).values
    position = places * (len(ordered) - 1)
    left = position.floor().long().clamp(max=len(ordered) - 1)
    right = (left + 1).clamp(max=len(ordered) - 1)
    part = (position - left).to(ordered).reshape(-1, *[1] * (ordered.dim() - 1))
    return ordered[left] + part * (ordered[right] - ordered[left])


def resized_breakpoints(cuts: Tensor, grid_size: int) -> Tensor:
    """Resample breakpoints (in, G + 1) to (in, grid_size + 1); a finer grid keeps the old ones."""
    old_size = cuts.shape[1] - 1
    if grid_size < old_size:
        return quantiles(cuts.mT, torch.linspace(0, 1, grid_size + 1, dtype=torch.float64)).mT
    pieces = [grid_size // old_size + (i < grid_size % old_size) for i in range(old_size)]
    columns = [
        cuts[:, i] + (cuts[:, i + 1] - cuts[:, i]) * j / count
        for i, count in enumerate(pieces)
        for j in range(count)
    ]
    return torch.stack([*columns, cuts[:, -1]], dim=1)
