"""Every layer that is timed computes what it is said to compute; one that does not is noticed."""

import importlib.util
from dataclasses import replace

import pytest
import torch

from benchmarks.interleaved_timing import Schedule
from benchmarks.machine import INSTALL
from benchmarks.speed import timing
from benchmarks.speed.cells import parse
from benchmarks.speed.peers import PEERS, chosen
from benchmarks.speed.reference import TOLERANCE, errors
from benchmarks.speed.timing import Settings, time_cell
from benchmarks.speed.workload import draw

OWN_WRITING = ("nn.Linear", "kanlens", "efficient-kan", "FastKAN")
CELLS = ("9x4->3 G5", "9x4->3 G50", "9x4->3 G5 order 2", "9x4->3 G5 order 5")
OWN_CELLS = (  # for which other tests compile kernels too
    *CELLS[:2],
    "9x4->3 G5 order 1 float64",
    "9x4->3 G5 non-uniform",
)
QUICK = Settings(schedule=Schedule(rounds=2, least=2, seconds=0.1, turn=0.001))


@pytest.mark.parametrize("name", OWN_WRITING)
@pytest.mark.parametrize("cell", OWN_CELLS)
def test_layers_compute_their_definition(name, cell):
    cell, peer = parse(cell), PEERS[name]
    if peer.refuses(cell):
        pytest.skip(peer.refuses(cell))
    subject = peer.build(draw(cell, torch.Generator().manual_seed(0)))
    assert max(errors(subject.found(), subject.right())) < TOLERANCE
    torch.testing.assert_close(subject.forward(), subject.found().value)
    assert not subject.forward().requires_grad


@pytest.mark.parametrize("name", ["pykan", "inkan eager"])
@pytest.mark.slow  # imports the peer's package, with what it plots with
@pytest.mark.filterwarnings("ignore")  # of packages that are not ours
def test_packages_compute_the_reference(name, tmp_path, monkeypatch):
    peer = PEERS[name]
    if importlib.util.find_spec(peer.module) is None:
        pytest.skip(f"{peer.module} is not installed")
    monkeypatch.chdir(tmp_path)
    before = torch.get_rng_state()
    for cell in (parse(text) for text in CELLS):
        if not peer.refuses(cell):
            subject = peer.build(draw(cell, torch.Generator().manual_seed(0)))
            assert max(errors(subject.found(), subject.right())) < TOLERANCE
    assert torch.equal(torch.get_rng_state(), before)
    assert list(tmp_path.iterdir()) == []


def test_nn_linear_has_a_weight_for_each_coefficient_and_base_weight():
    cell = parse("9x4->3 G5")
    subject = PEERS["nn.Linear"].build(draw(cell, torch.Generator().manual_seed(0)))
    assert subject.parameters == 4 * 3 * (8 + 1) + 3
    assert subject.x.shape == (9, 36)
    assert subject.x.requires_grad


def rows_of(peers, cell="9x4->3 G5", settings=QUICK):
    rows = time_cell(parse(cell), peers, settings)
    return {(row["peer"], row["pass"]): row for row in rows}


def test_rows_have_times_ratios_errors_and_the_machine():
    rows = rows_of(chosen(["efficient-kan"]))
    assert list(rows) == [
        (peer, task)
        for peer in ("nn.Linear", "kanlens", "efficient-kan")
        for task in ("forward", "forward+backward")
    ]
    for row in rows.values():
        assert row["status"] == "ok"
        assert row["ms_q25"] <= row["ms"] <= row["ms_q75"]
        assert row["value_error"] < TOLERANCE
        assert row["rounds"] == 2
    assert rows["nn.Linear", "forward"]["vs_linear"] == 1
    assert rows["kanlens", "forward+backward"]["vs_kanlens"] == 1


def failing(error):
    def build(problem):
        raise error

    return {"build": build}


@pytest.mark.parametrize(
    ("cell", "changes", "status", "note"),
    [
        ("9x4->3 G5", {"module": "no_such_package"}, "not installed", INSTALL),
        ("9x4->3 G5 non-uniform", {}, "not supported", "evenly spaced centers only"),
        (
            *("9x4->3 G5", {"memory": lambda cell: 3 << 30}),
            *("skipped", "needs about 3.0 GiB, the limit is 1.0 GiB"),
        ),
        ("9x4->3 G5", failing(ValueError("no such\nthing")), "failed", "ValueError: no such"),
        (
            *("9x4->3 G5", failing(RuntimeError("InvalidCxxCompiler: No compiler"))),
            *("failed", "needs a C++ compiler for torch.compile"),
        ),
    ],
)
def test_a_peer_that_cannot_is_a_row_that_says_why(cell, changes, status, note):
    peers = [replace(PEERS["FastKAN"], **changes), PEERS["kanlens"]]
    rows = rows_of(peers, cell, replace(QUICK, memory_limit=float(1 << 30)))
    row = rows["FastKAN", "forward"]
    assert (row["status"], row["note"]) == (status, note)
    assert "ms" not in row
    assert rows["kanlens", "forward"]["status"] == "ok"


@pytest.mark.parametrize("wrong", ["value", "input_gradient", "weight_gradient"])
def test_a_layer_with_wrong_values_is_shown_and_marked(wrong):
    """The comparison has teeth: a fault of one in a thousand in any part is seen."""
    peer = PEERS["efficient-kan"]

    def build(problem):
        subject = peer.build(problem)
        found = subject.found
        subject.found = lambda: replace(found(), **{wrong: 1.001 * getattr(found(), wrong)})
        return subject

    row = rows_of([replace(peer, build=build)])["efficient-kan", "forward"]
    assert row["status"] == "values differ"
    assert row["ms"] > 0
    error = row["value_error" if wrong == "value" else "gradient_error"]
    assert error == pytest.approx(0.001, rel=0.1)
    assert "1.0e-03" in row["note"]


def test_compiled_code_is_forgotten_between_cells(monkeypatch):
    called = []
    monkeypatch.setitem(timing.sys.modules, "torch._dynamo", object())
    monkeypatch.setattr(torch, "_dynamo", type("D", (), {"reset": lambda: called.append(1)}))
    timing.forget_compiled()
    assert called == [1]


def test_peers_are_chosen_by_name_in_one_order():
    assert [p.name for p in chosen(["FastKAN"])] == ["nn.Linear", "kanlens", "FastKAN"]
    assert [p.name for p in chosen()] == list(PEERS)
    assert {"pykan", "flashkan", "inkan", "inkan eager"} <= set(PEERS)
