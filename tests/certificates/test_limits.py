"""Limits in seconds, told by a clock that moves with the work, and limits of memory."""

from types import SimpleNamespace

import pytest
import torch

from benchmarks.attribution.adversary import broken
from kanlens import _runtime as runtime
from kanlens._runtime import Deadline
from kanlens.certificates import _additive_approximation as additive_approximation
from kanlens.certificates import _relaxation as relaxation
from kanlens.certificates._additive_approximation import additive_changes
from kanlens.certificates._bound_propagation import BoundPropagation
from kanlens.certificates._certify import certify
from kanlens.certificates._relaxation import Interval
from kanlens.certificates._sampling import explore, spread_points
from kanlens.certificates._statements import _sentence
from kanlens.errors import DataError
from kanlens.model import _analysis as analysis
from kanlens.model import kernels
from kanlens.model._analysis import float64_copy
from kanlens.model._kan_linear import KANLinear
from kanlens.model._network import KAN

EDGE = 1e-7  # seconds that evaluating one takes, in these tests
CALL, NUMBER = 5e-3, 2e-7  # what bounding takes, and more for every control point


class Clock:
    """Moves when models are evaluated and boxes are bounded, and counts the work after an end."""

    def __init__(self, monkeypatch, end):
        self.now, self.end, self.late = 0.0, end, []
        monkeypatch.setattr(runtime, "time", SimpleNamespace(monotonic=lambda: self.now))
        real_forward, real_combine = KANLinear.forward, relaxation.combine

        def forward(layer, x):
            self.work("rows", EDGE * x.shape[:-1].numel() * layer.mask.numel())
            return real_forward(layer, x)

        def combine(edges, weights):
            self.work("points", CALL + NUMBER * edges.points.numel())
            return real_combine(edges, weights)

        monkeypatch.setattr(KANLinear, "forward", forward)
        monkeypatch.setattr(relaxation, "combine", combine)

    def work(self, what, seconds):
        if self.now > self.end:
            self.late.append(what)
        self.now += seconds


def network(widths):
    return KAN(widths, scale_noise=2.0, generator=torch.Generator().manual_seed(0))


def box(count):
    return torch.tensor([[-1.0, 1.0]]).expand(count, 2).double()


# --- time -----------------------------------------------------------------------------------------


@pytest.mark.slow  # divides many boxes
@pytest.mark.parametrize(
    ("limit", "widths"),
    [
        *((0.03, [3, 4, 1]), (0.03, [6, 5, 4, 2]), (0.03, [30, 5, 2])),
        *((0.3, [6, 5, 4, 2]), (0.3, [30, 5, 2]), (3.0, [3, 4, 1]), (3.0, [6, 5, 4, 2])),
    ],
)
def test_limits_hold_and_claims_do(monkeypatch, widths, limit):
    clock = Clock(monkeypatch, limit)
    model = network(widths)
    proven = certify(model, box(widths[0]), time_limit=limit, max_boxes=64, progress=False)
    assert clock.now <= limit + max(1.0, 0.1 * limit)
    assert len(clock.late) <= 40 * len(proven.outputs)
    for one in proven.outputs:
        assert one.range.low <= one.range.seen_low <= one.range.seen_high <= one.range.high
        if one.remark:
            assert one.remark.startswith("stopped at the time limit, without ")
            assert one.remark in str(proven)
            assert not one.decided
        for feature in one.features:  # what was not looked at was not seen to do nothing
            assert feature.verdict == "constant" or "(seen 0)" not in _sentence(feature)
    monkeypatch.undo()
    assert broken(model, proven, torch.Generator().manual_seed(1), 200)[0] == []


def test_a_model_too_large_for_its_limit_has_infinite_bounds(monkeypatch):
    clock = Clock(monkeypatch, 0.001)
    proven = certify(network([40, 10, 2]), box(40), time_limit=0.001, progress=False)
    for one in proven.outputs:
        assert one.range.high == float("inf")
        assert one.remark.startswith("stopped at the time limit, without bounds of the edges")
        assert one.features[0].verdict == "unknown"
        assert one.features[0].remark == "a slope without a bound: the search ended early"
    assert len(clock.late) < 30


@pytest.mark.slow
def test_outputs_share_the_time(monkeypatch):
    clock = Clock(monkeypatch, 2.5)
    model = network([4, 3, 3])
    options = {"tolerance": 1e-9, "max_boxes": 4096, "progress": False}
    ends = []
    real = BoundPropagation.of
    monkeypatch.setattr(
        BoundPropagation, "of", lambda own, target: ends.append(clock.now) or real(own, target)
    )
    certify(model, box(4), time_limit=2.5, **options)
    assert clock.now <= 3
    shares = [later - before for before, later in zip(ends, [*ends[1:], clock.now], strict=True)]
    assert max(shares) < 1.5 * min(shares)


