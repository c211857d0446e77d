"""The products that kernels of linear layers are made of."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Dot:
    """The product that a machine is good at: `lanes` sums of `group` products each.

    unsigned: inputs are bytes 0..255, 128 above their code. intrinsic: the tensor intrinsic that computes it, None for
    plain loops. rescale: the one that computes `fixed.rescale` of so many sums;
    taps: the one whose inputs are different for every sum, for depthwise convolutions.
    """

    lanes: int
    group: int = 1
    unsigned: bool = False
    intrinsic: str | None = None
    rescale: str | None = None
    taps: str | None = None


PLAIN = Dot(4)
#: VPDPBUSD of AVX-512: sixteen sums of four products.
VNNI = Dot(
    16, 4, unsigned=True, intrinsic="dnnc_vpdpbusd_512", rescale="dnnc_rescale_16", taps="dnnc_vpdpbusd_512_taps"
)
#: SDOT of Armv8.2's dot product extension: four sums of four products of signed bytes, which wrap and never saturate.
SDOT = Dot(4, 4, intrinsic="dnnc_sdot_128", taps="dnnc_sdot_128_taps")
