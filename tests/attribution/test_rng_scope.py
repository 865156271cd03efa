from __future__ import annotations

import numpy as np
import pytest
import torch

from kanlens.attribution.problem import borrowed_randomness


def test_randomness_is_given_back_after_an_error():
    before, numbers = torch.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002
    g = torch.Generator().manual_seed(0)
    drawn = []
    for _ in range(2):
        with pytest.raises(RuntimeError), borrowed_randomness(g, torch.device("cpu")):
            drawn.append((float(torch.rand(1)), np.random.random()))  # noqa: NPY002
            raise RuntimeError
    assert torch.equal(torch.get_rng_state(), before)
    assert np.random.get_state()[1].tolist() == numbers  # noqa: NPY002
    assert drawn[0][0] != drawn[1][0]
    assert drawn[0][1] != drawn[1][1]
