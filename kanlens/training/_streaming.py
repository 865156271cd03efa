"""Training on sources larger than memory, in batches of all rows."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from kanlens._model_inputs import encode_labelled, prepare_data
from kanlens.data._cell_parsing import Array
from kanlens.data._row_readers import blocks
from kanlens.data._source import Source
from kanlens.errors import InvalidValueError
from kanlens.model._network import KAN
from kanlens.training._options import FitOptions
from kanlens.training._process_group import Ranks
from kanlens.training._training_loop import TrainingRun

STREAMS = 16  # segments from which a batch takes rows
NUMBERS = 2**18  # cells of a block, whose rows are shuffled
SEGMENT = 16  # most adjacent blocks that are read together

Block = tuple[int, int]  # first row, and the one after the last


@dataclass(kw_only=True, eq=False)
class RowStream:
    """The rows of a source in random order, except the sorted indices `without`.

    The rows lie in segments, each of some blocks. An epoch draws an order of the segments, deals
    them to `STREAMS` streams, and every batch takes equally many rows from each stream. So a batch
    does not depend on the number of processes, among which the streams are dealt in turn.
    """

    model: KAN
    source: Source
    batch_size: int
    ranks: Ranks
    sampled: Array  # indices of the rows that determine scaling and grids
    without: Array = field(default_factory=lambda: np.empty(0, dtype=np.int64))

    @property
    def rows(self) -> int:
        """Number of rows of an epoch, over all processes."""
        return self.source.rows - len(self.without)

    def count(self, block: Block) -> int:
        """Return the number of rows of a block that are not in `without`."""
        first, last = np.searchsorted(self.without, block)
        return block[1] - block[0] - int(last - first)

    def batches(self, seed: int, done: int = 0) -> Iterator[tuple[Tensor, Tensor, int]]:
        """Yield x, y of this process and the total rows of each batch after the first `done`."""
        width = len(self.source.columns) + len(self.source.schema.features)
        parts = list(blocks(self.source.rows, max(16, NUMBERS // width)))
        size = max(1, min(SEGMENT, len(parts) // (4 * STREAMS)))
        segments = [parts[start : start + size] for start in range(0, len(parts), size)]
        order = torch.randperm(len(segments), generator=torch.Generator().manual_seed(seed))
        drawn = [segments[index] for index in order.tolist()]
        streams = [list(itertools.chain(*drawn[i::STREAMS])) for i in range(STREAMS)]
        sizes, taken = self._sizes(streams), [0] * STREAMS
        for batch in itertools.islice(sizes, done):
            taken = [count + more for count, more in zip(taken, batch, strict=True)]
        own = range(self.ranks.index, STREAMS, self.ranks.count)
        readers = [_BlockReader(self, streams[i], seed, taken[i]) for i in own]
        for batch in sizes:
            pairs = zip(readers, own, strict=True)
            rows = [reader.next(batch[i]) for reader, i in pairs if batch[i]]
            xs, ys = zip(*(rows or [self.nothing]), strict=True)
            yield torch.cat(xs), torch.cat(ys), sum(batch)

    def _sizes(self, streams: list[list[Block]]) -> Iterator[list[int]]:
        """Yield the number of rows that each batch takes from every stream."""
        left = [sum(map(self.count, stream)) for stream in streams]
        while any(left):
            share = -(-self.batch_size // sum(rows > 0 for rows in left))
            sizes = [min(share, rows) for rows in left]
            left = [rows - size for rows, size in zip(left, sizes, strict=True)]
            yield sizes

    @cached_property
    def nothing(self) -> tuple[Tensor, Tensor]:
        """Tensors x (0, in) and y without rows."""
        x, y = encode_labelled(self.model, self.source.read(0, 1), call="fit")
        return x[:0], y[:0]

    def read(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Return x and y of a block without the rows in `without`."""
        x, y = encode_labelled(self.model, self.source.read(start, stop), call="fit")
        first, last = np.searchsorted(self.without, [start, stop])
        mask = torch.ones(stop - start, dtype=torch.bool)
        mask[torch.from_numpy(self.without[first:last] - start)] = False
        return x[mask], y[mask]


class _BlockReader:
    """The rows of one stream after the first `taken`; each block is shuffled."""

    def __init__(self, stream: RowStream, blocks: list[Block], seed: int, taken: int) -> None:
        self.stream, self.seed, self.blocks = stream, seed, list(blocks)
        while self.blocks and taken >= stream.count(self.blocks[0]):
            taken -= stream.count(self.blocks.pop(0))
        self.x, self.y = stream.nothing
        self.next(taken)

    def next(self, rows: int) -> tuple[Tensor, Tensor]:
        """Return the next `rows` rows; the caller ensures that they exist."""
        while len(self.x) < rows:
            start, stop = self.blocks.pop(0)
            x, y = self.stream.read(start, stop)
            drawn = torch.Generator().manual_seed((self.seed + 0x9E3779B9 * (start + 1)) % 2**63)
            order = torch.randperm(len(x), generator=drawn)
            self.x, self.y = torch.cat((self.x, x[order])), torch.cat((self.y, y[order]))
        x, y, self.x, self.y = self.x[:rows], self.y[:rows], self.x[rows:], self.y[rows:]
        return x, y


def streamed_run(
    model: KAN,
    options: FitOptions,
    source: Source,
    held: int,
    *,
    generator: torch.Generator | None,
    ranks: Ranks,
) -> TrainingRun:
    """Return a run on all rows of a source, with a sample of `held` rows in memory.

    Range, scaling and grids come from the sample, which has the extremes of every column; some of
    its rows are held out for early stopping.
    """
    if options.optimizer == "lbfgs":
        expected, got = "optimizer 'adam' or 'adamw' for rows beyond memory", "'lbfgs'"
        advice = "Choose one of these, allow more {max_memory}", "pass source.sample(100_000)"
        raise InvalidValueError("fit", expected, got, *advice, max_memory=None)
    rows = source.spread(held, extremes=True)
    x, y = prepare_data(model, source.take(rows))
    run = TrainingRun(model, options, x, y, generator, ranks=ranks)
    run.stream = RowStream(
        model=model, source=source, batch_size=options.batch_size, ranks=ranks, sampled=rows
    )
    return run
