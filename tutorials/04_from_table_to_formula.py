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
# Three ways lead from a table to a formula. `discover` searches for one. `symbolize` replaces the
# edges of a pruned network by functions; that shows *where* the network is simple and where it is
# not. `KANSymbolicRegressor` trains, prunes and symbolizes in one call, as an estimator of
# scikit-learn. All return the same kind of result: a Pareto front of formulas, one of them chosen,
# and a receipt.
#
# The table is a simulated measurement, so that the truth is known: a capacitor is charged from a
# source of $U$ volts with the time constant $\tau$, and its voltage $v = U(1 - e^{-t/\tau})$ is
# read at time $t$, 0.5 % off. The temperature $T$ was written down, too; nothing depends on it.

# %%
import kanlens, numpy as np, pandas as pd, sympy, torch


def measured(rows, noise, seed):
    """Make a table of that many readings."""
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
# `discover` fits formulas of single columns and combinations of columns, all constants by least
# squares; if none fits, it trains small networks and derives formulas from them. It returns a
# *Pareto front*: for every length the best formula of that length. The chosen row has the mark
# `>>>>`. The search ends when the residuals of a formula are noise.

# %%
found = kanlens.discover(frame[names], frame["v"], progress=False)
print(found)
print(found.stopped_because)

# %%
axes = kanlens.plot.formula(found)

# %% [markdown]
# The front as a picture: the loss falls with every part that a formula gains, until at the picked
# one it drops to the noise of the readings. Longer formulas have no smaller loss.

# %%
U, t, tau = sympy.symbols("U t tau")
assert sympy.simplify(found.sympy() - U * (1 - sympy.exp(-t / tau))) == 0
print(found.sympy())
print(found.latex())

# %% [markdown]
# ## The receipt
#
# The receipt reports the errors of the formula. It was made on the rows that chose it among others
# (with more than 2200 rows, other rows would be used) and reports the error on them, the constants
# that were replaced by exact ones and how the error changed, and whether the formula stays finite
# on and beyond the ranges of the data.

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
# The other way begins with a network, perhaps one that is there already. This one learns the same
# table with a penalty on its weights.

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
# Five scores of all edges in one table. `damage` is the rise of the loss when the edge is replaced
# by its mean, in variances of the target; the other scores estimate it. Edges can compensate for
# each other, so that scores do not add up; they are therefore computed again after every removal.

# %%
kanlens.edge_scores(model, table.x, table.y).head(6).round(4)

# %% [markdown]
# ### Prune within a budget
#
# `budget=0.05` asks for the smallest network whose loss is at most 5 % higher. Every step can be
# undone: `curve` has the loss after each, and `at` returns the network after any of them.

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
# The loss hardly changes while edges without effect are removed, then it rises: the last edge
# raised it more than all before it together. The ring is the smallest network within the budget.

# %%
axes = kanlens.plot.network(cut.model)

# %% [markdown]
# The temperature has no edge any more, and the other columns pass through several hidden nodes.
#
# ### Candidates for every edge
#
# `suggest` fits every function of the library to every edge. A score compares them in bits, and
# compares them with the accuracy of the edge's own spline; small differences mean nothing.

# %%
columns = list(cut.model.feature_names)
candidates = kanlens.suggest(cut.model, frame[columns])
candidates.head(6)

# %% [markdown]
# ### The formula
#
# `symbolize` replaces edges by functions as long as the whole network stays accurate, refits all
# constants together, and keeps the spline of an edge that no function fits. Here the network has to
# build a product of $U$ and $e^{-t/\tau}$ out of sums, and a quotient inside it: the formula is
# close to the data, but long, and not the true one. Compare it with the formula above.

# %%
read = kanlens.symbolize(cut.model, frame[columns], frame["v"], progress=False)
print(read)

# %%
print(read.receipt.summary())

# %%
axes = kanlens.plot.predicted(frame["v"], read.predict(frame[columns])[:, 0], name="v", unit="V")

# %% [markdown]
# Readings against what the long formula says of them, and the diagonal that they should lie on.

# %% [markdown]
# The receipt shows this. The function is not a function of a sum of functions of single columns,
# and refitting cannot change that; use product nodes or `discover` for such functions. Splines that
# are left are named functions of one variable, and can be evaluated with all others. What each edge
# added to the distance from the model adds up to the whole:

# %%
budget = pd.DataFrame(read.receipt.budget)
total = budget["mean"].str[0].sum()
assert abs(total - read.receipt.mean_difference[0]) < 1e-12
budget.sort_values("mean_absolute", ascending=False).head()

# %% [markdown]
# ## A table without a truth
#
# Most tables have no formula. 442 diabetes patients: how well can a short formula predict the
# progress of the disease a year later? A line through all ten columns explains 46 % on the rows
# held back here; a formula of two of them comes near it, and says what it is worth.

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
# Two real tables, three networks each, with every score: concrete (8 features, 72 edges) and
# Californian houses (13 columns, 112 edges). A budget is kept on the rows that pruning sees; the
# loss on other rows, over that of the whole network, is what it comes to, and stands in brackets.
# `python -m benchmarks sparsity --parts budgets` repeats it.


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
