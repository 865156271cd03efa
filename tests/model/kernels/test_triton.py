"""Kernels in Triton: run by its interpreter, or a GPU where there is one, and compiled for GPUs."""

import ast
import importlib.util
import os
import subprocess
import sys

import pytest
import torch
from torch.testing import assert_close

import kanlens
from kanlens.model import kernels
from kanlens.model.kernels import local_basis, triton_trial
from kanlens.model.kernels.triton_sum import tile
from tests.model.kernels.layers import make
from tests.model.kernels.processes import ROOT, python

HAVE = importlib.util.find_spec("triton") is not None
needs_triton = pytest.mark.skipif(not HAVE, reason="triton is not installed")


@needs_triton
@pytest.mark.slow  # triton's interpreter takes a millisecond for what a GPU does in a microsecond
def test_kernels_give_what_they_should():
    interpreted = {"TRITON_INTERPRET": "0" if torch.cuda.is_available() else "1"}
    cases = "tests/model/kernels/triton_cases.py"
    quiet = ("-q", "-p", "no:cacheprovider", "-o", "addopts=", "-W", "ignore::RuntimeWarning")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", cases, *quiet],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | interpreted,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-8000:]
    assert "skipped" not in done.stdout


# --- compiled ------------------------------------------------------------------------------------


@needs_triton
@pytest.mark.slow  # another interpreter, and a compiler of machine code
@pytest.mark.parametrize("types", ["fp64,fp64", "bf16,fp32"])
def test_kernels_compile_for_an_a100(types, tmp_path):
    code = f"from tests.model.kernels.triton_compiled import compiled; print(compiled({types!r}))"
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    cache = {"TRITON_CACHE_DIR": str(tmp_path), "TRITON_INTERPRET": "0"}
    sizes = ast.literal_eval(python(code, PYTHONPATH=paths, **cache))
    assert set(sizes) == {"forward", "by_x", "by_weights"}
    for machine_code, shared in sizes.values():
        assert machine_code > 1000
        assert shared <= 48 * 1024  # what every GPU has


# --- who runs them -------------------------------------------------------------------------------


@needs_triton
@pytest.mark.skipif(torch.cuda.is_available(), reason="there triton does run")
def test_where_triton_cannot_launch_it_is_known():
    assert not triton_trial.can_run(torch.device("cpu"), torch.float64)


def test_without_triton_cuda_is_left_to_torch(monkeypatch):
    kernels._has_triton.cache_clear()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert not kernels._has_triton(torch.device("cuda", 0), torch.float32)
    kernels._has_triton.cache_clear()


def test_a_grid_is_compared_once_until_it_changes(monkeypatch):
    compared = []
    right = torch.equal
    monkeypatch.setattr(torch, "equal", lambda *both: compared.append(1) or right(*both))
    grid = make().layer.grid
    basis = local_basis.local_basis(grid, 3, extrapolation="linear")
    for change, times in ((None, 1), (None, 1), (lambda: grid.mul_(1.0), 2), (None, 2)):
        if change is not None:
            change()
        assert kernels._is_of(basis, grid)
        assert len(compared) == times
    assert kernels._is_of(basis, grid.clone())
    grid[0, 0] -= 1e-9
    assert not kernels._is_of(basis, grid)
    assert not kernels._is_of(basis, grid.float())
    assert not kernels._is_of(basis, grid.to("meta"))


def test_a_basis_has_the_same_pieces_for_a_gpu():
    basis = local_basis.local_basis(make().layer.grid, 3, extrapolation="zero")
    tables = basis.tables
    assert tables.pieces.shape == (3 * basis.pieces, 3 + 16)
    assert 2**tables.steps >= basis.pieces > 2 ** (tables.steps - 1)
    assert_close(tables.pieces[:, 0].numpy(), basis.starts)
    assert_close(tables.pieces[:, 2].numpy(), basis.scales)
    assert tables.pieces[1, 3:].tolist() == basis.powers[16:32].tolist()


def test_kernels_take_no_more_shared_memory_than_tiles_of_these_sizes_do():
    assert [tile(count, 64) for count in (1, 16, 17, 40, 1000)] == [16, 16, 32, 64, 64]


# --- half precision ------------------------------------------------------------------------------


def test_networks_run_under_autocast():
    model = kanlens.KAN([2, 3, 1], generator=torch.Generator().manual_seed(0))
    x = torch.linspace(-1, 1, 8).reshape(4, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = model(x)
    with kernels.use("torch"):
        assert_close(y.float(), model(x), rtol=0.05, atol=0.05)