def test_without_a_limit_nothing_is_left_out():
    assert certify(network([2, 3, 1]), box(2), max_boxes=4, progress=False)[0].remark == ""


def test_without_relaxing_hidden_layers_bounds_are_wider_and_hold():
    model = float64_copy(network([3, 6, 6, 2]))
    tight, wide = (BoundPropagation(model, 1, box(3), relaxes=relaxes) for relaxes in (True, False))
    y = model(spread_points(box(3), 4096))[:, 1]
    ends = [own.plain_value(own.of(1).layers) for own in (tight, wide)]
    assert ends[1][0] < ends[0][0] <= y.min()
    assert y.max() <= ends[0][1] < ends[1][1]
    assert wide.of(0).relaxes is False


# --- memory ---------------------------------------------------------------------------------------


@pytest.mark.slow  # proves bounds
def test_large_models_are_worked_at_in_parts(monkeypatch):
    model, seen = float64_copy(network([60, 12, 2])), []
    own = BoundPropagation(model, 0, box(60))
    monkeypatch.setattr(analysis, "BUDGET", 2**14)
    for module in ("additive_approximation", "feature_effects", "sampling", "branch_and_bound"):
        path = f"kanlens.certificates._{module}.BUDGET"
        monkeypatch.setattr(path, 2**14, raising=False)
    real, real_combine = KANLinear.forward, relaxation.combine
    monkeypatch.setattr(
        KANLinear, "forward", lambda layer, x: seen.append(16 * x.numel()) or real(layer, x)
    )

    def combine(edges, weights):
        seen.append(edges.points.numel() // 16)
        return real_combine(edges, weights)

    monkeypatch.setattr(relaxation, "combine", combine)
    x = spread_points(own.domain, 300)
    value = model(x[:6])[:, 0].repeat(50) + torch.arange(300)
    additive_approximation.additive_part(own, x, value)
    additive_approximation.weighted(own, x)
    zero = torch.zeros(()).double()
    assert additive_changes(own, Interval(zero, zero)) is not None
    assert 1000 < max(seen) <= 2**14


# --- domains --------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("ends", [(0.0, 1e300), (-1e300, 1e300), (-1e7, 0.0)])
def test_a_domain_without_bounds_is_not_cut(ends):
    found = certify(network([3, 4, 1]), [list(ends)] * 3, progress=False).outputs[0]
    assert found.boxes == 1
    assert (found.range.low, found.range.high) == (-float("inf"), float("inf"))
    assert not found.decided
    reasons = [one.remark for one in found.features if one.verdict == "unknown"]
    expected = "a slope without a bound: the domain reaches beyond 1e+06 in scaled units"
    assert set(reasons) <= {expected}


@pytest.mark.slow  # proves bounds
@pytest.mark.parametrize("ends", [(0.0, 1e-300), (1e-300, 2e-300), (3.0, 3.000000000000001)])
def test_a_domain_as_narrow_as_rounding_is_not_cut(ends):
    found = certify(network([3, 4, 1]), [list(ends)] * 3, progress=False).outputs[0]
    assert found.boxes == 1
    assert found.range.high - found.range.low < 1e-9


def test_a_width_that_is_no_number_is_refused():
    text = "^certify: expected a finite width of 'x1', got -1.7e[+]308 to 1.7e[+]308. "
    with pytest.raises(DataError, match=text):
        certify(network([1, 1]), [[-1.7e308, 1.7e308]])


@pytest.mark.slow  # proves bounds
def test_kernels_are_not_compiled_where_time_is_short(monkeypatch):
    asked = set()
    real = KANLinear.forward

    def forward(layer, x):
        asked.add(kernels.ASKED.get())
        return real(layer, x)

    monkeypatch.setattr(KANLinear, "forward", forward)
    for limit, path in ((0.5, "torch"), (60.0, "auto"), (None, kernels.ASKED.get())):
        asked.clear()
        certify(network([2, 1]), box(2), time_limit=limit, max_boxes=4, progress=False)
        assert asked == {path}


def test_a_wide_model_meets_few_points_where_time_is_over():
    over = Deadline.after(0.0)
    for widths, fewest, most in (([300, 40, 1], 8, 2**20 // 12_000), ([2, 1], 256, 256)):
        model, knots = float64_copy(KAN(widths)), torch.zeros(widths[0], 1)
        found = explore(model, 0, box(widths[0]), knots, deadline=over)
        assert fewest <= len(found.x) <= most
