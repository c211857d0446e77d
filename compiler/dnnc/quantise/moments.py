"""Second moments of what the weights of a linear layer multiply: the metric in which their errors count."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch

from dnnc.ir.graph import Node
from dnnc.ops.conv import Conv2D

#: Rows (output positions) a layer is sampled at, per weight of an output channel, and the limits of their number.
_ROWS_PER_WEIGHT = 4
_ROWS = (4096, 9216)
#: Beyond this many weights an output channel only the diagonal is kept.
MAX_FULL = 2560
#: Added to the covariance's diagonal, as a share of its mean: directions not seen must not be free.
DAMPING = 0.01


@dataclass(frozen=True, eq=False)
class Moments:
    """Of the input x [K] of one group of output channels: mean [G, K] and covariance [G, K, K] (or [G, K], diagonal).

    Centred, because bias correction removes what an error does to the mean.
    """

    mean: torch.Tensor
    covariance: torch.Tensor

    @property
    def full(self) -> bool:
        return self.covariance.dim() == 3

    @cached_property
    def factor(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(U [G, K, K] upper triangular with U^T U the inverse of the damped covariance, the order [G, K] of its
        columns: decreasing variance). Only where `full`.
        """
        matrix = self.covariance.double()
        diagonal = matrix.diagonal(dim1=1, dim2=2)
        damping = DAMPING * diagonal.mean(dim=1, keepdim=True) + 1e-12
        order = torch.argsort(diagonal, dim=1, descending=True, stable=True)
        k = matrix.shape[1]
        matrix = matrix + damping[..., None] * torch.eye(k, dtype=torch.float64)
        matrix = torch.gather(matrix, 1, order[:, :, None].expand(-1, -1, k))
        matrix = torch.gather(matrix, 2, order[:, None, :].expand(-1, k, -1))
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(matrix))
        return torch.linalg.cholesky(inverse, upper=True).float(), order

    @property
    def diagonal(self) -> torch.Tensor:
        """[G, K]"""
        return self.covariance.diagonal(dim1=1, dim2=2) if self.full else self.covariance


class MomentSum:
    """Gathers the moments of one node batch by batch."""

    def __init__(self, node: Node, batches: int) -> None:
        self.node = node
        weight = node.params["weight"]
        groups = node.op.groups if isinstance(node.op, Conv2D) else 1
        self.groups, self.k = groups, weight[0].size
        wanted = min(max(_ROWS_PER_WEIGHT * self.k, _ROWS[0]), _ROWS[1])
        self.rows = -(-wanted // batches)
        self.count = 0
        self.sum = torch.zeros(groups, self.k, dtype=torch.float64)
        shape = (groups, self.k, self.k) if self.k <= MAX_FULL else (groups, self.k)
        self.square = torch.zeros(shape)
        self.origin: torch.Tensor | None = None

    def add(self, x: torch.Tensor, generator: torch.Generator) -> None:
        """x: the node's input [N, *shape]."""
        rows = sample_rows(self.node, x, self.rows, generator).permute(1, 0, 2)
        if self.origin is None:
            # Sums around the first batch's mean: those around zero would cancel where a mean exceeds its deviation.
            self.origin = rows.mean(dim=1, keepdim=True)
        rows = rows - self.origin
        self.count += rows.shape[1]
        self.sum += rows.sum(dim=1, dtype=torch.float64)
        if self.square.dim() == 3:
            self.square.baddbmm_(rows.transpose(1, 2), rows)
        else:
            self.square += (rows * rows).sum(dim=1)

    def finish(self) -> Moments:
        mean = self.sum / max(self.count, 1)
        second = self.square.double() / max(self.count, 1)
        outer = mean[:, :, None] * mean[:, None, :] if second.dim() == 3 else mean * mean
        covariance = (second - outer).float()
        return Moments((mean if self.origin is None else mean + self.origin[:, 0]).float(), covariance)


def sample_rows(node: Node, x: torch.Tensor, rows: int, generator: torch.Generator) -> torch.Tensor:
    """At most `rows` of the vectors that the weights multiply, [rows, G, K], K in the order of the weights."""
    if not isinstance(node.op, Conv2D):
        flat = x.reshape(-1, 1, x.shape[-1])
        return flat if len(flat) <= rows else flat[torch.randperm(len(flat), generator=generator)[:rows]]
    patches = patch_view(node, x)
    positions = patches.shape[0] * patches.shape[1] * patches.shape[2]
    pick = torch.arange(positions) if positions <= rows else torch.randperm(positions, generator=generator)[:rows]
    per_image = patches.shape[1] * patches.shape[2]
    image, place = pick // per_image, pick % per_image
    found = patches[image, place // patches.shape[2], place % patches.shape[2]]
    groups, (_, kernel_h, kernel_w, depth) = node.op.groups, node.params["weight"].shape
    found = found.reshape(-1, kernel_h, kernel_w, groups, depth).permute(0, 3, 1, 2, 4)
    return found.reshape(len(pick), groups, -1)


def patch_view(node: Node, x: torch.Tensor) -> torch.Tensor:
    """A view [N, OH, OW, KH, KW, C] of the padded input [N, H, W, C] of a convolution."""
    op = node.op
    if not isinstance(op, Conv2D):
        raise TypeError(f"'{node.name}' is no convolution")
    top, left, bottom, right = op.padding
    padded = torch.nn.functional.pad(x, (0, 0, left, right, top, bottom)) if any(op.padding) else x
    _, kernel_h, kernel_w, _ = node.params["weight"].shape
    span_h, span_w = op.dilation[0] * (kernel_h - 1) + 1, op.dilation[1] * (kernel_w - 1) + 1
    view = padded.unfold(1, span_h, op.stride[0]).unfold(2, span_w, op.stride[1])
    view = view[..., :: op.dilation[0], :: op.dilation[1]]
    return view.permute(0, 1, 2, 4, 5, 3)
