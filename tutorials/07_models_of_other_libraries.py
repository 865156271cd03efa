# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A pykan, a FastKAN and a ChebyKAN on one page
#
# Three networks were trained on one table with three libraries, and saved the way their users do:
# pykan's three files, a state dict of FastKAN, and a whole ChebyKAN module in a pickle. None of the
# libraries is needed to look at them here, and no file is executed: pickles are read as data.
#
# The table is simulated, so that the truth is known: an angle, a speed and a load make a force,
# sin(2.5 angle) + speed² + 0.5 angle · load, with a little noise.

# %%
import kanlens, numpy as np, pandas as pd, tempfile

names = ["angle", "speed", "load"]
draw = np.random.default_rng(7)
frame = pd.DataFrame(draw.uniform(-1, 1, (300, 3)), columns=names)
force = np.sin(2.5 * frame["angle"]) + frame["speed"] ** 2 + 0.5 * frame["angle"] * frame["load"]
frame["force"] = force + 0.02 * draw.normal(size=len(frame))

# %% [markdown]
# ## Load
#
# Libraries are recognized by their tensors. `list_kans` lists the networks in a file. With the
# table, models also have names, ranges and background rows.

# %%
files = {"pykan": "pykan", "FastKAN": "fastkan.pt", "ChebyKAN": "chebykan.pt"}
folder = "checkpoints"
for name, file in files.items():
    (found,) = kanlens.list_kans(f"{folder}/{file}")
    print(f"{name}: {found.library}, {found.widths}")

# %%
models = {
    name: kanlens.import_model(
        f"{folder}/{file}", feature_names=names, output_names=["force"], data=frame, target="force"
    ).double()
    for name, file in files.items()
}
expected = pd.read_csv(f"{folder}/expected.csv")  # outputs of the libraries for twenty rows
for name, model in models.items():
    output = model(expected[["x1", "x2", "x3"]].to_numpy())[:, 0].detach().numpy()
    off = np.abs(output - expected[name.lower()]).max()
    print(f"{name}: off by at most {off:.0e}, {model.edges_alive} edges")
    assert off < 1e-5

# %% [markdown]
# ## Look
#
# Every analysis works on all of them. ChebyKAN's edges are polynomials of tanh, shown as what they
# are: functions of one input.

# %%
axes = kanlens.plot.edges(models["ChebyKAN"], 0)

# %% [markdown]
# The angle's functions turn twice, as its sine does, and the speed's are bowls, upright or upside
# down. In the gray parts there are no rows: the polynomial of tanh was not fitted there.
#
# FastKAN normalizes the inputs of each layer, which couples them: the squares in the diagram.
# Attributions are exact in the raw features all the same: here Shapley values, which add up to the
# output.

# %%
axes = kanlens.plot.network(models["FastKAN"])
x = frame[names]
for name, model in models.items():
    found = kanlens.attribute(model, x[:20], background=x[20:40])
    gap = float(found.completeness_gap.abs().max())
    print(f"{name}: largest completeness gap {gap:.0e}")
    assert gap < 1e-9

# %% [markdown]
# Certificates hold for every point of a box, not for rows alone.

# %%
box = dict.fromkeys(names, (-1.0, 1.0))
proven = kanlens.certify(models["ChebyKAN"], box, max_boxes=400, progress=False)
low, high = proven.outputs[0].range.low, proven.outputs[0].range.high
print(f"ChebyKAN: outputs lie between {low:.3f} and {high:.3f}, proven")
assert low < force.min() and force.max() < high + 0.1

# %% [markdown]
# ## One report that compares them
#
# The report of the pykan network compares all three: their scores on the same rows, whether their
# outputs agree, and whether they rank the features alike.

# %%
with tempfile.TemporaryDirectory() as place:
    written = kanlens.report(
        models["pykan"],
        frame,
        f"{place}/three.html",
        others=models,
        title="Force, by three libraries",
        methods=["shapley", "secant"],
        max_rows=100,
        progress=False,
    )
    print(f"{written.path.stat().st_size / 1e6:.1f} MB, opens without a network")
    content = written.content["models"]
lines = [{"model": one["name"], "R2": one["r2"], **one["importance"]} for one in content["models"]]
assert lines[0]["R2"] > 0.99 > lines[1]["R2"]
assert lines[2]["R2"] > 0.99
pd.DataFrame(lines).round(3)

# %% [markdown]
# The pykan and the ChebyKAN found the same functions. The FastKAN has a lower R2: normalizing three
# inputs removes their common size, which the output depends on. All three agree on the order:
# angle, speed, load.
