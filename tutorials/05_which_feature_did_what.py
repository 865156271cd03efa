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
# # Exact attributions
#
# An attribution divides a prediction among the features. Most methods estimate: they sample orders
# of features, or sum gradients along a line, and report no error. In a KAN every function is known,
# so that attributions can be computed exactly, and every result has its completeness gap.
#
# The table is Friedman's: $y = 10\sin(\pi x_1 x_2) + 20(x_3 - \frac12)^2 + 10x_4 + 5x_5$ with
# noise, and two more columns that do nothing. Only $x_1$ and $x_2$ interact.

# %%
import kanlens, numpy as np, pandas as pd, torch
from sklearn.datasets import make_friedman1

x, y = make_friedman1(n_samples=600, n_features=7, noise=0.5, random_state=0)
frame = pd.DataFrame(x, columns=[f"x{i}" for i in range(1, 8)])
table = kanlens.read_table(frame.assign(y=y), target="y")
model = kanlens.KAN([7, 5, 1], generator=torch.Generator().manual_seed(0)).double()
fit = kanlens.fit(
    model,
    table,
    steps=100,
    penalty="activation_l1",
    strength=1e-3,
    generator=torch.Generator().manual_seed(0),
    progress=False,
)
rows, background = frame[:100], frame[:50]
print(f"{model.edges_alive} edges; {fit.stopped_because}")

# %% [markdown]
# ## Shapley values, without sampling
#
# The Shapley value of a feature is its mean effect over all orders in which the features can be
# switched from a background row to the sample. The last layer of a KAN adds up functions of its
# nodes, so each node is a separate game of the features with a path to it, and all of its
# coalitions can be evaluated: 100 samples against 50 background rows are 5000 games of $2^7$
# coalitions.

# %%
shapley = kanlens.attribute(model, rows, background=background)
gap = float(shapley.completeness_gap.abs().max())
print(f"{shapley.remark}; largest completeness gap {gap:.0e}")
shapley.to_frame().head(3).round(3)

# %% [markdown]
# `completeness_gap` is output minus reference minus the sum of the values. Here it is a rounding
# error. The result can be drawn as bars over all samples, sample by sample, or for one sample.

# %%
axes = kanlens.plot.attribution(shapley)

# %% [markdown]
# `x4` moves predictions most, and the two columns that do nothing in truth move them least. Lines
# at the ends of the bars are intervals over the samples.

# %%
axes = kanlens.plot.attribution(shapley, kind="beeswarm")

# %% [markdown]
# Every dot is a sample. For `x4` and `x5`, which enter the formula as straight lines, high values
# (see the color) lie right and low ones left. For `x3`, which enters squared around the middle,
# both ends lie right and the middle left.

# %%
axes = kanlens.plot.attribution(shapley, kind="waterfall", row=3)

# %% [markdown]
# The steps lead from the mean output over the background to the prediction of one sample. Each step
# is the attribution of one feature; next to its name is its value in this sample.

# %% [markdown]
# ## Interactions
#
# The Shapley interaction index of two features is the part of their joint effect that is more than
# the sum of their own. The truth is one pair, `x1` and `x2`.

# %%
pairs = kanlens.attribute(model, rows, method="interactions", background=background)
axes = kanlens.plot.attribution(pairs, kind="interactions")
sizes = pairs.interactions.abs().mean(0)
off = sizes - torch.diag(torch.diag(sizes))
first, second = divmod(int(off.argmax()), len(off))
print(f"strongest pair: {pairs.features[first]} and {pairs.features[second]}")

# %% [markdown]
# One square stands out. The diagonal, in gray, is what each feature does alone. The effect of the
# pair is a surface: its contour lines follow the product of the two, as in $\sin(\pi x_1 x_2)$, and
# no sum of two curves looks like that. Gray areas have no rows.

# %%
axes = kanlens.plot.effect(model, "x1", frame, other="x2")

# %% [markdown]
# ## Gradients along a line, without steps
#
# Integrated gradients add up the gradient on the line from a baseline to the sample. On a KAN the
# gradient has kinks where the line crosses a knot, of any layer; quadrature with a fixed number of
# steps ignores them. Between the knots, a few Gauss nodes are exact, and each piece can be checked:
# its values must add up to the change of the output over it.

# %%
one = frame[50:51]
exact = kanlens.attribute(model, rows, method="integrated_gradients", background=one)
found = [("kanlens", round(exact.evaluations), float(exact.relative_gap.max()), 0.0)]
for steps in (20, 50, 200, 1000):
    sampled = kanlens.attribute(
        model, rows, method="captum_integrated_gradients", background=one, n_steps=steps
    )
    error = float((sampled.values - exact.values).abs().max() / exact.values.abs().max())
    found.append((f"captum, {steps} steps", steps, float(sampled.relative_gap.max()), error))
