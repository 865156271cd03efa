"""Random states that code with no argument for a generator draws from, lent and given back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def borrowed_randomness(generator: torch.Generator | None, device: torch.device) -> Iterator[None]:
    """Let code that draws from torch's and numpy's own states draw from `generator`.

    The states are put back afterwards.

    Parameters
    ----------
    generator : torch.Generator or None
        One number is drawn from it, as the seed of the block. When None, the block sees the states
        as they are, so that two calls in a row draw the same numbers.
    device : torch.device
        Whose state is borrowed beside the CPU's.

    Examples
    --------
    >>> before = torch.get_rng_state()
    >>> with borrowed_randomness(torch.Generator().manual_seed(0), torch.device("cpu")):
    ...     drawn = torch.rand(3)
    >>> torch.equal(torch.get_rng_state(), before)
    True
    """
    cuda = [device.index or 0] if device.type == "cuda" else []
    before = np.random.get_state()  # noqa: NPY002 - captum draws from it
    with torch.random.fork_rng(devices=cuda):
        try:
            if generator is not None:
                drawn = int(torch.randint(2**62, (), generator=generator, device=generator.device))
                torch.default_generator.manual_seed(drawn)
                for index in cuda:
                    torch.cuda.default_generators[index].manual_seed(drawn)
                fresh = np.random.RandomState(drawn % 2**32)
                np.random.set_state(fresh.get_state())  # noqa: NPY002
            yield
        finally:
            np.random.set_state(before)  # noqa: NPY002
