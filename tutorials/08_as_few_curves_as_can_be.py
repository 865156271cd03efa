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
# # As few curves as can be
#
# A network of hundreds of edges predicts well, and nobody can read it. This tutorial starts there,
# grows a network of a few curves that predicts as well, and reads every one of them.
#
# The table is simulated: hourly bicycle rentals in a city, with the weather. The mean is a product
# of effects, the effect of the hour differs between workdays and weekends, and humidity and the age
# of the moon have no effect at all.

# %%
import kanlens, numpy as np, pandas as pd, torch

draw = np.random.default_rng(0)
rows = 2000
frame = pd.DataFrame({"hour": draw.integers(0, 24, rows)})
frame["day"] = draw.choice(["workday", "weekend"], rows, p=[5 / 7, 2 / 7])
frame["temperature"] = draw.normal(14, 8, rows).round(1)
frame["wind"] = draw.gamma(3, 4, rows).round(1)
frame["humidity"] = draw.uniform(30, 100, rows).round()
frame["rain"] = (draw.exponential(2, rows) * (draw.random(rows) < 0.25)).round(1)
frame["year"] = draw.integers(2019, 2025, rows)
frame["moon"] = draw.uniform(0, 29.5, rows).round(1)


def peak(hour, width):
    return np.exp(-(((frame["hour"] - hour) / width) ** 2))


effect = np.where(
    frame["day"] == "workday",
    1.6 * peak(8, 1.8) + 1.8 * peak(17.5, 2.2) + 0.6 * peak(13, 5),
    1.7 * peak(14.5, 4.5),
)
effect += 0.9 * np.tanh((frame["temperature"] - 12) / 8) - 1.2 * peak(3, 3)
effect -= 0.08 * np.maximum(frame["temperature"] - 28, 0)
effect -= 0.02 * np.maximum(frame["wind"] - 10, 0) + 0.5 * (1 - np.exp(-frame["rain"]))
effect += 0.12 * (frame["year"] - 2021) - 0.5 * (frame["year"] == 2020)
frame["rentals"] = (60 * np.exp(effect) * draw.normal(1, 0.12, rows)).round()
table = kanlens.read_table(frame, target="rentals")
table, new = table.split(0.25, torch.Generator().manual_seed(0))


def explained(model):
    with torch.no_grad():
        errors = (model(new.x) - new.y).square().mean()
    return float(1 - errors / new.y.var())


# %% [markdown]
# ## The default
#
# `kanlens.fit_default` trains wide networks and keeps what predicts held-out rows best.

# %%
seeded = torch.Generator().manual_seed(0)
wide = kanlens.fit_default(table, progress=False, generator=seeded).model
print(f"{wide.edges_alive} edges explain {explained(wide):.3f} of new rows")

# %% [markdown]
# It is accurate. But each of its hidden nodes is a sum of functions of all columns, and no picture
# of hundreds of edges tells what the weather does to rentals.
#
# ## The frontier
#
# `kanlens.frontier` goes the other way. It starts at one curve for each column, and adds one term
# at a time: a product of two columns, a further column in a product, or an increasing link through
# which the sum goes. Each size is scored on rows that neither its terms nor its curves have seen.

# %%
front = kanlens.frontier(table, progress=False, generator=torch.Generator().manual_seed(0))
front.to_frame().round(4)

# %%
axes = kanlens.plot.frontier(front, references={"default network": explained(wide)})

# %% [markdown]
# Seven curves alone explain .71 of the variance. A link, one more curve, makes that .85, and the
# product `hour * day` .97. Then nothing more is gained: what follows is noise, and the scores fall.
# The ring marks `front.simplest`, the smallest network within one standard error of the best.

# %%
model = front.simplest
print(f"{model.edges_alive} edges explain {explained(model):.3f} of new rows")

# %% [markdown]
# Eleven edges predict new rows better than the 432 of the default. They are six curves of single
# columns, two more in the product, the edges that add these up, and the link. A network of at most
# eight edges is `front.model(edges=8)`; here it pays to read three more.
#
# ## Reading it
#
# `plot.terms` draws all that the network consists of, the most important first.

# %%
axes = kanlens.plot.terms(model, table.x, table.y)

# %% [markdown]
# The output is the link, in the last panel, of the sum of the others. The link is convex as an
# exponential function is: effects multiply. Shaded are 95% bands. The eight curves, and a sentence
# about each:
#
# - **hour**: rentals are lowest at 3, and have peaks at 8 and at 17.
# - **temperature**: rentals rise from 5 to 25 degrees, and fall in the heat.
# - **year**: every year has more rentals than the last, but for a dip in 2020.
# - **rain**: the first millimeter costs most; after that, more rain makes little difference.
# - **wind**: it does not matter up to 10, and costs rentals beyond.
# - **day**: on average over the hours, workdays and weekends hardly differ.
# - **hour x day**, a surface of two more curves, one of the hour and one of the day: at 8 and 17
#   weekends have fewer rentals than workdays, and in the early afternoon more. What either column
#   does alone is in its own curve.
#
# Humidity and the moon have no curve, as they have no effect. All of this agrees with the
# simulation. The same numbers are in `kanlens.attribution.terms(model, table.x)`.
#
# From here on everything else of kanlens applies: attributions of single rows, certificates, a
# formula by `kanlens.symbolize`, and the page of `kanlens.report`, which begins with such pictures.
