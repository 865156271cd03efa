"""Rows of categories that training did not have are outside the data."""

import numpy as np
import pandas as pd
import pytest
import torch

import kanlens


@pytest.mark.slow  # trains networks
@pytest.mark.filterwarnings("ignore:.*none of the known categories")
@pytest.mark.parametrize("blank", [False, True])
def test_unknown_categories_are_outside_the_data(blank):
    draw = np.random.default_rng(0)
    frame = pd.DataFrame({"x": draw.uniform(size=90), "town": draw.choice(["a", "b", "c"], 90)})
    if blank:
        frame.loc[:20, "town"] = None
    table = kanlens.read_table(frame.assign(y=frame["x"]), target="y")
    generator = torch.Generator().manual_seed(0)
    model = kanlens.fit_default(table, hidden=(), progress=False, generator=generator).model
    new = pd.DataFrame({"x": 0.5, "town": ["other", "a", None if blank else "b"]})
    words = kanlens.predict(model, new, support=True)["outside the data"].tolist()
    assert words == ["1 of 2 features (town)", "", ""]
