"""Kernels on several threads: of their own, and called from several at once."""

import threading
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from kanlens.model import kernels
from kanlens.model.kernels import _pool as pool
from tests.model.kernels.layers import TOLERANCES, Case, agrees, make, run
from tests.model.layers_for_tests import MODES

SHAPES = ((1, 5), (3, 17), (4, 3), (13, 40))  # inputs and outputs: few inputs are shared by rows


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.usefixtures("many_threads")
@pytest.mark.slow  # many cases
def test_shared_out_among_threads(shape, dtype):
    for batch in (0, 1, 5, 64, 700):
        case = make(n_in=shape[0], n_out=shape[1], batch=batch, dtype=dtype, mask="fractions")
        assert agrees(case, "sparse")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.usefixtures("many_threads")
def test_nan_on_several_threads_stays_in_its_row(mode):
    case = make(batch=300, extrapolation=mode)
    case.x[150, 1] = torch.nan
    found = run(case, "sparse")
    assert found["y"].isnan().any(1).nonzero().tolist() == [[150]]
    assert found["spline_weight"][:, 1].isnan().all()
    assert not found["spline_weight"][:, [0, 2]].isnan().any()


@pytest.mark.parametrize("shape", SHAPES)
def test_threads_change_nothing_but_rounding(shape, monkeypatch):
    case = make(n_in=shape[0], n_out=shape[1], batch=500, dtype=torch.float32)
    wanted = case.wanted()
    monkeypatch.setattr(pool, "SERIAL", 0)
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 3, 7):
            torch.set_num_threads(threads)
            assert agrees(case, "sparse", wanted), threads
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.usefixtures("many_threads")
def test_the_same_bits_every_time(shape):
    case = make(n_in=shape[0], n_out=shape[1], batch=500, dtype=torch.float32)
    first = run(case, "sparse")
    for _ in range(10):
        again = run(case, "sparse")
        assert all(torch.equal(again[name], first[name]) for name in first)


def together(calls: list[Callable[[], object]]) -> list[object]:
    """Start all calls at the same moment, each on a thread; return what they return."""
    barrier, results = threading.Barrier(len(calls), timeout=60), {}

    def work(number: int) -> None:
        barrier.wait()
        try:
            results[number] = calls[number]()
        except BaseException as error:
            results[number] = error
            raise

    threads = [threading.Thread(target=work, args=(n,), daemon=True) for n in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive()
    return [results[number] for number in range(len(calls))]


def repeated(case: Case, path: str) -> Callable[[], dict[str, Tensor]]:
    def call() -> dict[str, Tensor]:
        for _ in range(4):
            run(case, path)
        return run(case, path)

    return call


@pytest.mark.parametrize("same", [True, False])
@pytest.mark.usefixtures("many_threads")
def test_four_threads_at_once(same):
    cases = [make(seed=0 if same else n, batch=200, n_in=5) for n in range(4)]
    if same:
        cases = 4 * cases[:1]
    expected = [run(case, "sparse") for case in cases]
    found = together([repeated(case, "sparse") for case in cases])
    for one, other in zip(found, expected, strict=True):
        for name in other:
            assert_close(one[name], other[name], rtol=1e-12, atol=1e-12)


@pytest.mark.usefixtures("many_threads")
def test_four_threads_adding_to_the_same_gradients():
    case = make(batch=100)
    expected = run(case, "sparse")

    def backward() -> None:
        with kernels.use("sparse"):
            case.layer(case.x).backward(case.grad)

    together(4 * [backward])
    assert case.layer.bias.grad.isfinite().all()
    for name, parameter in case.layer.named_parameters():
        assert_close(parameter.grad, 4 * expected[name], rtol=1e-11, atol=1e-11)


def test_one_thread_starts_no_other(monkeypatch, one_thread):
    monkeypatch.setattr(pool, "SERIAL", 0)
    monkeypatch.setattr(pool, "_pool", lambda *_: pytest.fail("a pool was asked for"))
    assert agrees(make(batch=300), "sparse")
