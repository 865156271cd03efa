"""Peak memory of analyses in a fresh process: what two sizes say of two million rows."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import kanlens
from kanlens.errors import InvalidValueError

ROWS, SMALL, LARGE = 2_000_000, 25_000, 50_000
LIMIT = 1e9  # bytes
# Freed arrays go back at once: which pieces of them are in the way differs from time to time.
FREED = "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"
SCRIPT = """
import ctypes, sys, torch, kanlens
from kanlens.attribution.metrics import METRICS
from kanlens.model._trace import store_statistics
from kanlens.pruning import _propagation as propagation
from kanlens.reporting import _drawing as drawing
from kanlens.symbolic import _partition as partition

propagation.MAX_CACHED_VALUES = 2**19  # both sizes have more edges, as two million rows do
partition.JUDGES = 20_000  # and so are rows that choose a formula
drawing.plotting.to_svg = lambda figure, title: "<svg/>"  # figures hold the rows that they show
drawing.sized = lambda svg, *_, **__: svg

torch.set_num_threads(1)
draw = torch.Generator().manual_seed(0)
model = kanlens.KAN([10, 3, 1], generator=draw)
straight = kanlens.KAN([10, 1], generator=draw)
sparse = kanlens.KAN([10, 3, 1], generator=draw)  # as wide in memory, with a short formula
with torch.no_grad():
    sparse.layers[0].mask[:, 1:], sparse.layers[1].mask[:, 1:] = 0.0, 0.0
for one in (model, straight, sparse):
    store_statistics(one, torch.rand(500, 10, generator=draw))
metrics = [name for name, one in METRICS.items() if one.needs <= {"exact"}]
metrics += ["infidelity", "deletion"]
analyses = {
    "trace": lambda x: kanlens.trace(model, x),
    "statistics": lambda x: store_statistics(model, x),
    "suggest": lambda x: kanlens.suggest(model, x, functions=["x"], progress=False),
    "gradient": lambda x: kanlens.attribute(model, x, method="gradient"),
    "prune": lambda x: kanlens.prune(model, x, threshold=0.2, progress=False),
    "edge scores": lambda x: kanlens.edge_scores(model, x),
    "symbolize": lambda x: kanlens.symbolize(sparse, x, functions=["x"], progress=False),
    "shapley": lambda x: kanlens.attribute(straight, x),
    "importance": lambda x: kanlens.importance(straight, x),
    "compare": lambda x: kanlens.compare(
        straight, x, methods=["gradient_x_input"], metrics=metrics, progress=False
    ),
    "sampled": lambda x: kanlens.attribute(
        model, x, method="captum_gradient_shap", n_samples=5, progress=False
    ),
    "report": lambda x: kanlens.report(
        sparse, x, path=sys.argv[2], max_features=1, progress=False
    ),
    "all edges": lambda x: model.layers[0].edge_values(x).square(),
}

def high():
    lines = open("/proc/self/status").read().split("\\n")
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith(sys.argv[1])))

def taken(run, rows):
    x = torch.rand(rows, 10, generator=draw)
    ctypes.CDLL(None).malloc_trim(0)  # what another analysis freed would hide what is taken
    open("/proc/self/clear_refs", "w").write("5")
    before = high()
    kept = run(x)
    return high() - before

small, large = map(int, sys.argv[3:])
for name, run in analyses.items():
    run(torch.rand(500, 10, generator=draw))
    found = [taken(run, small), taken(run, large)]
    if found[1] - found[0] > 1e7:  # an allocator's fragments are not there again, arrays are
        found[1] = min(found[1], taken(run, large))
    print(name, *found, sep=",")
"""


@pytest.fixture(scope="module")
def peaks(tmp_path_factory):
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("the system does not say how much memory a process took at most")
    page = str(tmp_path_factory.mktemp("report") / "page.html")
    call = [sys.executable, "-c", SCRIPT, "VmHWM", page, str(SMALL), str(LARGE)]
    kept = {**os.environ, **dict.fromkeys(FREED, "1048576")}
    lines = subprocess.run(call, capture_output=True, text=True, check=True, env=kept).stdout
    table = [line.split(",") for line in lines.strip().split("\n")]
    return {name: [int(size) for size in sizes] for name, *sizes in table}


def extrapolated(sizes):
    """Bytes at two million rows, by the line through two sizes."""
    small, large = sizes
    slope = max(0, large - small) / (LARGE - SMALL)
    return large + slope * (ROWS - LARGE)


@pytest.mark.slow  # every analysis twice, in another interpreter
def test_two_million_rows_stay_below_a_gigabyte(peaks):
    found = {name: extrapolated(sizes) for name, sizes in peaks.items()}
    assert found.pop("all edges") > LIMIT  # what holds the values of all edges is caught
    assert all(size < LIMIT for size in found.values()), found


def test_values_of_nodes_that_do_not_fit_are_refused():
    x = torch.rand(700_000, 10)
    text = r"^prune: expected work .* of max_memory, got values of nodes on 700,000 rows .*\. Pass"
    with pytest.raises(InvalidValueError, match=text):
        kanlens.prune(kanlens.KAN([10, 5, 1]), x, threshold=0.3, max_memory="64MiB")
