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
# # From a table to a formula, and how far to trust it
#
# There are three ways from a table to a formula. `discover` searches for one. `symbolize` replaces
# the edges of a pruned network by functions, and so shows *where* the network is simple and where
# it is not. `KANSymbolicRegressor` trains, prunes and symbolizes in one call, as a scikit-learn
# estimator. All three return the same kind of result: a Pareto front of formulas, the chosen
# formula, and a receipt.
#
# The table is a simulated measurement, so that the truth is known. A capacitor is charged from a
# source of $U$ volts with the time constant $\tau$. Its voltage $v = U(1 - e^{-t/\tau})$ is read at
# time $t$ with an error of 0.5 %. The table also has the temperature $T$, on which nothing depends.

# %%
import kanlens, numpy as np, pandas as pd, sympy, torch


def measured(rows, noise, seed):
    """Return a table of simulated readings."""
    draw = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "U": draw.uniform(1, 5, rows),
            "t": draw.uniform(0, 4, rows),
            "tau": draw.uniform(0.5, 2, rows),
            "T": draw.uniform(280, 300, rows),
        }
    )
    v = frame["U"] * (1 - np.exp(-frame["t"] / frame["tau"]))
    frame["v"] = v + noise * np.sqrt(np.mean(v**2)) * draw.normal(size=rows)
    return frame


frame = measured(rows=600, noise=0.005, seed=0)
names = ["U", "t", "tau", "T"]
frame.head(3)

# %% [markdown]
# ## Search
#
# `discover` fits formulas of single columns and of combinations of columns; all constants are found
# by least squares. If none fits, it trains small networks and derives formulas from them. It
# returns a *Pareto front*: the best formula of every length. The chosen row is marked `>>>>`. The
# search ends when the residuals of a formula are noise.

# %%
found = kanlens.discover(frame[names], frame["v"], progress=False)
print(found)
print(found.stopped_because)

# %%
axes = kanlens.plot.formula(found)

# %% [markdown]
# The plot shows the front. The loss falls with every added part, until it reaches the noise of the
# readings at the chosen formula. Longer formulas hardly lower it.

# %%
U, t, tau = sympy.symbols("U t tau")
assert sympy.simplify(found.sympy() - U * (1 - sympy.exp(-t / tau))) == 0
print(found.sympy())
print(found.latex())

# %% [markdown]
# ## The receipt
#
# The receipt reports the errors of the formula. They are measured on the rows that were used to
# choose the formula; with more than 2200 rows, other rows would be used. The receipt also lists the
# constants that were replaced by exact ones, and by how much the error changed. Last, it warns if
# the formula does not stay finite on the ranges of the data and just beyond them.

# %%
print(found.receipt.summary())

# %% [markdown]
# The formula can be tested on new rows:

# %%
later = measured(rows=2000, noise=0.0, seed=1)
error = found.predict(later[names])[:, 0] - later["v"]
print(f"largest error on 2000 new readings {np.abs(error).max():.1e} V")
assert np.abs(error).max() < 1e-9

# %% [markdown]
# ## Find a formula of a network
#
# The other way starts from a network, for example one that is already trained. This one is trained
# on the same table, with a penalty on its weights.

# %%
table = kanlens.read_table(frame, target="v")
generator = torch.Generator().manual_seed(1)
quiet = {"progress": False, "generator": generator}
model = kanlens.KAN([4, 4, 1], generator=generator).double()
fit = kanlens.fit(model, table, steps=60, penalty="weight_l1", strength=0.001, **quiet)
print(f"held-out R2 {fit.metric:.5f}, {model.edges_alive} edges")

# %% [markdown]
# ### Which edges matter
#
# `edge_scores` returns five scores of every edge. `damage` is the rise of the loss when the edge is
# replaced by its mean, in variances of the target; the other scores estimate it. Edges can
# compensate for each other, so the scores do not add up. Pruning therefore computes them again
# after every removal.

# %%
kanlens.edge_scores(model, table.x, table.y).head(6).round(4)

# %% [markdown]
# ### Prune within a budget
#
# `budget=0.05` returns the smallest network found whose loss is at most 5 % higher. Every removal
# can be undone: `curve` lists the loss after each removal, and `at` returns the network after any
# of them.

# %%
cut = kanlens.prune(model, table.x, table.y, score="damage", budget=0.05, progress=False)
print(f"{cut.edges_before} edges before, {cut.edges_after} after;", cut.model.feature_names)
assert "T" not in cut.model.feature_names
assert cut.at(0).edges_alive == cut.edges_before
assert cut.loss_after <= 1.05 * cut.loss_before
cut.curve.tail(4)

