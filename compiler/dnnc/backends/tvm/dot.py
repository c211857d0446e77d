"""The products that kernels of linear layers are made of."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Dot:
    """The product that a machine is good at: `lanes` sums of `group` products each.

    inputs: what they are stored as; "uint8": 128 above their code. sums: vectors of sums that fit the registers beside
    a column of weights, and TVM's limit of 1024 bytes for what is on the stack. intrinsic: the tensor intrinsic that
    computes it, None for plain loops. rescale: the one that computes `fixed.rescale` of so many sums; taps: the one
    whose inputs are different for every sum, for depthwise convolutions.
    """

    lanes: int
    group: int = 1
    inputs: str = "int8"
    sums: int = 16
    intrinsic: str | None = None
    rescale: str | None = None
    taps: str | None = None

    @property
    def unsigned(self) -> bool:
        return self.inputs == "uint8"


PLAIN = Dot(4)
#: VPDPBUSD of AVX-512: sixteen sums of four products.
VNNI = Dot(
    16, 4, inputs="uint8", intrinsic="dnnc_vpdpbusd_512", rescale="dnnc_rescale_16", taps="dnnc_vpdpbusd_512_taps"
)
#: SDOT of Armv8.2's dot product extension: four sums of four products of signed bytes, which wrap and never saturate.
SDOT = Dot(4, 4, intrinsic="dnnc_sdot_128", taps="dnnc_sdot_128_taps")
#: VPMADDWD of AVX2: eight sums of two products of 16 bits.
PMADDWD = Dot(8, 2, inputs="int16", sums=12, intrinsic="dnnc_pmaddwd_256", taps="dnnc_pmaddwd_256_taps")
