"""Results as JSON knows them."""

from dataclasses import dataclass

import torch

from kanlens._plain_json import to_plain


@dataclass
class Seen:
    span: tuple[float, float]
    values: torch.Tensor


def test_results_and_tensors_become_plain_data():
    seen = Seen(span=(1.0, float("inf")), values=torch.tensor([0.5, float("nan")]))
    assert to_plain({"seen": [seen]}) == {"seen": [{"span": [1.0, None], "values": [0.5, None]}]}
    assert to_plain(torch.tensor([[1.0, 2.0]])) == [[1.0, 2.0]]
    assert to_plain(torch.tensor(True)) is True
