"""Files as users of three libraries leave them: the outputs that the libraries gave."""

from pathlib import Path

import pandas as pd
import pytest
import torch

from kanlens.io.importers import import_model, list_kans

FOLDER = Path(__file__).parents[3] / "tutorials" / "checkpoints"
EXPECTED = pd.read_csv(FOLDER / "expected.csv")
FILES = {"pykan": "pykan", "fastkan": "fastkan.pt", "chebykan": "chebykan.pt"}


@pytest.mark.parametrize("name", FILES)
def test_outputs_are_those_of_the_library(name):
    x = torch.tensor(EXPECTED[["x1", "x2", "x3"]].to_numpy(), dtype=torch.float32)
    expected = torch.tensor(EXPECTED[name].to_numpy(), dtype=torch.float32)
    model = import_model(FOLDER / FILES[name])
    assert (model(x)[:, 0] - expected).abs().max() < 2e-6
    others = [EXPECTED[other].to_numpy() for other in FILES if other != name]
    assert all(abs(other - expected.numpy()).max() > 1e-2 for other in others)
    assert [found.widths[0] for found in list_kans(FOLDER / FILES[name])] == [3]
