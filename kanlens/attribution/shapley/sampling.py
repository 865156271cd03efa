"""A game of many players solved by sampling orders, each together with its reverse.

Every background row is met equally often, in orders of its own: the spread between rows adds
nothing to the error, and orders that rows share would be worth less, since players fare alike
against alike rows. In an order all players together add F(x) - F(b), which makes every mean
complete. An order costs one addition of first-layer steps for each player, and what comes after the
first layer.

What spread is left is taken away by a polynomial whose Shapley values are known (see `surrogate`).
How much of it is used follows from an earlier round, so that it brings no bias; it is the same for
all players of a sample, as completeness asks. Estimates are put together with weights from their
own spread, and work stops on it: the bias of that is far below the errors given.

Variance of single orders over that of pairs, and of pairs over that with the polynomial, each at as
many evaluations: 4.6 and 155 for [20, 8, 4, 1], 5.2 and 205 for [18, (2, 2), 1], 4.1 and 95 for
[30, 6, 1] (fresh networks, 20 background rows and 20 rounds, as in
`test_pairs_and_polynomials_take_variance_away`).
"""

from __future__ import annotations

import math
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from kanlens.attribution.problem import BUDGET, pairs
from kanlens.attribution.shapley.games import Game
from kanlens.attribution.shapley.surrogate import Surrogate, count, fitted
from kanlens.attribution.shapley.walks import Walks
from kanlens.checks import check_count, check_positive
from kanlens.deadlines import Deadline
from kanlens.interruption import Interruption
from kanlens.progress import progress_bar

MOST = 2**20  # orders for one sample
LEAST = 96  # pairs of orders in a round, so that their spread is known
FEW = 8  # background rows that are met however short the time is
MOVES = 1000  # of the bar
TINY = 1e-300


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """Sampled Shapley values.

    Attributes
    ----------
    values : Tensor, shape (batch, player)
        Of each sample they add up to F(x) less the mean F(b), rounding aside.
    standard_error : Tensor, shape (batch, player)
        Of `values`.
    evaluations : float
        Evaluations of the game's model for one sample: the mean over samples.
    permutations : int
        Orders gone through for the sample that took most, reverses counted.
    stopped : {"tolerance", "time limit", "permutations", "an interrupt"}
        What ended it: every error is small enough, or else what ran out.
    """

    values: Tensor
    standard_error: Tensor
    evaluations: float
    permutations: int
    stopped: str


def sampled(
    game: Game,
    *,
    tolerance: float,
    time_limit: float | None = None,
    most: int = MOST,
    generator: torch.Generator | None = None,
    progress: bool | None = False,
    stop: Interruption | None = None,
) -> Sample:
    """Return Shapley values [1]_ from orders of the players, each taken with its reverse [2]_.

    A polynomial serves as a control variate [3]_ where many orders are needed.

    Every sample sees the same orders, and stops by itself when all its errors are small enough.

    Parameters
    ----------
    game : Game
        Of any number of players.
    tolerance : float
        Largest standard error that will do, in units of the output.
    time_limit : float, optional
        In seconds. No round, in which each background row meets at least two pairs of orders,
        begins that would end too late. Where there is no time for one, every sample meets some
        background rows, drawn at random, at least eight; the errors count what that leaves open.
    most : int
        Orders for one sample, reverses counted; likewise.
    generator : torch.Generator, optional
        One number is drawn from it. Without one, torch's own state is the start, and stays.
    progress : bool, optional
        Whether a bar is shown; None: where stderr is a terminal.
    stop : Interruption, optional
        Keeps an interrupt after the first round; the samples that are left get what they would get
        without time.

    Returns
    -------
    Sample

    References
    ----------
    .. [1] J. Castro et al., Polynomial calculation of the Shapley value based on sampling, 2009.
    .. [2] R. Mitchell et al., Sampling Permutations for Shapley Value Estimation, 2022.
    .. [3] J. Goldwasser, G. Hooker, Stabilizing Estimates of Shapley Values with Control Variates,
       2023.
    """
    check_positive("attribute", "tolerance", tolerance, zero=True)
    check_count("attribute", "most", most)
    if time_limit is not None:
        check_positive("attribute", "time_limit", time_limit)
    seed = _seed(generator) ^ zlib.crc32(game.players.cpu().numpy().tobytes())  # games differ
    deadline, stop = Deadline.after(time_limit), stop or Interruption()
    parts = game.x.split(_samples_at_once(game))
    found = []
    with progress_bar("shapley", MOVES * len(parts), shown=progress) as advance:
        for left, part in zip(range(len(parts), 0, -1), parts, strict=True):
            mine = deadline.portion(1 / left)
            run = _Run(game, part, seed, tolerance=tolerance, most=most)
            found.append(run.result(mine, advance, stop))
    ends = {one.stopped for one in found}
    order = ("an interrupt", "time limit", "permutations", "tolerance")
    weights = [len(part) / len(game.x) for part in parts]
    return Sample(
        values=torch.cat([one.values for one in found]),
        standard_error=torch.cat([one.standard_error for one in found]),
        evaluations=sum(w * one.evaluations for w, one in zip(weights, found, strict=True)),
        permutations=max(one.permutations for one in found),
        stopped=next(word for word in order if word in ends),
    )


