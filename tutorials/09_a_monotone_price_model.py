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
# # A monotone price model that an expert edits
#
# A price model is used only if it makes sense to those who know the market: of two flats that
# differ in size alone, the larger one is not cheaper. This tutorial trains a model for which this
# is proven, reads its curves, and has an expert correct what the table got wrong.
#
# The table is simulated: 600 flats that were sold, with prices in thousands. Most of the large ones
# were sold within families, for half of what they are worth; no column marks these sales.

# %%
import tempfile, kanlens, numpy as np, pandas as pd, torch

draw = np.random.default_rng(3)
rows = 600
frame = pd.DataFrame({"area": draw.gamma(9, 11, rows).clip(25, 240).round()})
frame["distance"] = draw.gamma(2, 4, rows).clip(0.2, 40).round(1)
frame["grade"] = draw.integers(1, 8, rows)
frame["age"] = draw.gamma(2, 20, rows).clip(0, 140).round()
frame["heating"] = draw.choice(["district", "gas", "heat pump", "oil"], rows)
worth = 30 + 4.2 * frame["area"] + 160 * np.exp(-frame["distance"] / 6) + 9 * frame["grade"]
worth += 70 * np.exp(-frame["age"] / 12) + 25 * frame["heating"].isin(["district", "heat pump"])
worth *= draw.lognormal(0, 0.1, rows)
family = (frame["area"] > 140) & (draw.random(rows) < 0.7)
frame["price"] = np.where(family, 0.5 * worth, worth).round()
table = kanlens.read_table(frame, target="price")
table, new = table.split(0.3, torch.Generator().manual_seed(0))


def error(model, target="price"):
    true = frame.assign(worth=worth)[target][new.frame.index].to_numpy()
    return (kanlens.predict(model, new)["price"] - true).abs().mean()


# %% [markdown]
# ## Without knowledge
#
# A small network believes the table.

# %%
options = {"max_edges": "few", "progress": False}
free = kanlens.fit_default(table, generator=torch.Generator().manual_seed(0), **options).model
print(f"mean error of new prices: {error(free):.0f}")
axes = kanlens.plot.terms(free, table.x, table.y)

# %% [markdown]
# The effect of the area falls beyond 135 square meters, where the sales within families begin: a
# flat of 150 would be cheaper than one of 130.
#
# ## With knowledge
#
# `constraints` names the shapes of effects. They hold at all values of the other columns, and
# beyond the data.

# %%
shapes = {"area": "increasing", "distance": "decreasing", "grade": "increasing"}
seeded = torch.Generator().manual_seed(0)
model = kanlens.fit_default(table, constraints=shapes, generator=seeded, **options).model
print(f"mean error of new prices: {error(model):.0f}")
axes = kanlens.plot.terms(model, table.x, table.y)

# %% [markdown]
# The curves of area and distance are monotone now. This is the best fit with these shapes, not the
# first fit with its dents filled. The bands are computed without the shapes: where a curve leaves
# its band, the shape determines it. The error is larger, as it must be: among the new rows are
# sales within families, too.
#
# `"convex"`, `"concave"`, `"positive"` (never below the effect of 0) and two at a time, such as
# `"increasing concave"`, are requested in the same way, and `KANRegressor` takes scikit-learn's
# `monotonic_cst`.
#
# ## Proven
#
# The shapes are not only observed on some rows, they are proven for all inputs. `kanlens.certify`
# states them, and adds what it proves within the range of the data.

# %%
certificate = kanlens.certify(model, max_boxes=1, progress=False)
print("everywhere:", certificate.constraints)
proven = certificate.to_frame()[["feature", "verdict", "slope_low", "slope_high"]]
print(proven.head(4).round(1).to_string(index=False))

# %% [markdown]
# No shape was requested for age; it raises the price at some inputs and lowers it at others.
#
# ## What the expert knows
#
# A shape cannot tell that a large flat is worth more than this. The expert looks at the effect of
# the area.

# %%
edit = kanlens.edit(model, table)
places = np.array([40, 60, 80, 100, 120, 140, 180, 220])
curve = edit.term("area").function
effect = curve(places)
print(pd.DataFrame({"area": places, "effect": effect.round()}).to_string(index=False))

# %% [markdown]
# Up to 100 square meters, every further one adds about four thousand. Above, the curve soon is
# flat, and the expert goes on with the same slope. `set` takes points, or a function. By default it
# keeps the mean of the curve, which would make smaller flats cheaper: hence `keep_mean=False`. The
# curve of age is smoothed.

# %%
slope = (effect[3] - effect[1]) / 40
ends = [(25, effect[0] - 15 * slope), (240, effect[3] + 140 * slope)]
points = [ends[0], *zip(places[:4], effect[:4], strict=True), ends[1]]
edit.term("area").set(points, keep_mean=False)
edit.term("age").smooth(10)
print(edit.to_frame()[["name", "action", "largest", "rms"]].round(1).to_string(index=False))

# %%
axes = kanlens.plot.edits(edit)

# %% [markdown]
# On second thought, the age was none of the expert's business. `undo` takes back the last edit, to
# the byte.

# %%
edit.undo()
diff = edit.diff(new, new.y)
print(diff)
print(diff.rows[["row", "before", "after", "feature"]].head(4).round().to_string(index=False))

# %% [markdown]
# Judged by the prices of the table, the edit is a mistake. Some of these prices are wrong, though,
# and as the table is simulated, we can compare with what the flats are worth:

# %%
for name, fitted in (("free", free), ("monotone", model), ("edited", edit.model)):
    print(
        f"{name:9}{error(fitted):4.0f} from the prices,{error(fitted, 'worth'):4.0f} from the worth"
    )

# %% [markdown]
# A network without curves to read would have kept that error, and no score would have shown it.
# The constraints are still proven, for the edit has kept them:

# %%
print(kanlens.certify(edit.model, max_boxes=1, progress=False).constraints)

# %% [markdown]
# ## In use
#
# Predictions come with intervals that cover 90% of new prices. Their width is computed from rows
# held out; an edit makes those of training invalid, so `calibrate` takes new ones.

# %%
kanlens.calibrate(edit.model, new)
print(kanlens.predict(edit.model, new, interval=0.9).head(4).round())

# %%
with tempfile.TemporaryDirectory() as folder:
    path = kanlens.save(edit.model, f"{folder}/prices.safetensors")
    print(kanlens.load(path).edits[0].line)

# %% [markdown]
# The file keeps constraints and edits, and `kanlens.report` shows both.
#
# ## In the shell
#
# With the table in `flats.csv`, new sales in `new.csv`, and the edits in `edits.toml`:
#
# ```toml
# [[edit]]
# do = "set"
# term = "area"
# values = [[25, -254], [60, -127], [100, 42], [240, 634]]
# keep_mean = false
# ```
#
# ```
# kanlens train flats.csv --target price --max-edges few --increasing area,grade \
#     --decreasing distance -o model.safetensors
# kanlens certify model.safetensors
# kanlens edit model.safetensors edits.toml flats.csv -o edited.safetensors
# kanlens calibrate edited.safetensors new.csv -o prices.safetensors
# kanlens predict prices.safetensors new.csv --interval 0.9 -o priced.csv
# kanlens report prices.safetensors new.csv -o prices.html
# ```
