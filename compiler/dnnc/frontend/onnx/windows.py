"""Convolution, pooling, resizing, BatchNormalization: everything that looks at an image."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, floor, prod

import numpy as np

from dnnc.errors import ModelError
from dnnc.frontend.onnx import view as views
from dnnc.frontend.onnx.context import Context
from dnnc.frontend.onnx.elementwise import affine
from dnnc.frontend.onnx.source import MAX_ELEMENTS, NotSupported, SourceNode
from dnnc.ir.op import Op
from dnnc.ir.types import Shape
from dnnc.ops.conv import Conv2D
from dnnc.ops.movement import Resize
from dnnc.ops.pool import AvgPool2D, MaxPool2D

#: The longest side of a resized image.
MAX_SIDE = 2**16

Pair = tuple[int, int]
Padding = tuple[int, int, int, int]


def _pair(values: Sequence[int]) -> Pair:
    """One or two spatial sizes as (height, width); a 1-D window has height 1."""
    if len(values) not in (1, 2):
        raise NotSupported(f"windows of {len(values)} dimensions; 1 and 2 are supported")
    return (1, int(values[0])) if len(values) == 1 else (int(values[0]), int(values[1]))


def _explicit_pads(node: SourceNode, spatial: int) -> tuple[Pair, Pair]:
    """(before, after) of (height, width) from the attribute `pads`."""
    pads = node.attribute("pads", (0,) * (2 * spatial))
    if len(pads) != 2 * spatial:
        raise NotSupported(f"{len(pads)} pads for {spatial} spatial dimensions")
    if min(pads) < 0:
        raise NotSupported(f"negative pads {pads}")
    if spatial == 1:
        return (0, pads[0]), (0, pads[1])
    return (pads[0], pads[1]), (pads[2], pads[3])


def _padding(node: SourceNode, size: Pair, kernel: Pair, stride: Pair, dilation: Pair, spatial: int) -> Padding:
    """(top, left, bottom, right) from `auto_pad` or `pads`."""
    mode = node.attribute("auto_pad", "NOTSET") or "NOTSET"
    if mode == "NOTSET":
        before, after = _explicit_pads(node, spatial)
        return (*before, *after)
    if mode == "VALID":
        return (0, 0, 0, 0)
    if mode not in ("SAME_UPPER", "SAME_LOWER"):
        raise NotSupported(f"auto_pad '{mode}'")
    first: list[int] = []
    last: list[int] = []
    for n, k, s, d in zip(size, kernel, stride, dilation, strict=True):
        total = max((-(-n // s) - 1) * s + d * (k - 1) + 1 - n, 0)
        small, large = total // 2, total - total // 2
        first.append(small if mode == "SAME_UPPER" else large)
        last.append(large if mode == "SAME_UPPER" else small)
    return first[0], first[1], last[0], last[1]


def _spatial(context: Context, name: str) -> tuple[str, Pair, int]:
    """The image behind a tensor, its height and width, and the number of spatial dimensions in ONNX."""
    tensor = context.view(name)
    value = context.image(tensor)
    height, width, _ = context.types[value].shape
    return value, (height, width), len(tensor.axes) - 2


def _set_image(context: Context, node: SourceNode, value: str, spatial: int) -> None:
    context.set(node.outputs[0], views.image(value, context.types[value].shape, spatial + 2))


def conv(context: Context, node: SourceNode) -> None:
    """Conv, with weights [O, I / group, (KH,) KW]."""
    weights = context.need_const(node.input(1), "weights")
    if weights.ndim not in (3, 4):
        raise NotSupported(f"a {weights.ndim - 2}-D convolution; 1-D and 2-D are supported")
    value, size, spatial = _spatial(context, node.input(0))
    if weights.ndim != spatial + 2:
        raise NotSupported(f"weights of shape {weights.shape} for an input of {spatial + 2} dimensions")
    if tuple(node.attribute("kernel_shape", weights.shape[2:])) != weights.shape[2:]:
        raise NotSupported(f"kernel_shape differs from its weights' shape {weights.shape}")
    kernel = _pair(weights.shape[2:])
    stride = _pair(node.attribute("strides", (1,) * spatial))
    dilation = _pair(node.attribute("dilations", (1,) * spatial))
    padding = _padding(node, size, kernel, stride, dilation, spatial)
    bias = context.need_const(node.input(2), "bias") if node.input(2) else np.zeros(len(weights))
    if bias.shape != (len(weights),):
        raise NotSupported(f"a bias of shape {bias.shape} for {len(weights)} output channels")
    image = weights if spatial == 2 else weights[:, :, None, :]
    params = {"weight": image.transpose(0, 2, 3, 1).astype(np.float32), "bias": bias.astype(np.float32)}
    constant = context.const(node.input(1))
    scale = constant.scale_of(0) if constant else None
    if scale is not None:
        params["weight_scale"] = scale
    op = Conv2D(stride, padding, dilation, node.attribute("group", 1))
    _set_image(context, node, context.emit(op, (value,), params), spatial)


def _ceil_overhang(size: Pair, kernel: Pair, stride: Pair, dilation: Pair, padding: Padding) -> Pair:
    """Positions beyond the padding that ceil_mode adds at the bottom and at the right."""
    extra: list[int] = []
    for axis in (0, 1):
        span = dilation[axis] * (kernel[axis] - 1) + 1
        padded = size[axis] + padding[axis] + padding[axis + 2]
        count = -(-(padded - span) // stride[axis]) + 1
        if (count - 1) * stride[axis] >= size[axis] + padding[axis]:
            count -= 1  # the last window would start in the padding behind the image
        extra.append(max((count - 1) * stride[axis] + span - padded, 0))
    return extra[0], extra[1]


def pool(context: Context, node: SourceNode) -> None:
    """MaxPool and AveragePool."""
    if len([o for o in node.outputs if o]) > 1:
        raise NotSupported("its second output (indices)")
    value, size, spatial = _spatial(context, node.input(0))
    kernel = _pair(node.attribute("kernel_shape", ()))
    stride = _pair(node.attribute("strides", (1,) * spatial))
    dilation = _pair(node.attribute("dilations", (1,) * spatial))
    padding = _padding(node, size, kernel, stride, dilation, spatial)
    if any(p >= d * (k - 1) + 1 for p, k, d in zip(padding, kernel * 2, dilation * 2, strict=True)):
        raise NotSupported(f"pads {padding} as large as its window {kernel}")
    overhang = (0, 0)
    if node.attribute("ceil_mode", 0) == 1 and node.attribute("auto_pad", "NOTSET") in ("", "NOTSET"):
        overhang = _ceil_overhang(size, kernel, stride, dilation, padding)
    op: Op
    if node.op == "MaxPool":
        full = (padding[0], padding[1], padding[2] + overhang[0], padding[3] + overhang[1])
        op = MaxPool2D(kernel, stride, full, dilation)
    else:
        if dilation != (1, 1):
            raise NotSupported(f"dilations {dilation}")
        counted = bool(node.attribute("count_include_pad", 0)) and any(padding)
        op = AvgPool2D(kernel, stride, padding, overhang, counted)
    _set_image(context, node, context.emit(op, (value,)), spatial)


def global_pool(context: Context, node: SourceNode) -> None:
    """GlobalAveragePool and GlobalMaxPool: a window as large as the image."""
    value, size, spatial = _spatial(context, node.input(0))
    op: Op = AvgPool2D(size, size) if node.op == "GlobalAveragePool" else MaxPool2D(size, size)
    _set_image(context, node, context.emit(op, (value,)), spatial)


def batch_norm(context: Context, node: SourceNode) -> None:
    """BatchNormalization at inference: a factor and a shift a channel, with the statistics that it promises."""
    if node.attribute("training_mode", 0) or len([o for o in node.outputs if o]) > 1:
        raise NotSupported("training mode")
    scale, bias, mean, variance = (
        context.need_const(node.input(i + 1), what).astype(np.float64)
        for i, what in enumerate(("scale", "bias", "mean", "variance"))
    )
    tensor = context.view(node.input(0))
    channels = tensor.shape[1:2] or (0,)
    if any(v.shape != channels for v in (scale, bias, mean, variance)):
        raise ModelError(f"its parameters do not fit the channels of {tensor.shape}")
    spread = variance + node.attribute("epsilon", 1e-5)
    if spread.min() <= 0:
        raise ModelError(f"the variance of channel {int(spread.argmin())} is {variance.min()}")
    factor = scale / np.sqrt(spread)
    if len(tensor.axes) in (3, 4):
        value = context.image(tensor)
        tensor = views.image(value, context.types[value].shape, len(tensor.axes))
    ones = (1,) * (len(tensor.axes) - 2)
    shaped = [v.reshape(-1, *ones) for v in (factor, bias - mean * factor)]
    statistics = {"bn_mean": bias, "bn_std": np.abs(scale)}
    context.set(node.outputs[0], affine(context, tensor, shaped[0], shaped[1], statistics))


def resize(context: Context, node: SourceNode) -> None:
    """Resize and Upsample by nearest neighbour, over height and width."""
    mode = node.attribute("mode", "nearest")
    if mode != "nearest":
        raise NotSupported(f"mode '{mode}'; only nearest is supported")
    tensor = context.view(node.input(0))
    rank = len(tensor.axes)
    if rank not in (3, 4):
        raise NotSupported(f"an input of shape {tensor.shape}; signals (rank 3) and images (rank 4) are supported")
    scales, sizes = _factors(context, node, tensor.shape)
    if any(scale != 1 or sizes[i] != tensor.shape[i] for i, scale in enumerate(scales) if i < 2):
        raise NotSupported("it resizes the batch or the channels")
    value = context.image(tensor)
    height, width, _ = context.types[value].shape
    extents, targets, factors = ((1, width), (1, sizes[2]), (1.0, scales[2]))
    if rank == 4:
        extents, targets, factors = (height, width), (sizes[2], sizes[3]), (scales[2], scales[3])
    rows, columns = (_nearest(node, n, m, f) for n, m, f in zip(extents, targets, factors, strict=True))
    emitted = context.emit(Resize(rows, columns), (value,))
    _set_image(context, node, emitted, rank - 2)


def _factors(context: Context, node: SourceNode, shape: Shape) -> tuple[list[float], list[int]]:
    """Scale and output size of every axis."""
    old = node.op == "Upsample" or node.opset < 11
    names = [node.input(1)] if old else [node.input(2), node.input(3)]
    given = [context.need_const(name, "scales or sizes") if name else np.zeros(0) for name in names]
    axes = [a % len(shape) for a in node.attribute("axes", tuple(range(len(shape))))]
    scales, sizes = [1.0] * len(shape), list(shape)
    if "scales" in node.attributes:
        given[0] = np.asarray(node.attribute("scales", (1.0,)))
    if given[0].size:
        if given[0].size != len(axes):
            raise NotSupported(f"{given[0].size} scales for {len(axes)} axes")
        for axis, scale in zip(axes, given[0].ravel(), strict=True):
            scales[axis] = float(scale)
            if not 0.0 < scales[axis] * shape[axis] < MAX_ELEMENTS:
                raise NotSupported(f"the scale {scales[axis]}")
            sizes[axis] = floor(shape[axis] * np.float32(scale))
    elif len(given) > 1 and given[1].size == len(axes):
        if node.attribute("keep_aspect_ratio_policy", "stretch") != "stretch":
            raise NotSupported("keep_aspect_ratio_policy")
        for axis, size in zip(axes, given[1].ravel(), strict=True):
            sizes[axis] = int(size) if np.isfinite(size) else 0
            scales[axis] = sizes[axis] / shape[axis]
    else:
        raise NotSupported("neither scales nor sizes")
    if min(sizes) < 1 or max(sizes) > MAX_SIDE or prod(sizes) >= MAX_ELEMENTS:
        raise NotSupported(f"an output of the shape {tuple(sizes)}")
    return scales, sizes


def _nearest(node: SourceNode, extent: int, target: int, scale: float) -> tuple[int, ...]:
    """The input position of every output position, as ONNX's Resize defines it."""
    legacy = node.op == "Upsample" or node.opset < 11
    mode = node.attribute("coordinate_transformation_mode", "asymmetric" if legacy else "half_pixel")
    rounding = node.attribute("nearest_mode", "floor" if legacy else "round_prefer_floor")
    if legacy:
        mode, rounding = "asymmetric", "floor"
    # In single precision, as onnxruntime does it: at ties it decides.
    positions = np.arange(target, dtype=np.float32)
    one, half, ratio = np.float32(1), np.float32(0.5), np.float32(scale)
    if extent == target and ratio == 1:
        return tuple(range(extent))
    if mode == "half_pixel":
        x = (positions + half) / ratio - half
    elif mode == "half_pixel_symmetric":
        adjustment = np.float32(target) / (ratio * np.float32(extent))
        x = np.float32(extent) * half * (one - adjustment) + (positions + half) / ratio - half
    elif mode == "pytorch_half_pixel":
        x = (positions + half) / ratio - half if target > 1 else positions * 0
    elif mode == "align_corners":
        x = positions * np.float32(extent - 1) / np.float32(target - 1) if target > 1 else positions * 0
    elif mode == "asymmetric":
        x = positions / ratio
    elif mode == "tf_half_pixel_for_nn":
        x = (positions + half) / ratio
    else:
        raise NotSupported(f"coordinate_transformation_mode '{mode}'")
    rounded = {
        "round_prefer_floor": lambda v: ceil(v - 0.5),
        "round_prefer_ceil": lambda v: floor(v + 0.5),
        "floor": floor,
        "ceil": ceil,
    }.get(rounding)
    if rounded is None:
        raise NotSupported(f"nearest_mode '{rounding}'")
    return tuple(min(max(int(rounded(float(v))), 0), extent - 1) for v in x)
