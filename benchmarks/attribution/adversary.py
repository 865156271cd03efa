"""An adversary: tries to break every claim of a certificate."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from kanlens.certificates._statements import (
    Certificate,
    FeatureCertificate,
    OutputCertificate,
)
from kanlens.model._analysis import float64_copy
from kanlens.model._network import KAN

NOISE = 1e-12  # of an evaluation in float64, next to the size of the values


@dataclass(kw_only=True, eq=False)
class Attack:
    """Attempts on the claims about one output: those `broken`, and the number of evaluations."""

    model: KAN
    domain: Tensor
    claim: OutputCertificate
    generator: torch.Generator
    broken: list[str] = field(default_factory=list)
    attempts: int = 0

    @property
    def target(self) -> int:
        """Index of the output."""
        return self.model.output_names.index(self.claim.target)

    def run(self, points: int) -> Attack:
        """Attack every claim from so many points, and along gradients from some of them."""
        starts = self.draw(points)
        x = torch.cat([starts, self.climb(starts[: points // 16], 6)])
        value, slope = self.evaluate(x)
        size = NOISE * (1 + float(value.nan_to_num(0).abs().max()))
        self.check_values(x, value, size)
        self.check_slopes(slope, size)
        self.check_moves(x, value, size)
        self.check_features(x, value, size)
        return self

    def draw(self, count: int) -> Tensor:
        """Uniform points, points on faces and corners, and points on knots."""
        low, high = self.domain.unbind(1)
        share = torch.rand(count, len(low), generator=self.generator, dtype=torch.float64)
        pick = torch.rand(count, len(low), generator=self.generator)
        ends = (share > 0.5).double()
        x = low + (high - low) * torch.where(pick < 0.25, ends, share)
        cuts = self.model.layers[0].breakpoints()
        index = torch.randint(cuts.shape[1], x.shape, generator=self.generator)
        knot = cuts.gather(1, index.mT).mT * self.model.input_scale + self.model.input_shift
        return torch.where((pick > 0.85) & (knot >= low) & (knot <= high), knot, x).clamp(low, high)

    def climb(self, x: Tensor, steps: int) -> Tensor:
        """Signed gradient steps up and down, inside the domain."""
        low, high = self.domain.unbind(1)
        found = []
        for sign in (1.0, -1.0):
            now = x
            for step in range(steps):
                _, slope = self.evaluate(now)
                move = sign * slope.nan_to_num(0).sign() * (high - low) * 0.4 * 0.6**step
                now = (now + move).clamp(low, high)
                found.append(now)
        return torch.cat(found)

    def evaluate(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the output (batch,) and its gradient (batch, in)."""
        self.attempts += len(x)
        with torch.enable_grad():
            point = x.clone().requires_grad_()
            y = self.model(point)[:, self.target]
            (slope,) = torch.autograd.grad(y.sum(), point)
        return y.detach(), slope

    def value(self, x: Tensor) -> Tensor:
        """Return the output (batch,)."""
        self.attempts += len(x)
        with torch.no_grad():
            y: Tensor = self.model(x)[:, self.target]
        return y

    def refuse(self, name: str, bad: Tensor) -> None:
        """Note a claim that does not hold at some point."""
        if bool(bad.any()):
            self.broken.append(name)

    def check_values(self, x: Tensor, value: Tensor, size: float) -> None:
        """Attack the range and the distance from an additive function."""
        span, near = self.claim.range, self.claim.additivity
        finite = abs(span.low) < float("inf") and abs(span.high) < float("inf")
        self.refuse("defined", value.isnan() & finite)
        self.refuse("range", (value < span.low - size) | (value > span.high + size))
        apart = (value - near.function(x)).abs()
        self.refuse("additivity", apart > near.distance.bound + 4 * size)
        half = len(x) // 2
        one, two, first, second = x[:half], x[half : 2 * half], value[:half], value[half : 2 * half]
        swap = torch.rand(one.shape, generator=self.generator) < 0.5
        mixed = self.value(torch.where(swap, one, two)) + self.value(torch.where(swap, two, one))
        gap = (first + second - mixed).abs() / 4
        self.refuse("additivity by mixed differences", gap > near.distance.bound + 4 * size)

    def check_slopes(self, slope: Tensor, size: float) -> None:
        """Attack the slopes, and Lipschitz constants by gradients."""
        room = 1e-10 * (1 + slope.nan_to_num(0).abs().amax(0)) + size
        low = torch.tensor([one.slope.low for one in self.claim.features], dtype=torch.float64)
        high = torch.tensor([one.slope.high for one in self.claim.features], dtype=torch.float64)
        good = torch.isfinite(slope)
        self.refuse("slope", good & ((slope < low - room) | (slope > high + room)))
        sizes = slope.nan_to_num(0.0, posinf=0.0, neginf=0.0)
        for norm, dual in (("2", 2), ("inf", 1), ("1", float("inf"))):
            steep = sizes.norm(dual, dim=1)
            bound = self.claim.lipschitz[norm].bound
            self.refuse(f"gradient {norm}", steep > bound * (1 + 1e-10) + room.max())

    def check_moves(self, x: Tensor, value: Tensor, size: float) -> None:
        """Attack Lipschitz constants by pairs of points."""
        half = len(x) // 2
        change = (value[:half] - value[half : 2 * half]).abs()
        for norm in ("2", "inf", "1"):
            distance = (x[:half] - x[half : 2 * half]).norm(float(norm), dim=1)
            far = change > self.claim.lipschitz[norm].bound * distance + 2 * size
            self.refuse(f"lipschitz {norm}", far & (distance > 0))

    def check_features(self, x: Tensor, value: Tensor, size: float) -> None:
        """Attack effects and verdicts by moving one feature at a time."""
        low, high = self.domain.unbind(1)
        rows = x[torch.randperm(len(x), generator=self.generator)]
        for index, one in enumerate(self.claim.features):
            moved = x.clone()
            step = rows[:, index] - x[:, index]
            small = torch.rand(len(x), generator=self.generator) < 0.3
            moved[:, index] = (x[:, index] + torch.where(small, 1e-3 * step, step)).clamp(
                low[index], high[index]
            )
            rise = (self.value(moved) - value) * (moved[:, index] - x[:, index]).sign()
            self.refuse(f"rises {one.name}", rise > one.rises.bound + 2 * size)
            self.refuse(f"falls {one.name}", -rise > one.falls.bound + 2 * size)
            self.refuse(
                f"increasing {one.name}", (one.verdict == "increasing") & (rise < -2 * size)
            )
            self.refuse(f"decreasing {one.name}", (one.verdict == "decreasing") & (rise > 2 * size))
            still = one.verdict == "constant"
            limit = 1e-8 * max(abs(self.claim.range.low), abs(self.claim.range.high))
            self.refuse(f"constant {one.name}", still & (rise.abs() > limit + 2 * size))
            self.refuse(f"pairs {one.name}", torch.tensor(not self._pairs_hold(one, index)))

    def _pairs_hold(self, one: FeatureCertificate, index: int) -> bool:
        """Tell whether the points of a pair differ in one feature only, and were evaluated."""
        low, high = self.domain.unbind(1)
        for pair in (one.rise, one.fall):
            others = torch.ones(len(low), dtype=torch.bool)
            others[index] = False
            same = torch.equal(pair.x[0, others], pair.x[1, others])
            ordered = bool(pair.x[0, index] <= pair.x[1, index])
            inside = bool(((pair.x >= low) & (pair.x <= high)).all())
            again = torch.allclose(self.value(pair.x), pair.value, rtol=1e-9, equal_nan=True)
            if not (same and ordered and inside and again):
                return False
        if one.verdict == "neither":
            return one.rise.rise > 0 > one.fall.rise
        return True


def broken(
    model: KAN, certificate: Certificate, generator: torch.Generator, points: int
) -> tuple[list[str], int]:
    """Return the claims that an attack broke, and how many evaluations it made."""
    names: list[str] = []
    attempts = 0
    for claim in certificate.outputs:
        attack = Attack(
            model=float64_copy(model), domain=certificate.domain, claim=claim, generator=generator
        ).run(points)
        names += attack.broken
        attempts += attack.attempts
    return names, attempts
