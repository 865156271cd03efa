"""Training on sources larger than memory: mini-batches of all rows, each process its own share.

The rows lie in segments, some blocks in a row. An epoch draws an order of the segments, deals them
to `STREAMS` streams, and every batch takes as many rows from each stream. So a batch is the same
whatever the number of processes, among which the streams are dealt in turn.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from kanlens.data.cell_parsing import Array
from kanlens.data.row_readers import blocks
from kanlens.data.source import Source
from kanlens.encoding import encode_labelled, prepare_data
from kanlens.errors import InvalidValueError
from kanlens.model.network import KAN
from kanlens.training.options import FitOptions
from kanlens.training.ranks import Ranks
from kanlens.training.result import FitResult
from kanlens.training.run import Part, TrainingRun

STREAMS = 16  # segments that a batch has rows of
NUMBERS = 2**18  # cells of a block, whose rows are shuffled
SEGMENT = 16  # blocks in a row, at most: what lies together is read together


@dataclass(frozen=True, kw_only=True, eq=False)
class RowStream:
    """The rows of a source but those `without` (increasing row numbers), in drawn order."""

    model: KAN
    source: Source
    without: Array
    batch_size: int
    ranks: Ranks

    @property
    def rows(self) -> int:
        """Number of rows of an epoch, over all processes."""
        return self.source.rows - len(self.without)

    @property
    def block(self) -> int:
        """Number of rows that are read at once."""
        return max(16, NUMBERS // (len(self.source.columns) + len(self.source.schema.features)))

    def left(self, start: int, stop: int) -> int:
        """Return how many rows of a block are not among those left out."""
        return stop - start - int(np.diff(np.searchsorted(self.without, [start, stop]))[0])

    def batches(self, seed: int, done: int = 0) -> Iterator[tuple[Tensor, Tensor, int]]:
        """Yield this process' x and y, and the rows, of every batch behind those `done`."""
        parts = list(blocks(self.source.rows, self.block))
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

    def _sizes(self, streams: list[list[tuple[int, int]]]) -> Iterator[list[int]]:
        """Yield how many rows each batch takes from every stream: as many, while there are some."""
        left = [sum(self.left(*block) for block in stream) for stream in streams]
        while any(left):
            share = -(-self.batch_size // sum(rows > 0 for rows in left))
            sizes = [min(share, rows) for rows in left]
            left = [rows - size for rows, size in zip(left, sizes, strict=True)]
            yield sizes

    @cached_property
    def nothing(self) -> tuple[Tensor, Tensor]:
        """No rows: x and y."""
        x, y = encode_labelled(self.model, self.source.read(0, 1), call="fit")
        return x[:0], y[:0]

    def read(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Return x and y of a block, without the rows that are left out."""
        x, y = encode_labelled(self.model, self.source.read(start, stop), call="fit")
        first, last = np.searchsorted(self.without, [start, stop])
        kept = torch.ones(stop - start, dtype=torch.bool)
        kept[torch.from_numpy(self.without[first:last] - start)] = False
        return x[kept], y[kept]


class _BlockReader:
    """The rows of one stream, block by block, each in an order of its own; `taken` are gone."""

    def __init__(
        self, stream: RowStream, blocks: list[tuple[int, int]], seed: int, taken: int
    ) -> None:
        self.stream, self.seed, self.blocks = stream, seed, list(blocks)
        while self.blocks and taken >= stream.left(*self.blocks[0]):
            taken -= stream.left(*self.blocks.pop(0))
        self.x, self.y = stream.nothing
        self.next(taken)

    def next(self, rows: int) -> tuple[Tensor, Tensor]:
        """Return the next rows; there are so many."""
        while len(self.x) < rows:
            start, stop = self.blocks.pop(0)
            x, y = self.stream.read(start, stop)
            drawn = torch.Generator().manual_seed((self.seed + 0x9E3779B9 * (start + 1)) % 2**63)
            order = torch.randperm(len(x), generator=drawn)
            self.x, self.y = torch.cat((self.x, x[order])), torch.cat((self.y, y[order]))
        x, y, self.x, self.y = self.x[:rows], self.y[:rows], self.x[rows:], self.y[rows:]
        return x, y


class StreamedRun(TrainingRun):
    """A training run whose gradients are of all rows of a source, and all else of a sample.

    The sample, evenly spread with the extremes of every column, decides over range, scaling and
    grids; some of its rows are held out, which say when to stop.
    """

    pace = 0

    def __init__(
        self,
        model: KAN,
        options: FitOptions,
        source: Source,
        *,
        generator: torch.Generator | None,
        ranks: Ranks,
        held: int,
    ) -> None:
        if options.optimizer == "lbfgs":
            expected, got = "optimizer 'adam' or 'adamw' for rows beyond memory", "'lbfgs'"
            advice = "Choose one of these, allow more {max_memory}", "pass source.sample(100_000)"
            raise InvalidValueError("fit", expected, got, *advice, max_memory=None)
        self.source, self.picks = source, source.spread(held, extremes=True)
        x, y = prepare_data(model, source.take(self.picks))
        super().__init__(model, options, x, y, generator, ranks=ranks)

    def _split(self) -> None:
        super()._split()
        self.stream = RowStream(
            model=self.model,
            source=self.source,
            without=self.picks[self.held_out.numpy()],
            batch_size=self.options.batch_size,
            ranks=self.ranks,
        )

    def _rest(self) -> Iterator[Part]:
        source = self._seeded()
        drawn = int(torch.randint(2**62, (), generator=source, device=source.device))
        whole = self.stream.rows
        for x, y, rows in self.stream.batches(drawn, self.batch):
            done = self.batch * self.options.batch_size / whole  # the same where a run goes on
            self._set_rate(self.step + min(1.0, done))
            self.advance(rows / whole)
            if len(x):
                yield x, y, None, len(x) / rows
            else:
                yield self.train_x[:1], self.train_y[:1], None, 0.0

    def finish(self, seconds: float) -> FitResult:
        """Report; rows held out are those of the source."""
        held_out = torch.from_numpy(self.picks)[self.held_out]
        return replace(super().finish(seconds), held_out=held_out)
