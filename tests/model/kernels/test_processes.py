"""Kernels in other processes: forked, ending, without numba, without a cache."""

import ast
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import kanlens
from tests.model.kernels.processes import python

CASE = """
import torch
torch.set_num_threads(2)
from kanlens.model.kernels import pool
from tests.model.kernels.layers import agrees, make, run
pool.SERIAL = 0
team, used = pool.team, []
pool.team = lambda work: (used.append(team(work)[0]), team(work))[1]
case = make(batch=300, n_in=8, n_out=32)
# torch shares out tanh of so many numbers, and a sum of what so fine a grid has for each thread
others = [
    make(batch=1000, n_in=8, base_activation="tanh"),
    make(batch=300, n_in=3, n_out=48, grid_size=200),
]
"""

FORK = """
import multiprocessing
wanted = [each.wanted() for each in (case, *others)]  # once, in numbers that take long
assert agrees(case, "sparse", wanted[0]) and max(used) == 2

def right():
    both = zip((case, *others), wanted, strict=True)
    return all(agrees(each, "sparse", of) for each, of in both)

assert right()

def child(queue, threads):
    if threads:
        torch.set_num_threads(threads)
    fresh = not pool._pool.cache_info().currsize
    queue.put(fresh and right())

context = multiprocessing.get_context("fork")
queue = context.Queue()
given = [1, 0] * 2  # threads
children = [context.Process(target=child, args=(queue, each), daemon=True) for each in given]
for each in children:
    each.start()
print([queue.get(timeout=60) for _ in children])
for each in children:
    each.join(20)
    assert each.exitcode == 0, each.exitcode
assert right()
"""


@pytest.mark.slow  # another interpreter and its children
@pytest.mark.parametrize("threads", ["", "pool.openmp = lambda: 0\n"])
def test_children_of_a_process_that_used_its_threads(threads):
    assert ast.literal_eval(python(CASE + threads + FORK)) == [True] * 4


ENDING = """
import atexit, threading, time

def late():
    threading.main_thread().join()
    time.sleep(0.2)
    print("late", agrees(case, "sparse"))

threading.Thread(target=late).start()
atexit.register(lambda: print("at exit", agrees(case, "sparse")))
"""


@pytest.mark.slow  # another interpreter
def test_a_layer_still_runs_while_the_interpreter_ends():
    assert python(CASE + ENDING).splitlines() == ["late True", "at exit True"]


WITHOUT = """
import os, sys, torch
import importlib.util as u
if child := os.fork():  # one is told that there is none, and both that it cannot be imported
    assert os.waitpid(child, 0)[1] == 0
else:
    f = u.find_spec
    u.find_spec = lambda name, *rest: None if name == "numba" else f(name, *rest)
assert "kanlens" not in sys.modules
sys.modules["numba"] = None
import kanlens
from kanlens.model import kernels
from kanlens.model.layers import KANLinear
layer = KANLinear(3, 2, generator=torch.Generator().manual_seed(0))
x = torch.linspace(-2, 2, 60).view(20, 3)
for path in ("auto", "sparse", "torch"):
    with kernels.use(path):
        assert torch.equal(layer(x), layer.forward_torch(x))
model = kanlens.KAN([3, 4, 1], generator=torch.Generator().manual_seed(0))
y = x[:, :1] * x[:, 1:2]
before = float((model(x) - y).square().mean())
optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
for _ in range(30):
    optimizer.zero_grad()
    (model(x) - y).square().mean().backward()
    optimizer.step()
print(float((model(x) - y).square().mean()) < before / 2, sys.modules["numba"], flush=True)
"""


@pytest.mark.slow  # another interpreter
def test_without_numba_a_model_trains_on_the_torch_path():
    assert python(WITHOUT).split() == ["True", "None"] * 2


TIMED = """
import json, time, torch
from kanlens.model import kernels
from kanlens.model.kernels import passes
from kanlens.model.layers import KANLinear
layer, x = KANLinear(64, 64), torch.randn(256, 64)
small = [layer(x[:5])]
for _ in range(9):
    layer(x).sum().backward()
compiled = bool(passes.forward.signatures)  # by small calls
began = time.process_time()
CALL
first = time.process_time() - began
began = time.process_time()
CALL
again, small = time.process_time() - began, [*small, layer(x[:5])]
same, by_torch = torch.equal(*small), torch.equal(small[0], layer.forward_torch(x[:5]))
found = {"first": first, "again": again, "compiled": compiled, "same": same, "torch": by_torch}
print(json.dumps(found))
import kanlens
assert kanlens.__file__.startswith(FOLDER), kanlens.__file__
"""


def copied(folder: Path) -> Path:
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(Path(kanlens.__file__).parent, folder / "kanlens", ignore=ignore)
    return folder


def timed(folder: Path, call: str, **environment: str) -> dict[str, Any]:
    code = TIMED.replace("FOLDER", repr(str(folder))).replace("CALL", call)
    return json.loads(python(code, folder=folder, timeout=180, **environment))


@pytest.mark.slow  # compiles the kernels anew
def test_cold_compilation_takes_seconds_and_the_cache_less(tmp_path):
    folder, cache = copied(tmp_path), tmp_path / "cache"
    call = "with kernels.use('sparse'): layer(x).sum().backward()"
    cold = timed(folder, call, NUMBA_CACHE_DIR=str(cache))
    assert any(cache.rglob("*.nbc"))
    warm = timed(folder, call, NUMBA_CACHE_DIR=str(cache))
    assert cold["first"] < 30  # of a processor; 10 were measured
    assert warm["first"] < cold["first"]
    # small calls compile nothing, and the digits of one do not depend on the calls before it
    assert [cold[key] for key in ("compiled", "same", "torch")] == [False, True, True]
    assert [warm[key] for key in ("compiled", "same", "torch")] == [True, True, False]


@pytest.mark.slow  # compiles the kernels anew
def test_where_no_cache_can_be_written_kernels_still_run(tmp_path):
    folder = copied(tmp_path)
    for place in ("model", "model/kernels"):
        (folder / "kanlens" / place / "__pycache__").write_text("in the way of a folder")
    nowhere = "/dev/null/nowhere"
    homes = dict.fromkeys(("NUMBA_CACHE_DIR", "XDG_CACHE_HOME", "HOME"), nowhere)
    call = "with torch.no_grad(), kernels.use('sparse'): layer(x[:1])"
    found = timed(folder, call, **homes)
    assert found["again"] < found["first"]
    assert not list(tmp_path.rglob("*.nbc"))
