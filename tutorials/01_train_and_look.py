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
# # Train a KAN and look at it
#
# A Kolmogorov-Arnold network puts a learned one-dimensional function on every edge, and its nodes
# add. Its functions can therefore be plotted: this tutorial trains a network, draws its functions,
# examines one edge, prunes the network, and finds its formula.
#
# The data are 1000 samples of a function we know, so that every result can be checked: $z =
# \exp(\sin(\pi x) + y^2)$.

# %%
import kanlens, numpy as np, pandas as pd, sympy, torch

generator = torch.Generator().manual_seed(0)
samples = torch.rand(1000, 2, generator=generator, dtype=torch.float64) * 2 - 1
frame = pd.DataFrame(samples.numpy(), columns=["x", "y"])
frame["z"] = np.exp(np.sin(np.pi * frame["x"]) + frame["y"] ** 2)
table = kanlens.read_table(frame, target="z")
frame.head(3)

# %% [markdown]
# ## Train
#
# Five hidden nodes are more than the function needs. `fit` holds a fifth of the rows out, sets the
# scaling of inputs and output, adapts the grids to the data, and keeps the best state.

# %%
model = kanlens.KAN([2, 5, 1], generator=generator).double()
fit = kanlens.fit(model, table, steps=20, progress=False, generator=generator)
print(f"held-out R2 {fit.metric:.6f} after {fit.best_step} steps: {fit.stopped_because}")
assert fit.metric > 0.999
axes = kanlens.plot.history(fit)

# %% [markdown]
# The training loss and the loss on the rows held out fall together, by three powers of ten, and
# stay together: the network does not overfit. The dotted line marks the state that is kept, the one
# with the lowest held-out loss.
#
# ## Look
#
# Every edge is drawn with its function over the range of the data, darker the more it moves its
# node.

# %%
axes = kanlens.plot.network(model)

# %% [markdown]
# The features stand below, the output above, and a node adds its incoming edges. The sine of $x$
# and the parabola of $y$ can be seen already, upright or upside down, but fifteen functions share
# the work, and no hidden node has a meaning of its own.
#
# The *effect* of a feature on the output of the whole network is a partial dependence: the mean
# output over the table when every row gets the same $x$. Thin lines are single rows.

# %%
axes = kanlens.plot.effect(model, "x", table.x)

# %% [markdown]
# The output rises and falls with $x$ once, as $\sin(\pi x)$ does. The lines of single rows are not
# parallel: they spread where the sine is large, so $x$ and $y$ interact: the function is not a sum
# of a function of $x$ and one of $y$.
#
# ## One edge
#
# An edge is an exact object: a piecewise polynomial plus a SiLU. Its value, derivatives, integral,
# roots and extrema are computed without sampling, and it converts to SciPy and SymPy.

# %%
phi = model.layers[0].edge(out=0, in_=0)
low, high = phi.domain
places = np.linspace(low, high, 201)
print("extrema at", phi.extrema().round(4), " range", np.round(phi.bounds(), 4))
print("integral over the grid", round(phi.integral(low, high), 6))
assert np.abs(phi.to_scipy()(places) - phi(places)).max() < 1e-12

# %%
axes = kanlens.plot.edge(model, 0, 0, 0, parts=True)

# %% [markdown]
# The blue line is the edge's function, the sum of the dashed spline and the dotted SiLU. The marks
# above are the knots between its pieces, the strip below shows how many rows have each value, and
# in the hatched ranges at both ends there are no rows.
#
# A trace records the inputs of every layer, and the share of them that lay outside: features
# outside the training data, which are clipped to its range, and hidden values outside their grids,
# where edges continue linearly. The network was not fitted there.

# %%
record = kanlens.trace(model, table.x)
print(f"{record.outside_share:.2%} of all inputs and hidden values lie outside")
record.to_frame()

# %% [markdown]
# ## From data to the formula
#
# Now all steps from the table to a formula. A penalty on the L1 norm of each edge's weights makes
# most edges small; pruning removes them, smallest first, as long as the loss stays within a budget;
# a few rounds leave the smallest network that explains the data. About one start in five ends in a
# larger network; then another start is tried. On a finer grid the three edges are fitted closely,
# each is matched with the functions of a library, and all constants are refitted together.

# %%
sparse = {"penalty": "weight_l1", "strength": 0.02, "grid_updates": 2}
quiet = {"progress": False, "generator": generator}
for _start in range(5):
    model = kanlens.KAN([2, 5, 1], grid_size=3, generator=generator).double()
    kanlens.fit(model, table, steps=5, **quiet)
    for _round in range(6):
        kanlens.fit(model, table, steps=15, **sparse, **quiet)
        model = kanlens.prune(model, table.x, table.y, budget=0.5, progress=False).model
        if model.widths == (2, 1, 1):
            break
    print("pruned to", model.widths, "with", model.edges_alive, "edges")
    if model.widths == (2, 1, 1):
        break
model.refine(10)
kanlens.fit(model, table, steps=20, progress=False, generator=generator)
symbolic = kanlens.symbolize(model, table.x, table.y)
print(symbolic.sympy())

# %% [markdown]
# The expression is exact, constants included, and so are its predictions on fresh rows.

# %%
x, y = sympy.symbols("x y")
assert symbolic.sympy() == sympy.exp(sympy.sin(sympy.pi * x) + y**2)

fresh = torch.rand(5000, 2, generator=generator, dtype=torch.float64) * 2 - 1
truth = np.exp(np.sin(np.pi * fresh[:, 0].numpy()) + fresh[:, 1].numpy() ** 2)
rmse = float(np.sqrt(np.mean((symbolic.predict(fresh)[:, 0] - truth) ** 2)))
print(f"RMSE on 5000 fresh rows {rmse:.1e}")
assert rmse < 1e-6

# %% [markdown]
# Every formula has a receipt: its distance from the model and from the data, the edges that stayed
# splines, and the constants that were replaced by exact ones.

# %%
print(symbolic.receipt.summary())
symbolic.equations_.drop(columns="sympy_format")

# %% [markdown]
# This is the network of the formula.

# %%
axes = kanlens.plot.network(model)

# %% [markdown]
# Three edges are left of fifteen, and each can be recognized: a sine of $x$ and a parabola of $y$
# are added up, and an exponential of the sum is the output.
