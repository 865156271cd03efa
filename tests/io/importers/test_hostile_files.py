"""Files made to harm: each is refused in one clear line, runs nothing and takes little memory."""

import io
import os
import pickle
import re
import struct
import tracemalloc
import zipfile
from collections import defaultdict
from itertools import cycle
from pathlib import Path

import pytest
import torch

from kanlens.errors import KanlensError
from kanlens.io.importers import _containers as containers
from kanlens.io.importers import import_model
from tests.io.importers import doubles
from tests.io.importers.test_efficient_kan import network_state
from tests.io.importers.test_libraries import CASES, WIDE

MEMORY = 2**25  # bytes of Python objects at once
STOP = b"."


def zipped(content, *, storages=(), compression=zipfile.ZIP_STORED, others=()):
    """Return a zip file as torch writes it, around a pickle."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        if content is not None:
            archive.writestr("a/data.pkl", content)
        for key, data in storages:
            archive.writestr(f"a/data/{key}", data)
        for name, data in others:
            archive.writestr(name, data)
    return file.getvalue()


def text(word):
    data = word.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def call(module, name, argument="CANARY"):
    """A pickle that calls module.name(argument)."""
    return f"\x80\x02c{module}\n{name}\n".encode("latin-1") + text(argument) + b"\x85R"


def tensor(size, stride, offset=0, count=4, key="0", before=b""):
    """A pickle of one tensor on a storage of `count` numbers."""
    numbers = b"".join(b"J" + struct.pack("<i", n) for n in size)
    steps = b"".join(b"J" + struct.pack("<i", n) for n in stride)
    storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text(key) + text("cpu")
    storage += b"J" + struct.pack("<i", count) + b"tQ" + before
    rebuilt = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"J" + struct.pack("<i", offset)
    rebuilt += b"(" + numbers + b"t(" + steps + b"t\x89}tR"
    return b"\x80\x02}" + text("weight") + rebuilt + b"s."


def on_storage(*args, **options):
    return zipped(tensor(*args, **options), storages=[("0", b"\0" * 16)])


def modules_without_end():
    """Each module has the next twice: two to the power of sixty in all."""
    part = b"cmine\nNet\n)\x81}q\x00" + text("_modules") + b"}sb"
    found = b"\x80\x02" + part + b"q\x01"
    for level in range(60):
        below = b"h" + bytes([level + 1])
        found += (
            b"cmine\nNet\n)\x81}" + text("_modules") + b"}(" + text("a") + below + text("b") + below
        )
        found += b"usb" + b"q" + bytes([level + 2])
    return zipped(found + STOP)


def repeated():
    """One storage under a thousand names."""
    state = {f"{i}.weight": torch.ones(500) for i in range(2)}
    state |= {f"w{i}": state["0.weight"] for i in range(1000)}
    return saved(state)


def saved(state, **options):
    file = io.BytesIO()
    torch.save(state, file, **options)
    return file.getvalue()


def spoiled(change):
    state, _ = network_state()
    change(state)
    return saved(state)


class Calls:
    def __init__(self, function, *args):
        self.reduced = function, args

    def __reduce__(self):
        return self.reduced


LIES = "beyond its storage"
DAMAGED = "cannot be read ("
CUT = "is truncated or damaged ("
FILES = {
    "call of os": (
        zipped(call("posix", "mkdir") + STOP),
        "a pickled module that calls posix.mkdir",
    ),
    "call of eval": (zipped(call("builtins", "eval") + STOP), "calls builtins.eval"),
    "call of a method": (zipped(call("builtins", "getattr") + STOP), "calls builtins.getattr"),
    "call by a stack": (
        zipped(b"\x80\x04" + text("os") + text("mkdir") + b"\x93" + text("CANARY") + b"\x85R."),
        "calls os.mkdir",
    ),
    "call of one's own": (zipped(call("mine", "make") + STOP), "got no tensors"),
    "names": (
        zipped(b"\x80\x02" + b"".join(b"cm\n%d\n0" % i for i in range(10_001)) + b"N."),
        "too many names",
    ),
    "call of torch.load": (zipped(call("torch", "load") + STOP), "got no tensors"),
    "call of what was called": (zipped(call("torch.hub", "load") + text("x") + b"\x85R."), DAMAGED),
    "call in a partial": (
        zipped(b"\x80\x02cfunctools\npartial\ncposix\nmkdir\n" + text("CANARY") + b"\x86R)R."),
        DAMAGED,
    ),
    "inst": (zipped(b"(S'CANARY'\niposix\nmkdir\n."), "opcode"),
    "obj": (zipped(b"\x80\x02(cposix\nmkdir\n" + text("CANARY") + b"o."), "opcode OBJ"),
    "new object": (
        zipped(b"\x80\x02cposix\nmkdir\n" + text("CANARY") + b"\x85\x81."),
        "got no tensors",
    ),
    "new object with options": (
        zipped(b"\x80\x04cposix\nmkdir\n)}" + text("path") + text("CANARY") + b"s\x92."),
        "got no tensors",
    ),
    "build": (
        zipped(b"\x80\x02cmine\nNet\n)\x81}" + text("__class__") + b"cposix\nmkdir\nsb."),
        "got no tensors",
    ),
    "build of a dict": (zipped(b"\x80\x02}}" + text("__class__") + b"cposix\nmkdir\nsb."), DAMAGED),
    "build of a builder": (
        zipped(
            b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nN}" + text("__defaults__") + b")s\x86b0N."
        ),
        "got a NoneType",
    ),
    "build of a storage": (
        on_storage((4,), (1,), before=b"N}" + text("requires_grad") + b"N" + b"s\x86b"),
        "got tensors 'weight'",
    ),
    "build of a mapping": (
        zipped(b"\x80\x02ccollections\nOrderedDict\n)R}" + text("items") + b"cmine\nNet\nsb."),
        "got no tensors",
    ),
    "path of an object": (
        zipped(b"\x80\x02cmine\nNet\n)\x81}" + text("path") + b"K\x01sb."),
        "got no tensors",
    ),
    "extension": (zipped(b"\x80\x02\x82\x01."), "opcode EXT1"),
    "persistent number": (zipped(b"\x80\x02K\x01Q."), DAMAGED),
    "persistent module": (
        zipped(b"\x80\x02(" + text("module") + b"cposix\nmkdir\n" + text("0") * 3 + b"tQ."),
        "a storage of another kind",
    ),
    "large memory": (zipped(b"\x80\x02]r\xff\xff\xff\x7f."), "object 2147483647 of 2"),
    "long text": (zipped(b"\x80\x02X\xff\xff\xff\x7fabc."), DAMAGED),
    "long bytes": (zipped(b"\x80\x04\x8e" + b"\xff" * 7 + b"\x7f."), DAMAGED),
    "long number": (zipped(b"\x80\x02\x8b\xff\xff\xff\x7f1."), DAMAGED),
    "buffers": (zipped(b"\x80\x05\x97."), "opcode NEXT_BUFFER"),
    "frame": (zipped(b"\x80\x04\x95" + b"\xff" * 7 + b"\x7f]."), DAMAGED),
    "no stop": (zipped(b"\x80\x02}"), CUT),
    "empty stack": (zipped(b"\x80\x02."), DAMAGED),
    "no pickle": (zipped(b"hello"), DAMAGED),
    "deep": (zipped(b"\x80\x02" + b"}" + (text("a") + b"}") * 5000 + b"s" * 5000 + STOP), "got no"),
    "tensor too large": (on_storage((5,), (1,)), LIES),
    "tensor too far": (on_storage((2,), (1,), 3), LIES),
    "wide steps": (on_storage((2, 2), (3, 1)), LIES),
    "negative size": (on_storage((-1,), (1,)), LIES),
    "negative offset": (on_storage((2,), (1,), -3), LIES),
    "repeated numbers": (on_storage((2**30, 2**30), (0, 0)), LIES),
    "no steps": (on_storage((2, 2), (1,)), LIES),
    "storage too large": (on_storage((4,), (1,), 0, 2**30), "storage '0' has 16 bytes"),
    "storage elsewhere": (on_storage((4,), (1,), key="../../etc/passwd"), DAMAGED),
    "modules without end": (modules_without_end(), "at most 10000 modules, nested at most 64 deep"),
    "one storage a thousand times": (repeated(), "repeating numbers"),
    "zip bomb": (
        zipped(b"\x80\x02" + b"]" * 2**24, compression=zipfile.ZIP_DEFLATED),
        "a compressed zip file",
    ),
    "storage bomb": (
        zipped(b"\x80\x02}.", storages=[("0", b"\0" * 2**24)], compression=zipfile.ZIP_DEFLATED),
        "a compressed zip file",
    ),
    "two pickles": (
        zipped(b"\x80\x02}.", others=[("b/data.pkl", b"\x80\x02}.")]),
        "not a file of torch",
    ),
    "other bytes first": (zipped(b"\x80\x02}.", others=[("a/byteorder", b"big")]), "byte order"),
    "script": (
        zipped(b"\x80\x02}.", others=[("a/constants.pkl", b"")]),
        "a TorchScript program. Pass torch.jit.load(path), or its state_dict().",
    ),
    "zip of nothing": (zipped(None), "neither"),
    "zip of text": (zipped(None, others=[("readme", b"hello")]), "not a file of torch.save"),
    "half a zip": (
        saved(network_state()[0])[:900],
        f"{CUT}File is not a zip file). Copy it again, or save the model again.",
    ),
    "before zip files": (
        saved(Calls(os.mkdir, "CANARY"), _use_new_zipfile_serialization=False),
        "is a pickled module without a zip file",
    ),
    "plain pickle": (pickle.dumps(Calls(os.mkdir, "CANARY"), 2), "is a pickle that torch.save"),
    "empty": (b"", "got 'model.pt', neither. It may be truncated."),
    "zeros": (b"\x00" * 100, "neither"),
    "a table": (b"a,b\n1,2\n3,4\n", "neither"),
    "long header": (b"\xff" * 7 + b"\x7f{}", "a .safetensors file"),
    "nan": (
        spoiled(lambda state: state["layers.0.spline_weight"].fill_(float("nan"))),
        "NaN or infinite",
    ),
    "shapes": (spoiled(lambda s: s.update({"layers.1.grid": torch.ones(4, 2, 2)})), "of shape"),
    "no columns": (
        spoiled(lambda s: s.update({"layers.0.spline_weight": torch.ones(4, 0, 8)})),
        "of shape",
    ),
    "other names": (saved({"weights": torch.ones(3)}), "got tensors 'weights'"),
    "a list": (saved([torch.ones(3)]), "got a list"),
    "lines in a name": (saved({"a\nb": {"c\nd": torch.ones(1)}}), "got tensors 'c"),
}


def test_what_rebuilds_tensors_stays_as_it_is():
    before = containers._rebuilt.__defaults__, containers._rebuilt.__dict__
    assert before == (None, {})


def refused(path, part, folder):
    """Import in the folder of the canary, where nothing may appear."""
    before = Path.cwd()
    tracemalloc.start()
    try:
        os.chdir(folder)
        with pytest.raises(KanlensError) as raised:
            import_model(path)
        assert tracemalloc.get_traced_memory()[1] < MEMORY
    finally:
        tracemalloc.stop()
        os.chdir(before)
    assert str(raised.value).startswith("import_model: ")
    assert part in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not list(folder.glob("**/CANARY"))


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_a_hostile_file_is_refused(tmp_path, name):
    content, part = FILES[name]
    (tmp_path / "model.pt").write_bytes(content)
    refused(tmp_path / "model.pt", part, tmp_path)


CONFIGS = {
    "call": ("base_fun_name: !!python/object/apply:os.mkdir [CANARY]", "could not determine"),
    "call of eval": ("grid: !!python/object/apply:builtins.eval ['1+1']", "could not determine"),
    "new object": ("grid: !!python/object/new:os.mkdir [CANARY]", "could not determine"),
    "module": ("grid: !!python/module:os", "could not determine"),
    "number of nothing": (
        "grid: !!python/object/apply:numpy.core.multiarray.scalar [1]",
        "the configuration of pykan",
    ),
    "merges": (
        "a0: &a0 {k: 1}\n"
        + "".join(f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}\n" for i in range(1, 12)),
        "could not determine a constructor",
    ),
    "nested lists": ("a: " + "[" * 5000, "it is too deep"),
    "nested items": ("- " * 5000, "it is too deep"),
    "nested keys": ("".join(f"{' ' * i}a:\n" for i in range(900)), "it is too deep"),
    "long": ("a: " + "b" * 2**23, "it is larger than"),
    "no text": (b"\xff\xfe\x00\x01", "the configuration of pykan"),
    "open list": ("a: [1, 2", "the configuration of pykan"),
    "no names": ("width: 3", "expected names of the 3 symbolic edges"),
    "a list": ("- 1\n- 2", "expected names of the 3 symbolic edges"),
    "laughs": (
        "a0: &a0 [x]\n"
        + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))
        + "symbolic.funs_name.0: *a11",
        "got another shape",
    ),
    "functions of another shape": ("symbolic.funs_name.0: [[x, x]]", "got another shape"),
    "functions that are unknown": (
        f"symbolic.funs_name.0: {[['os.mkdir'] * 3] * 6}",
        "got 'os.mkdir'",
    ),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_hostile_configuration_is_refused(tmp_path, name):
    config, part = CONFIGS[name]
    names = {(0, 0, 1): "cos", (0, 5, 2): "x", (0, 2, 0): "x"}
    torch.save(doubles.pykan(names=names).state, tmp_path / "model_state")
    content = config if isinstance(config, bytes) else config.encode()
    (tmp_path / "model_config.yml").write_bytes(content)
    refused(tmp_path / "model", part, tmp_path)


@pytest.mark.parametrize(
    "arity", [5, [[], [2, -2, 5], []], [[], [10**30], []], [[], ["2", "3"], []]]
)
def test_hostile_arities_are_refused(tmp_path, arity):
    state = doubles.pykan().state
    torch.save(state, tmp_path / "model_state")
    (tmp_path / "model_config.yml").write_text(f"mult_arity: {arity!r}")
    refused(tmp_path / "model", "that combine", tmp_path)


def test_the_canary_sings(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.pt").write_bytes(saved(Calls(os.mkdir, "CANARY")))
    torch.load(tmp_path / "model.pt", weights_only=False)
    with pytest.raises(AssertionError):
        refused(tmp_path / "none.pt", "no file", tmp_path)


SPOILED = {
    "none": lambda t: t[:0],
    "flat": lambda t: t.flatten(),
    "shorter": lambda t: t[..., :-1],
    "longer": lambda t: torch.cat([t, t]),
    "zero": torch.zeros_like,
    "whole numbers": lambda t: (100 * t).long(),
    "complex": lambda t: t.to(torch.complex64),
    "nothing": lambda t: None,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in CASES if name not in WIDE])
def test_tensors_of_any_other_shape_are_refused_or_read(name):
    """Those of one role, in several layers, are spoiled in turn."""
    double, settings, *_ = CASES[name]()
    roles = defaultdict(list)
    for key, tensor in double.state.items():
        if tensor.dim():
            roles[re.sub(r"\d+", "", key)].append(key)
    for keys in roles.values():
        for change, key in zip(SPOILED.values(), cycle(keys), strict=False):
            changed = {**double.state, key: change(double.state[key])}
            state = {name: value for name, value in changed.items() if value is not None}
            try:
                import_model(state, **settings)
            except KanlensError as error:
                assert "\n" not in str(error)
