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
# # Certificates of a model, and attributions where the truth is known
#
# An attribution is about the rows that were passed. Some questions are about *all* inputs: can
# raising this feature ever lower the output? How high can the prediction get? How far is the model
# from a sum of functions of single features? `certify` answers them with proof, for every point of
# a box.
#
# The table is simulated, so that the truth is known: a price that rises with size, falls with age,
# is highest at a middle distance, and does not depend on the number of the lot.

# %%
import kanlens, numpy as np, pandas as pd, torch

draw = np.random.default_rng(0)
rows = 800
frame = pd.DataFrame(
    {
        "size": draw.uniform(40, 200, rows),
        "age": draw.uniform(0, 60, rows),
        "distance": draw.uniform(0, 30, rows),
        "lot": draw.uniform(0, 1000, rows),
    }
)
price = 2.0 * frame["size"] * np.exp(-frame["age"] / 80) - 0.15 * (frame["distance"] - 12) ** 2
table = kanlens.read_table(frame.assign(price=price + draw.normal(size=rows)), target="price")
model = kanlens.KAN([4, 4, 1], generator=torch.Generator().manual_seed(0)).double()
draws = torch.Generator().manual_seed(0)
kanlens.fit(model, table, steps=120, generator=draws, progress=False)
cut = kanlens.prune(model, table.x, table.y, budget=0.2, progress=False)
print(f"{model.edges_alive} edges, {cut.model.edges_alive} after pruning")

# %% [markdown]
# ## Proof for a box
#
# Every edge is bounded by the control points of its pieces, deeper layers by linear lower and upper
# bounds of their functions, and the box is divided until a statement is decided or there are
# `max_boxes` boxes. Next to each bound is the value that was *seen* at evaluated points: no correct
# bound is tighter, so that the two show how tight the bound is.

# %%
domain = {"size": (60, 180), "age": (5, 50), "distance": (2, 28), "lot": (0, 1000)}
proven = kanlens.certify(model, domain, max_boxes=4096, progress=False)
print(proven)

# %%
axes = kanlens.plot.certificate(proven)

# %% [markdown]
# The bars show how much each feature alone can change the price at most, up to the right and down
# to the left: gray is the proven bound, blue the largest change that was seen, and the true maximum
# lies between them. Triangles mark features proven never to lower, or never to raise, the price.
#
# "never lowers it" is a theorem about this model inside this box. "raises it by ... and lowers it
# by ... (seen)" comes with two pairs of points that show it:

# %%
worst = proven.outputs[0].features[2]
print(worst.name, worst.verdict)
pd.DataFrame(
    np.vstack([worst.rise.x, worst.fall.x]),
    columns=proven.features,
    index=["rises from", "to", "falls from", "to "],
).assign(price=[*worst.rise.value.tolist(), *worst.fall.value.tolist()]).round(2)

# %% [markdown]
# The number of the lot has no true effect; the network has learned a little noise from it. The
# certificate bounds its effect. After pruning, where no edge is left, it is exactly zero.

# %%
small = cut.model
kept = {name: domain[name] for name in small.feature_names}
after = kanlens.certify(small, kept, max_boxes=4096, progress=False)
effects = proven.to_frame().set_index("feature")[["verdict", "effect", "effect_seen"]]
pruned = after.to_frame().set_index("feature")[["verdict", "effect", "effect_seen"]]
effects.join(pruned.add_suffix(" after pruning")).round(3)

# %% [markdown]
# ## Is it a sum of functions of single features?
#
# `additivity` gives an additive function, a proven bound on its distance from the model, and a
# lower bound on the distance of all additive functions. Near zero, one curve per feature would
# explain the model. Here it does not: size and age interact.

# %%
near = proven.outputs[0].additivity
low, high = proven.domain.T
x = torch.tensor(frame[list(domain)].to_numpy()[:200]).clamp(low, high)
with torch.no_grad():
    off = (model(x)[:, 0] - near.function(x)).abs()
print(f"proven within {near.distance.bound:.3g}; largest over 200 rows {float(off.max()):.3g}")
print(f"no sum of single functions is nearer than {near.least:.3g} everywhere")

# %% [markdown]
# ## Where the truth is known
#
# A KAN can be written down from a formula, without training; then the model *is* the truth, and
# methods can be scored against closed forms. `python -m benchmarks attribution` does this for
# networks with products, kinks, cancelling and duplicated features and features without effect, and
# for networks trained on tables. The picture is drawn from the file of the last full run.
#
# ![Every method on every planted network](../figures/attribution-planted.png)