def _seed(generator: torch.Generator | None) -> int:
    """Draw the number that all orders come from."""
    if generator is None:
        generator = torch.Generator()
        generator.set_state(torch.get_rng_state())
    return int(torch.randint(2**62, (), generator=generator, device=generator.device))


def _samples_at_once(game: Game) -> int:
    """Return the number of samples whose steps and polynomials fit the budget."""
    sub = game.model.layers[0].out_features
    return max(1, BUDGET // (len(game.rows) * sub * (game.size + count(sub))))


class _Run:
    """Samples that are worked at together, each until its errors are small enough.

    A sample's first round goes without a polynomial, its second with all of it, and the others
    with as much of it as the second shows to be best: three estimates, of which the more exact
    ones count more.
    """

    def __init__(self, game: Game, x: Tensor, seed: int, *, tolerance: float, most: int) -> None:
        self.walks = Walks(game, x)
        self.tolerance, self.most = tolerance, most
        self.generator = torch.Generator().manual_seed(seed)
        batch, self.rows, self.players, sub = self.walks.steps.shape
        self.pairs = max(2, math.ceil(LEAST / self.rows))  # of orders, for each row in a round
        self.looks = 2 * count(sub)  # evaluations for a polynomial
        self.met = self.rows  # of them, in a round
        self.surrogate: Surrogate | None = None
        self.seat = torch.full((batch,), -1, device=x.device)  # of a sample's polynomials in it
        self.share = x.new_ones(batch)  # of the polynomials that is used
        self.rounds = x.new_zeros(3, batch, 1)
        self.total = x.new_zeros(3, batch, self.players)
        self.spread = x.new_zeros(3, batch, self.players)
        self.known: tuple[Tensor, Tensor] | None = None  # values and errors of whole rounds

    def result(
        self, deadline: Deadline, advance: Callable[..., None], stop: Interruption
    ) -> Sample:
        """Work until a deadline; at least one round, and no more after an interrupt."""
        stopped, hurry = "an interrupt", stop.happened
        with stop.kept():
            stopped = self._work(Deadline.after(0.0) if hurry else deadline, advance)
        if self.known is None:
            raise KeyboardInterrupt
        return self._sample(*self.known, "an interrupt" if hurry else stopped)

    def _work(self, deadline: Deadline, advance: Callable[..., None]) -> str:
        """Go through rounds, and return what ended them."""
        who, moved = torch.arange(len(self.seat), device=self.seat.device), 0
        begun = time.monotonic()
        while True:
            met = len(who)
            self._round(who, deadline)
            self.known = self._estimate()
            worst = self.known[1].amax(1)
            who = (worst > self.tolerance).nonzero().flatten()  # none that is NaN
            now, done = time.monotonic(), int(self.rounds.sum(0).amax())
            round_time = (now - begun) * len(who) / met  # of the next, if it is as the last
            late = self.met < self.rows or deadline.left <= round_time
            stopped = self._stopped(who, done, late)
            place = 1.0
            if not stopped:
                gone = max(done * self._orders / self.most, deadline.spent)
                place = self._progress(worst[who], gone)
            move = max(0, int(MOVES * place) - moved)
            advance(move, note=f"error {float(worst.amax()):.2g}")
            moved += move
            if stopped:
                return stopped
            begun = now
            if done == 1 and self._rounds_of_a_fit * round_time < deadline.left:
                self._fit(who[self._pays(worst[who])])
                begun = time.monotonic()

    @property
    def _orders(self) -> int:
        """Orders of a sample in a round."""
        return 2 * self.pairs * self.met

    @property
    def _rounds_of_a_fit(self) -> float:
        """Plain rounds in the time of finding polynomials and of two rounds with them."""
        return self.looks / (2 * self.pairs * max(1, self.players - 1)) + 4

    def _stopped(self, who: Tensor, done: int, late: bool) -> str:
        """Return what ends the work; nothing when it goes on."""
        if not len(who):
            return "tolerance"
        if late:
            return "time limit"
        return "permutations" if (done + 1) * self._orders > self.most else ""

    def _progress(self, worst: Tensor, spent: float) -> float:
        """Return about how much of the work is done; errors fall with the root of the rounds."""
        return min(1.0, max(spent, float((self.tolerance / worst).square().amin())))

    def _pays(self, worst: Tensor) -> Tensor:
        """Tell where plain rounds to come cost more than polynomials and two rounds with them."""
        return (worst / max(self.tolerance, TINY)).square() - 1 > self._rounds_of_a_fit

    def _fit(self, who: Tensor) -> None:
        """Find the polynomials of samples."""
        if len(who):
            self.surrogate = fitted(self.walks, who)
            self.seat[who] = torch.arange(len(who), device=who.device)

    def _round(self, who: Tensor, deadline: Deadline) -> None:
        """Let every row meet some pairs of orders, the same for all samples."""
        shape = (self.rows, self.pairs, self.players)
        orders = torch.rand(shape, generator=self.generator).argsort(-1).to(who.device)
        if not float(self.rounds.sum()) and not self._has_time(orders, deadline):
            self._meet_few(who, orders, deadline)
            return
        seated = self.seat[who] >= 0
        self._meet(who[~seated], orders, None)
        self._meet(who[seated], orders, self.surrogate)

    def _has_time(self, orders: Tensor, deadline: Deadline) -> bool:
        """Try one sample against some rows, to tell whether all may meet in the time."""
        if deadline.left == math.inf or self.rows <= FEW:
            return True
        rows = torch.arange(FEW, device=self.seat.device)
        start = time.monotonic()
        self.walks.walk(self.seat.new_zeros(1), rows, orders[rows])
        trial = time.monotonic() - start
        return trial * len(self.seat) * self.rows / FEW < deadline.left

    def _meet_few(self, who: Tensor, orders: Tensor, deadline: Deadline) -> None:
        """Let samples meet rows drawn at random while there is time, each with one pair of orders.

        Errors follow from the spread between rows, as those of Student's t where these are few.
        Gains must add up to what all rows give: the less sure ones are moved the more.
        """
        drawn = torch.randperm(self.rows, generator=self.generator).to(who.device)
        gains: list[Tensor] = []
        while len(gains) < self.rows and (len(gains) < FEW or not deadline.passed):
            row = drawn[len(gains), None]
            at_once = self.walks.at_once(self.players)
            parts = [self.walks.walk(part, row, orders[row, :1]) for part in who.split(at_once)]
            gains.append(torch.cat([part.gains.mean(2)[:, 0] for part in parts]))
        self.met, self.pairs = len(gains), 1
        found = torch.stack(gains)
        variance = found.var(0) / self.met * (self.met - 1) / max(self.met - 3, 1)
        total = variance.sum(1, keepdim=True).clamp_min(TINY)
        missing = self.walks.rise.mean(1, keepdim=True) - found.mean(0).sum(1, keepdim=True)
        self.total[0] = found.mean(0) + variance / total * missing
        self.spread[0] = variance * (1 - variance / total)
        self.rounds[0] = 1

    def _meet(self, who: Tensor, orders: Tensor, surrogate: Surrogate | None) -> None:
        """Take in the gains of samples, with polynomials or without."""
        stage, rows = self._stage(who), torch.arange(self.rows, device=who.device)
        joint, own = self.share.new_zeros(2, len(self.seat))
        at_once = self.walks.at_once(self.pairs * self.players)
        for here, there in pairs(len(who), self.rows, at_once):
            one = who[here]
            walked = self.walks.walk(one, rows[there], orders[there])
            gains = walked.gains
            if surrogate is not None:
                change = surrogate.of(self.seat[one], rows[there]).correction(walked)
                apart = change - change.mean(2, keepdim=True)
                joint[one] += (apart * gains).sum((1, 2, 3))
                own[one] += apart.square().sum((1, 2, 3))
                gains = gains + self.share[one][:, None, None, None] * change
            self.total[stage[here], one] += gains.mean(2).sum(1) / self.rows
            self.spread[stage[here], one] += gains.var(2).sum(1) / (self.pairs * self.rows**2)
        self.rounds[stage, who] += 1
        first = who[stage == 1]
        self.share[first] = -joint[first] / own[first].clamp_min(TINY)

    def _stage(self, who: Tensor) -> Tensor:
        """Return which estimate a sample's next round belongs to."""
        met = self.rounds[1, who, 0] > 0
        return torch.where(self.seat[who] < 0, 0, 1 + met.long())

    def _estimate(self) -> tuple[Tensor, Tensor]:
        """Return values and standard errors, shape (batch, player)."""
        rounds = self.rounds.clamp_min(1)
        variances = self.spread / rounds**2
        weights = 1 / (variances.mean(2, keepdim=True) + TINY)
        weights = torch.where(self.rounds > 0, weights, 0.0)
        weights = weights / weights.sum(0)
        values = (weights * self.total / rounds).sum(0)
        return values, (weights**2 * variances).sum(0).sqrt()

    def _sample(self, values: Tensor, errors: Tensor, stopped: str) -> Sample:
        rounds = self.rounds.sum(0)
        looks = self.rows * self.looks * (self.seat >= 0).double().mean()
        walks = self._orders * (self.players - 1) * rounds.mean()
        still = (self.walks.steps == 0).all(3).all(1)  # whoever is the same in all rows
        return Sample(
            values=values.masked_fill(still, 0.0),
            standard_error=errors.masked_fill(still, 0.0),
            evaluations=float(walks + looks) + self.rows + 1,
            permutations=int(rounds.amax()) * self._orders,
            stopped=stopped,
        )
