"""Training by the epoch, as image classifiers are trained, with what may improve it as options."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from kanlens.model.network import KAN

__all__ = ["Recipe", "Trained", "parameters", "train"]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a network is trained.

    Attributes
    ----------
    epochs, batch : int
        Passes over the rows, and rows of one step.
    rate, decay : float
        Learning rate and weight decay of AdamW.
    schedule : {"exponential", "cosine"}
        The rate falls by `gamma` after each epoch, or along a cosine over all steps.
    gamma : float
        Of the exponential schedule.
    warmup : float
        Epochs in which the rate of the cosine schedule rises from zero.
    smoothing : float
        Of the labels.
    average : float
        Share of the old in a running average of the weights, which is what is tested; 0 for none.
    noise : float
        Deviation of noise added to the inputs of each step.
    shift : int
        Most pixels by which square images are moved in each step, at random along both axes.
    base, scaler : float, optional
        Constants that replace the initial base weights and spline scalers.
    bias : bool
        Whether biases are trained; efficient-kan has none.
    """

    epochs: int = 10
    batch: int = 64
    rate: float = 1e-3
    decay: float = 1e-4
    schedule: str = "exponential"
    gamma: float = 0.8
    warmup: float = 0.0
    smoothing: float = 0.0
    average: float = 0.0
    noise: float = 0.0
    shift: int = 0
    base: float | None = None
    scaler: float | None = None
    bias: bool = False

    def rate_at(self, step: int, per_epoch: int) -> float:
        """Return the learning rate of a step, of which an epoch has `per_epoch`.

        Examples
        --------
        >>> Recipe(rate=1.0).rate_at(25, 10)
        0.6400000000000001
        """
        if self.schedule == "exponential":
            return self.rate * self.gamma ** (step // per_epoch)
        rising = self.warmup * per_epoch
        if step < rising:
            return self.rate * (step + 1) / (rising + 1)
        done = (step - rising) / max(self.epochs * per_epoch - rising, 1)
        return self.rate * 0.5 * (1 + math.cos(math.pi * done))


@dataclass(frozen=True, kw_only=True, eq=False)
class Trained:
    """A trained network and its score after each epoch.

    Attributes
    ----------
    model : KAN
        The one that was tested: the averaged one where weights are averaged.
    scores : tuple of float
        Accuracy on the test rows, or R2, after each epoch.
    """

    model: KAN
    scores: tuple[float, ...]


def parameters(model: KAN) -> int:
    """Count the numbers that are trained.

    Examples
    --------
    >>> parameters(KAN([2, 1], grid_size=5))
    21
    """
    return sum(each.numel() for each in model.parameters() if each.requires_grad)


def train(
    model: KAN,
    rows: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor],
    recipe: Recipe,
    *,
    generator: torch.Generator,
    advance: Callable[..., None] = lambda *_, **__: None,
) -> Trained:
    """Train a model in place.

    Parameters
    ----------
    model : KAN
        Its inputs and outputs are taken as they are; its scaling is not set.
    rows, test : tuple of Tensor
        x (rows, in), and y: class codes (rows,) or targets (rows, out).
    recipe : Recipe
        How.
    generator : torch.Generator
        Draws the order of rows, noise and shifts.
    advance : callable
        Told after each epoch.

    Returns
    -------
    Trained

    Examples
    --------
    >>> x = torch.rand(64, 1)
    >>> rows = (x, x)
    >>> recipe = Recipe(epochs=2, batch=16)
    >>> len(train(KAN([1, 1]), rows, rows, recipe, generator=torch.Generator()).scores)
    2
    """
    _start(model, recipe)
    tested = copy.deepcopy(model) if recipe.average else model
    weights = [each for each in model.parameters() if each.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=recipe.rate, weight_decay=recipe.decay, fused=True)
    x, y = rows
    per_epoch = math.ceil(len(x) / recipe.batch)
    step, scores = 0, []
    for _ in range(recipe.epochs):
        for some, targets in _batches(x, y, recipe, generator):
            optimizer.param_groups[0]["lr"] = recipe.rate_at(step, per_epoch)
            optimizer.zero_grad()
            _loss(model(some), targets, recipe.smoothing).backward()
            optimizer.step()
            step += 1
            if recipe.average:
                _average(tested, model, recipe.average, step)
        scores.append(_score(tested, *test))
        advance(note=f"{scores[-1]:.4f}")
    return Trained(model=tested, scores=tuple(scores))


@torch.no_grad()
def _start(model: KAN, recipe: Recipe) -> None:
    for layer in model.layers:
        layer.bias.requires_grad_(recipe.bias)
        if recipe.base is not None:
            layer.base_weight.fill_(recipe.base)
        if recipe.scaler is not None:
            layer.spline_scaler.fill_(recipe.scaler)


def _batches(
    x: Tensor, y: Tensor, recipe: Recipe, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    for rows in torch.randperm(len(x), generator=generator).split(recipe.batch):
        some = x[rows]
        if recipe.shift:
            some = shifted(some, recipe.shift, generator)
        if recipe.noise:
            some = some + recipe.noise * torch.randn(some.shape, generator=generator)
        yield some, y[rows]


def shifted(images: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """Move square images, given as rows (batch, side * side), each by its own random step.

    What comes in at an edge has the smallest value of all pixels.

    Examples
    --------
    >>> shifted(torch.zeros(2, 9), 1, torch.Generator()).shape
    torch.Size([2, 9])
    """
    side = math.isqrt(images.shape[1])
    background = float(images.min())
    wide = F.pad(images.view(-1, side, side), [most] * 4, value=background)
    count = 2 * most + 1
    moves = torch.randint(count, (2, len(images)), generator=generator)  # (axis, batch)
    places = torch.arange(side)
    down, right = (move[:, None] + places for move in moves)  # (batch, side)
    batch = torch.arange(len(images))[:, None, None]
    return wide[batch, down[:, :, None], right[:, None, :]].flatten(1)


def _loss(output: Tensor, y: Tensor, smoothing: float) -> Tensor:
    if y.is_floating_point():
        return (output - y).square().mean()
    return F.cross_entropy(output, y, label_smoothing=smoothing)


@torch.no_grad()
def _average(tested: KAN, model: KAN, share: float, step: int) -> None:
    """Move the averaged weights towards the new ones, faster in the first steps."""
    share = min(share, (1 + step) / (10 + step))
    for mean, value in zip(tested.parameters(), model.parameters(), strict=True):
        mean.lerp_(value, 1 - share)


@torch.no_grad()
def _score(model: KAN, x: Tensor, y: Tensor) -> float:
    """Return the accuracy for class codes, R2 for numbers."""
    output = torch.cat([model(part) for part in x.split(2048)])
    if y.is_floating_point():
        return float(1 - (output - y).square().mean() / y.var(correction=0))
    return float((output.argmax(1) == y).double().mean())
