"""What every kind of layer offers to the analyses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

from torch import Tensor, nn

from kanlens.model.statistics import LayerStatistics

if TYPE_CHECKING:
    from kanlens.model.edge import Edge
    from kanlens.model.enclosures import Enclosure


@runtime_checkable
class EdgeLayer(Protocol):
    """What analyses ask of a layer, whatever its edges are made of.

    Edge arrays end in (out, in). `edge_values` has the mask in it and leaves the bias out.
    """

    in_features: int
    out_features: int
    bias: nn.Parameter
    mask: Tensor
    statistics: LayerStatistics | None

    def forward(self, x: Tensor) -> Tensor:
        """Map x (..., in) to (..., out)."""

    def edge_values(self, x: Tensor) -> Tensor:
        """Return phi_oi(x_i), shape (batch, out, in)."""

    def edge_derivatives(self, x: Tensor) -> Tensor:
        """Return phi_oi'(x_i), shape (batch, out, in)."""

    def breakpoints(self) -> Tensor:
        """Return where pieces meet, shape (in, n)."""

    @property
    def piece_degree(self) -> int | None:
        """Degree of the pieces, None when they are analytic but no polynomials."""

    @property
    def degrees_of_freedom(self) -> int:
        """Number of free coefficients of one edge."""

    def edge_bounds(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Bound every edge on an interval of each input (in,), or on boxes (box, in)."""

    def edge_slope_bounds(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Bound the slope of every edge likewise; infinite where nothing is known."""

    def enclosure(self, low: Tensor, high: Tensor) -> Enclosure:
        """Return what encloses edges and slopes on boxes within those given."""

    def edge(self, out: int, in_: int) -> Edge:
        """Return one edge as an exact object."""

    def outside(self, x: Tensor) -> Tensor:
        """Tell which values lie outside the grid, shape (batch, in)."""

    def weight_l1(self, x: Tensor | None = None) -> Tensor:
        """Return the L1 norm of each edge's weights, shape (out, in)."""
