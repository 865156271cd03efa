import numpy as np
import pytest
import sympy
import torch

from kanlens.errors import InterruptedWarning
from kanlens.model.network import KAN
from kanlens.symbolic import multi_start as module
from kanlens.symbolic.multi_start import Recipe, find_formula

x1, x2 = sympy.symbols("x1 x2")


def draw(seed, rows):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(rows, 2, generator=generator, dtype=torch.float64) * 2 - 1, generator


def run(x, y, generator, **options):
    return find_formula(KAN([2, y.shape[1]]).double(), x, y, Recipe(**options), generator)


@pytest.mark.slow  # trains a network or two to the end
@pytest.mark.parametrize("seed", [3])
def test_the_example_of_the_paper(seed):
    x, generator = draw(seed, 250)
    y = torch.exp(torch.sin(torch.pi * x[:, :1]) + x[:, 1:] ** 2)
    found = run(x, y, generator)
    assert found.sympy() == sympy.exp(sympy.sin(sympy.pi * x1) + x2**2)
    fresh, _ = draw(99, 500)
    truth = torch.exp(torch.sin(torch.pi * fresh[:, :1]) + fresh[:, 1:] ** 2)
    assert np.abs(found.predict(fresh) - truth.numpy()).max() < 1e-8
    assert (found.receipt.rows, found.receipt.fitted_rows) == (50, 200)


def test_a_sum_of_functions_takes_one_start(monkeypatch):
    started = []
    trained = module._trained
    monkeypatch.setattr(module, "_trained", lambda *a: started.append(a[-1]) or trained(*a))
    x, generator = draw(0, 100)
    found = run(x, torch.sin(2 * x[:, :1]) + x[:, 1:] ** 2, generator)
    assert found.sympy() == sympy.sin(2 * x1) + x2**2
    assert started == [0]


def test_the_shorter_description_is_kept(monkeypatch):
    """Noise leaves no start exact, so all are made and the best by description is returned."""
    monkeypatch.setattr(module, "_STEPS", (5, 5, 5))
    monkeypatch.setattr(module, "_ROUNDS", 2)
    x, generator = draw(0, 200)
    noise = torch.randn(200, 1, generator=generator, dtype=torch.float64)
    made = []
    read = module._read
    monkeypatch.setattr(module, "_read", lambda *a: made.append(read(*a)) or made[-1])
    functions = ("x", "x^2", "sin")
    y = x[:, :1] ** 2 + 0.1 * noise
    found = run(x, y, generator, starts=2, hidden=2, functions=functions)
    assert len(made) == 2
    assert any(found is one for one in made)
    assert found.sympy().free_symbols == {x1}


def test_few_rows_are_all_fitted_to(monkeypatch):
    monkeypatch.setattr(module, "_ROUNDS", 1)
    x, generator = draw(0, 10)
    found = run(x, 2 * x[:, :1], generator, starts=1)
    assert not found.receipt.held_out
    assert found.receipt.rows == 10


def test_shapes_of_the_starts():
    shapes = [module._widths(3, 2, None, start) for start in range(3)]
    assert shapes == [[3, 2], [3, 7, 2], [3, (4, 2), 2]]
    assert module._widths(9, 1, None, 1) == [9, 11, 1]
    assert module._widths(9, 1, 4, 1) == [9, 4, 1]


@pytest.mark.slow  # trains several networks
def test_a_product_is_found():
    x, generator = draw(1, 200)
    found = run(x, x[:, :1] * torch.sin(3 * x[:, 1:]) + 1, generator, hidden=3)
    assert sympy.simplify(found.sympy() - x1 * sympy.sin(3 * x2) - 1) == 0


def test_an_interrupt_returns_the_best_so_far(monkeypatch):
    monkeypatch.setattr(module, "_ROUNDS", 1)
    trained = module._trained

    def interrupted(*arguments):
        if arguments[-1] == 1:
            raise KeyboardInterrupt
        return trained(*arguments)

    monkeypatch.setattr(module, "_trained", interrupted)
    x, generator = draw(0, 100)
    with pytest.warns(InterruptedWarning, match="^find_formula: expected to come to an end, got"):
        found = run(x, torch.sin(4 * x[:, :1] * x[:, 1:]), generator, functions=("x",))
    assert found.predict(x).shape == (100, 1)
    monkeypatch.setattr(module, "_trained", lambda *arguments: interrupted(1))
    with pytest.raises(KeyboardInterrupt):
        run(x, x[:, :1], generator)


def test_little_may_be_lost_where_y_is_mostly_noise():
    x = torch.rand(800, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    network = KAN([2, 1], generator=torch.Generator().manual_seed(0)).double()
    y = network(x).detach()
    assert module._budget(network, x, y) == 0.5
    noise = torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=y.dtype)
    few, many = (module._budget(network, x[:n], (y + y.std() * noise)[:n]) for n in (40, 800))
    assert 0 < many < 0.1 < few <= 0.5
