"""A joint law of features with given marginals: the Gaussian copula of some rows."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

NARROW = 1e-9  # a conditional deviation below this is a point


@dataclass(frozen=True, kw_only=True, eq=False)
class GaussianCopula:
    """Features that are monotone functions of jointly normal scores.

    The marginal of a feature is the rows' own: the k-th smallest value holds the probability 1/n,
    and the scores between the quantiles k/n and (k+1)/n of the standard normal law. Only the
    dependence is normal.

    Attributes
    ----------
    sorted : Tensor, shape (row, in)
        Values of each feature, increasing.
    order : Tensor, shape (row, in)
        Which row each of them stands in.
    correlation : Tensor, shape (in, in)
        Of the normal scores; 0 for features that do not vary.

    References
    ----------
    .. [1] A. Sklar, Fonctions de repartition a n dimensions et leurs marges, 1959.
    .. [2] K. Aas, M. Jullum, A. Loland, Explaining individual predictions when features are
       dependent, 2021, section 3.3.
    """

    sorted: Tensor
    order: Tensor
    correlation: Tensor

    @classmethod
    def of(cls, rows: Tensor) -> GaussianCopula:
        """Fit the law to rows (row, in).

        Examples
        --------
        >>> law = GaussianCopula.of(torch.tensor([[0.0, 0.0], [1.0, 2.0], [2.0, 4.0]]).double())
        >>> law.correlation.round(decimals=6)
        tensor([[1., 1.],
                [1., 1.]], dtype=torch.float64)
        """
        values, order = rows.sort(dim=0, stable=True)
        law = cls(sorted=values, order=order, correlation=torch.eye(rows.shape[1]).to(rows))
        scores = law.scores(rows)
        centred = scores - scores.mean(0)
        size = centred.square().sum(0).sqrt()
        unit = torch.where(size > 0, centred / torch.where(size > 0, size, 1.0), 0.0)
        correlation = unit.mT @ unit
        correlation.fill_diagonal_(1.0)
        return cls(sorted=values, order=order, correlation=correlation)

    def scores(self, x: Tensor) -> Tensor:
        """Return the normal scores of x (batch, in).

        Equal values share the middle of their probabilities; between two values the probability
        is linear, and beyond the rows' range it is that of the outermost row.
        """
        n = len(self.sorted)
        held, wanted = self.sorted.mT.contiguous(), x.mT.contiguous()  # (in, row), (in, batch)
        below = torch.searchsorted(held, wanted, right=False)
        upto = torch.searchsorted(held, wanted, right=True)
        left = held.gather(1, (below - 1).clamp_min(0))
        right = held.gather(1, upto.clamp_max(n - 1))
        way = ((wanted - left) / torch.where(right > left, right - left, 1.0)).clamp(0, 1)
        between = self._middle(left, held) * (1 - way) + self._middle(right, held) * way
        chance = torch.where(upto > below, (below + upto) / (2 * n), between)
        found: Tensor = torch.special.ndtri(chance.clamp(0.5 / n, 1 - 0.5 / n)).mT
        return found

    @staticmethod
    def _middle(values: Tensor, held: Tensor) -> Tensor:
        """Return the middle of the probabilities of values that are among those held."""
        low = torch.searchsorted(held, values.contiguous(), right=False)
        high = torch.searchsorted(held, values.contiguous(), right=True)
        return (low + high) / (2 * held.shape[1])

    def given(self, scores: Tensor, known: list[int], feature: int) -> Tensor:
        """Return the law of a feature when others are known.

        Parameters
        ----------
        scores : Tensor, shape (batch, in)
            Normal scores of the samples.
        known : list of int
            Features that are known; `feature` is not among them.
        feature : int

        Returns
        -------
        Tensor, shape (batch, row)
            Probability of each of the sorted values of the feature; rows sum to 1.

        Examples
        --------
        >>> law = GaussianCopula.of(torch.rand(4, 2).double())
        >>> law.given(torch.zeros(1, 2).double(), [], 0)
        tensor([[0.2500, 0.2500, 0.2500, 0.2500]], dtype=torch.float64)
        """
        n = len(self.sorted)
        if not known:
            return scores.new_full((len(scores), n), 1 / n)
        among = self.correlation[known][:, known]
        toward = self.correlation[known, feature]
        slopes = torch.linalg.pinv(among, hermitian=True) @ toward
        mean = scores[:, known] @ slopes
        deviation = (1 - float(toward @ slopes)) ** 0.5 if float(toward @ slopes) < 1 else 0.0
        ends = torch.arange(n + 1, dtype=scores.dtype, device=scores.device) / n
        places = torch.special.ndtri(ends)  # infinite at both ends
        reduced = (places - mean[:, None]) / max(deviation, NARROW)
        chances: Tensor = torch.special.ndtr(reduced).diff(dim=1)
        return chances