columns = ["who", "gradients a sample", "largest gap", "largest difference"]
pd.DataFrame(found, columns=columns).set_index("who")

# %% [markdown]
# ## Through which nodes
#
# `secant` is DeepLIFT's rule in closed form: every edge has a slope between the sample and the
# baseline, and the products of slopes add up to the change of the output. The contribution through
# every edge is known, and the incoming and outgoing contributions of a node are equal.

# %%
secant = kanlens.attribute(model, rows, method="secant", background=background)
axes = kanlens.plot.attribution(secant, kind="paths", row=3)

# %% [markdown]
# The wider a band, the more of the change flows through that edge; its color is the direction. A
# hidden node passes on what it is given, so bands of both colors that meet in one cancel there.
#
# Captum has DeepLIFT, too. On a KAN it returns the gradient times the distance, without a warning:
# its rule is applied only to activations that it knows by name, and no KAN layer is among them.
# kanlens shows Captum the network edge by edge, and the same code becomes exact.


# %%
import warnings

from captum.attr import DeepLift


class Stock(torch.nn.Module):
    """The model as Captum gets it from a user."""

    def __init__(self):
        super().__init__()
        self.model = model

    def forward(self, x):
        """Return the output, shape (batch, 1)."""
        return self.model(x)


sample, baseline = (torch.tensor(part.to_numpy()) for part in (rows, one))
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # about hooks; there is none about the wrong values
    stock = DeepLift(Stock()).attribute(sample.requires_grad_(), baseline).detach()
change = (model(sample) - model(baseline))[:, 0].detach()
edge_view = kanlens.attribute(model, rows, method="captum_deep_lift", background=one)
for name, values in (("stock", stock), ("edge view", edge_view.values)):
    left_over = (values.sum(1) - change).abs().mean() / change.abs().mean()
    print(f"captum's DeepLift, {name:9s}: leaves {float(left_over):.1e} of the change unexplained")

# %% [markdown]
# ## All of them side by side
#
# `compare` runs methods on the same samples and measures each: against the exact Shapley values for
# the same baseline, by its completeness gap, and by removing features from the model. The last line
# is a random attribution, below which nothing should fall.

# %%
table = kanlens.compare(
    model,
    rows[:30],
    background=background[:20],
    generator=torch.Generator().manual_seed(0),
    progress=False,
)
shown = ["relative_gap", "shapley_error", "shapley_rank", "infidelity", "deletion", "seconds"]
arrows = {name: f"{name} {table.arrows[name]}" for name in shown if name in table.arrows}
table.frame.set_index("method")[shown].rename(columns=arrows)

# %%
table.frame.set_index("method")[["verdict"]]

# %%
axes = kanlens.plot.comparison(table)

# %% [markdown]
# The plot has a band for each feature, in the order of the exact values, and a mark for each
# method: most agree on the size of a feature, but gradients times inputs do not. Next to the names
# are the error of each method, sample by sample, and its completeness gap.
#
# ## Which features matter over all samples
#
# `importance` averages the sizes, with intervals from resampled rows; for a classifier there is one
# ranking for each class, on the scale of the logits. Sobol indices ask another question: which
# share of the output's variance a feature explains alone, and which it has a part in. The
# difference is interaction.

# %%
draws = torch.Generator().manual_seed(0)
kanlens.importance(model, rows, background=background, generator=draws).round(3)

# %%
shares = {
    name: kanlens.attribute(
        model, rows, method=name, background=frame, generator=draws, progress=False
    ).values
    for name in ("sobol_first", "sobol_total")
}
pd.DataFrame({name: values.numpy() for name, values in shares.items()}, frame.columns).round(3)

# %% [markdown]
# ## True to the model, or true to the data
#
# A model of one layer is a sum of functions of single features, and its Shapley values are closed
# forms. They explain the *model*. If a feature that the model does not use is correlated with one
# that it uses, one may also explain the *data*: with the observational (conditional) distribution,
# unknown features depend on the known ones, and the correlated feature has a share of the
# attribution.

# %%
draw = np.random.default_rng(0)
twins = pd.DataFrame({"a": draw.normal(size=200)})
twins["twin of a"] = twins["a"] + 0.1 * draw.normal(size=200)
sums = kanlens.read_table(twins.assign(y=np.sin(twins["a"])), target="y")
additive = kanlens.KAN([2, 1], generator=torch.Generator().manual_seed(0)).double()
kanlens.fit(additive, sums, generator=torch.Generator().manual_seed(0), progress=False)
additive.layers[0].mask[0, 1] = 0  # the model uses only a
laws = {}
for law in ("interventional", "observational"):
    result = kanlens.attribute(additive, twins, method="additive", background=twins, law=law)
    laws[law] = result.values.abs().mean(0).numpy()
pd.DataFrame(laws, twins.columns).round(3)
