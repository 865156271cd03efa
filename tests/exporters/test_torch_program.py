"""The program of torch."""

import pytest
import torch

from kanlens.exporters import export
from tests.exporters.conftest import build
from tests.exporters.raw import described
from tests.made import draw


@pytest.mark.slow  # torch traces the model
def test_it_computes_what_the_model_does_for_any_number_of_rows(tmp_path):
    model = build("products")
    assert export(model, tmp_path / "model.pt2").error < 1e-14
    program = torch.export.load(tmp_path / "model.pt2").module()
    for rows in (1, 7):
        x = 2 * draw(rows, 3)
        torch.testing.assert_close(program(x), model(x).detach())
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.slow  # torch traces the model
def test_it_fills_missing_numbers_and_takes_no_rows(tmp_path):
    model = described("numbers of y")
    assert export(model, tmp_path / "model.pt2").error < 1e-14
    program = torch.export.load(tmp_path / "model.pt2").module()
    x = torch.zeros(2, len(model.feature_names), dtype=torch.float64)
    x[1, 1], x[0, 1] = float("nan"), model.schema.features[1].filler
    y = program(x)
    assert torch.equal(y[0], y[1])
    assert program(x[:0]).shape == (0, 1)