# %%
axes = kanlens.plot.pruning(cut)

# %% [markdown]
# The loss hardly changes while edges without effect are removed. Then it rises: the last edge
# raises it more than all edges before it together. The ring is the smallest network within the
# budget.

# %%
axes = kanlens.plot.network(cut.model)

# %% [markdown]
# The temperature no longer has an edge. The other columns pass through several hidden nodes.
#
# ### Candidates for every edge
#
# `suggest` fits every function of the library to every edge. The score compares the candidates in
# bits, and with the accuracy of the edge's own spline. Small differences of the score mean nothing.

# %%
columns = list(cut.model.feature_names)
candidates = kanlens.suggest(cut.model, frame[columns])
candidates.head(6)

# %% [markdown]
# ### The formula
#
# `symbolize` replaces edges by functions as long as the whole network stays accurate. It refits all
# constants together, and keeps the spline of an edge that no function fits. Here the network has to
# build a product of $U$ and $e^{-t/\tau}$ from sums, and a quotient inside the exponential. The
# formula is therefore close to the data, but long, and not the true one. Compare it with the
# formula above.

# %%
read = kanlens.symbolize(cut.model, frame[columns], frame["v"], progress=False)
print(read)

# %%
print(read.receipt.summary())

# %%
axes = kanlens.plot.predicted(frame["v"], read.predict(frame[columns])[:, 0], name="v", unit="V")

# %% [markdown]
# Each dot is a reading and its prediction by the long formula. On the diagonal both are equal.

# %% [markdown]
# The receipt shows this. The target is not a function of a sum of functions of single columns, and
# refitting cannot change that. Use product nodes or `discover` for such targets. Splines that are
# left appear as named functions of one variable, and `predict` evaluates them too. The changes by
# the single edges add up to the difference from the model:

# %%
budget = pd.DataFrame(read.receipt.budget)
total = budget["mean"].str[0].sum()
assert abs(total - read.receipt.mean_difference[0]) < 1e-12
budget.sort_values("mean_absolute", ascending=False).head()

# %% [markdown]
# ## A table without a truth
#
# Most tables have no formula. The table here has 442 diabetes patients. How well can a short
# formula predict the progress of the disease a year later? A linear model of all ten columns
# explains 46 % on the held-out rows. A formula of two columns comes close, and its receipt shows
# how accurate it is.

# %%
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LinearRegression

patients = load_diabetes(as_frame=True)
x, y = patients.data, patients.target
train, test = np.arange(442) % 4 != 0, np.arange(442) % 4 == 0
regressor = kanlens.KANSymbolicRegressor(starts=2, random_state=0).fit(x[train], y[train])
print(regressor.result_)
print(f"R2 on the other quarter {regressor.score(x[test], y[test]):.2f}")
print(regressor.result_.receipt.summary())

# %%
linear = LinearRegression().fit(x[train], y[train]).score(x[test], y[test])
patients_found = kanlens.discover(x[train], y[train], time_limit=20, progress=False)
print(patients_found)
guess = patients_found.predict(x[test])[:, 0]
searched = 1 - np.sum((guess - y[test]) ** 2) / np.sum((y[test] - y[test].mean()) ** 2)
print(f"R2 on the other quarter {searched:.2f}; of a line through all columns {linear:.2f}")

# %% [markdown]
# ## How small can networks get?
#
# Networks of concrete (8 features, 72 edges) and of Californian houses (13 columns, 112 edges) are
# pruned by every score. The budget is kept on the rows used for pruning. Entries are edges, means
# of three networks, and in parentheses the loss on other rows, relative to the loss before pruning.
# `python -m benchmarks sparsity --parts budgets` repeats the experiment.


# %%
def smallest(problem):
    """Return edges left, and test loss over that before, by score and budget."""
    rows = pd.read_csv("../figures/data/sparsity-budgets.csv")
    rows = rows[rows["problem"] == problem]
    rows = rows.assign(ratio=rows["test"] / rows["test_before"])
    means = rows.groupby(["arm", "budget"], sort=False)[["edges", "ratio"]].mean()
    text = [f"{e:.0f} ({r:.2f})" for e, r in means.itertuples(index=False)]
    return pd.Series(text, index=means.index).unstack("budget")


smallest("california_housing")

# %%
smallest("concrete")

# %% [markdown]
# ![Edges left and test loss by budget, for every score](../figures/sparsity-budgets.png)
