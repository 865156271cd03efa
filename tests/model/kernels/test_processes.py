"""Kernels in other processes: forked, ending, without numba, without a cache."""

import pytest

from tests.model.kernels.processes import python

CASE = """
import os, torch
from kanlens.model.kernels import _pool as pool
from tests.model.kernels.layers import agrees, make, run
pool.SERIAL = 0
team, used = pool.team, []
pool.team = lambda work: (used.append(team(work)[0]), team(work))[1]
case = make(batch=300, n_in=8, n_out=32)
# torch shares out tanh of so many numbers, and a sum of what so fine a grid has for each thread
others = [
    make(batch=1000, n_in=8, base_activation="tanh"),
    make(batch=300, n_in=3, n_out=48, grid_size=200, dtype=torch.float32),
]
"""

FORK = """
import multiprocessing
wanted = [each.wanted() for each in (case, *others)]  # once, in numbers that take long
run(case, "sparse")  # on one thread: loads kernels once
if twin := os.fork():  # before there are threads
    assert os.waitpid(twin, 0)[1] == 0
else:
    pool.openmp = lambda: 0  # Python's threads
    pool._forks.clear()  # as in a process of its own
torch.set_num_threads(2)
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
given = [1, 0]  # threads
children = [context.Process(target=child, args=(queue, each), daemon=True) for each in given]
for each in children:
    each.start()
print([queue.get(timeout=60) for _ in children])
for each in children:
    each.join(20)
    assert each.exitcode == 0, each.exitcode
assert right()
"""


ENDING = """
import atexit, threading, time

def late():
    threading.main_thread().join()
    time.sleep(0.2)
    print("late", agrees(case, "sparse", wanted[0]))

threading.Thread(target=late).start()
atexit.register(lambda: print("at exit", agrees(case, "sparse", wanted[0])))
"""


@pytest.mark.slow  # another interpreter and its children
def test_children_and_the_end_of_a_process_that_used_its_threads():
    lines = python(CASE + FORK + ENDING).splitlines()
    assert lines == ["[True, True]", "late True", "at exit True"] * 2


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
from kanlens.model._kan_linear import KANLinear
layer = KANLinear(3, 2, generator=torch.Generator().manual_seed(0))
x = torch.linspace(-2, 2, 60).view(20, 3)
for path in ("auto", "sparse", "torch"):
    with kernels.use(path):
        assert torch.equal(layer(x), layer.forward_torch(x))
model = kanlens.KAN([3, 4, 1], generator=torch.Generator().manual_seed(0))
y = x[:, :1] * x[:, 1:2]
before = float((model(x) - y).square().mean())
for _ in range(30):  # by hand: an optimizer of torch takes seconds to load
    model.zero_grad()
    (model(x) - y).square().mean().backward()
    with torch.no_grad():
        for weight in model.parameters():
            weight -= 0.1 * weight.grad
print(float((model(x) - y).square().mean()) < before / 2, sys.modules["numba"], flush=True)
"""


@pytest.mark.slow  # another interpreter
def test_without_numba_a_model_trains_on_the_torch_path():
    assert python(WITHOUT).split() == ["True", "None"] * 2
