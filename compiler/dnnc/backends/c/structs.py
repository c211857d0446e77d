"""The structs of kernels/generic/dnnc_kernels.h: what fits each field, and how large each struct is on 32-bit cores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

_SIZES = {"pointer": 4, "uint32_t": 4, "int32_t": 4, "uint16_t": 2, "int16_t": 2, "uint8_t": 1}


@dataclass(frozen=True)
class Field:
    """One member. type: a C integer type, "pointer" or the name of another struct; count: elements of an array."""

    name: str
    type: str
    count: int = 1

    @property
    def range(self) -> tuple[int, int]:
        """Smallest and largest value of an integer member."""
        bits = 8 * _SIZES[self.type]
        return (0, 2**bits - 1) if self.type.startswith("u") else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def _fields(*declarations: str) -> tuple[Field, ...]:
    """From "type name name[4] ..." texts."""
    found = []
    for declaration in declarations:
        kind, *names = declaration.split()
        for name in names:
            base, _, count = name.rstrip("]").partition("[")
            found.append(Field(base, kind, int(count or 1)))
    return tuple(found)


_STRIDED = ("uint32_t size[4] stride_a[4] stride_b[4]",)

STRUCTS: Mapping[str, tuple[Field, ...]] = {
    "dnnc_linear_t": _fields(
        "pointer weights bias multiplier channels",
        "uint32_t scales",
        "uint16_t in_h in_w in_c in_stride out_h out_w out_c out_stride groups kernel_h kernel_w stride_h stride_w",
        "uint16_t dilation_h dilation_w pad_top pad_left blocks",
        "int16_t in_zero out_zero lo hi",
        "uint8_t left_shift",
    ),
    "dnnc_sparse_t": _fields(
        "pointer weights tables",
        "uint16_t in_h in_w in_c out_h out_w out_c groups rows",
        "int16_t in_zero out_zero lo hi",
        "uint8_t kernel_h kernel_w stride_h stride_w dilation_h dilation_w pad_top pad_left bits gap_bits",
        "uint8_t left_shift bias_shift multiplier_shift wide",
    ),
    "dnnc_straight_t": _fields("pointer tables"),
    "dnnc_add_t": _fields(*_STRIDED, "int32_t multiplier_a multiplier_b offset", "int16_t lo hi", "uint8_t shift"),
    "dnnc_mul_t": _fields(
        *_STRIDED, "int32_t multiplier", "int16_t zero_a zero_b zero_y lo hi", "uint8_t left_shift"
    ),
    "dnnc_pointwise_t": _fields("pointer table", "uint32_t size", "int16_t lo"),
    "dnnc_prelu_t": _fields(
        "pointer negative", "int32_t positive", "uint32_t rows", "uint16_t channels step",
        "int16_t in_zero out_zero lo hi", "uint8_t left_shift",
    ),
    "dnnc_window_t": _fields(
        "uint16_t in_h in_w channels out_h out_w kernel_h kernel_w stride_h stride_w dilation_h dilation_w",
        "uint16_t pad_top pad_left",
    ),
    "dnnc_maxpool_t": _fields("dnnc_window_t window", "int16_t lowest"),
    "dnnc_avgpool_t": _fields(
        "dnnc_window_t window", "pointer count multiplier",
        "int32_t count_top count_bottom count_left count_right",
        "int16_t in_zero out_zero lo hi", "uint8_t left_shift",
    ),
    "dnnc_mean_t": _fields(
        "uint32_t kept[3] kept_stride[3] reduced[3] reduced_stride[3]", "int32_t multiplier zeros",
        "int16_t out_zero lo hi", "uint8_t left_shift",
    ),
    "dnnc_softmax_t": _fields("pointer table", "uint32_t rows", "uint16_t classes", "int16_t lo", "uint8_t bits"),
    "dnnc_copy_t": _fields("uint32_t size[4] stride_x[4] stride_y[4]"),
    "dnnc_fill_t": _fields("uint32_t size", "int16_t value"),
    "dnnc_resize_t": _fields("pointer rows columns", "uint16_t in_w out_h out_w channels"),
}  # fmt: skip


def _layout(struct: str) -> tuple[int, int]:
    """(bytes, alignment) where pointers have 4 bytes."""
    size = widest = 0
    for field in STRUCTS[struct]:
        length, alignment = (_SIZES[field.type],) * 2 if field.type in _SIZES else _layout(field.type)
        size = -(-size // alignment) * alignment + field.count * length
        widest = max(widest, alignment)
    return -(-size // widest) * widest, widest


def struct_bytes(struct: str) -> int:
    """sizeof on a 32-bit core."""
    return _layout(struct)[0]
