"""Operators that move, join or cut tensors: most of them only relabel the axes of a view."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate, pairwise
from math import prod

import numpy as np

from dnnc.errors import ModelError
from dnnc.frontend.onnx import view as views
from dnnc.frontend.onnx.context import Blocked, Context, Pieces, Unknown
from dnnc.frontend.onnx.elementwise import match
from dnnc.frontend.onnx.source import MAX_ELEMENTS, Const, NotSupported, SourceNode
from dnnc.frontend.onnx.view import View
from dnnc.ir.types import Shape
from dnnc.ops.movement import Concat, Pad, Slice


def normalise_axis(axis: int, rank: int) -> int:
    """An ONNX axis counted from the front. Raises ModelError where there is no such axis."""
    if not -rank <= axis < rank:
        raise ModelError(f"axis {axis} of a tensor of {rank} dimensions")
    return axis % rank


def _axes(context: Context, node: SourceNode, index: int) -> tuple[int, ...] | None:
    """Axes given as an attribute (older opsets) or as an input; None where they are left out."""
    if "axes" in node.attributes:
        return node.ints("axes")
    return context.integers(node.input(index), "axes") if node.input(index) else None


# --- relabelling -----------------------------------------------------------------------------------------------------


def transpose(context: Context, node: SourceNode) -> None:
    view = context.view(node.input(0))
    rank = len(view.axes)
    perm = tuple(node.attribute("perm", tuple(reversed(range(rank)))))
    if sorted(perm) != list(range(rank)):
        raise ModelError(f"{perm} is no permutation of {rank} axes")
    context.set(node.outputs[0], view.permute(perm))


def reshaped(context: Context, view: View, shape: Shape) -> View:
    """The view under another ONNX shape; memory moves only where relabelling cannot do it."""
    if prod(shape) != prod(view.shape):
        raise ModelError(f"{view.shape} cannot be reshaped to {shape}")
    found = views.regroup(view, shape)
    if found is None:
        found = views.regroup(context.natural(view), shape)
    return context.natural(view, shape) if found is None else found


def reshape(context: Context, node: SourceNode) -> None:
    """Reshape, with 0 (keep) and -1 (whatever is left)."""
    view = context.view(node.input(0))
    target = node.ints("shape") if "shape" in node.attributes else context.integers(node.input(1), "shape")
    sizes = list(target)
    if not node.attribute("allowzero", 0):
        for i, size in enumerate(sizes):
            if size == 0:
                sizes[i] = view.shape[normalise_axis(i, len(view.shape))]
    if sizes.count(-1) > 1 or min(sizes, default=1) < -1 or 0 in sizes:
        raise ModelError(f"{view.shape} cannot be reshaped to {tuple(target)}")
    if -1 in sizes:
        known = prod(s for s in sizes if s != -1)
        sizes[sizes.index(-1)] = prod(view.shape) // known
    # A model exported for another batch (0 or -1 missing) would multiply sizes wrongly: reshaped() checks the product.
    context.set(node.outputs[0], reshaped(context, view, tuple(sizes)))


def flatten(context: Context, node: SourceNode) -> None:
    view = context.view(node.input(0))
    rank = len(view.axes)
    axis = node.attribute("axis", 1)
    axis = rank if axis == rank else normalise_axis(axis, rank)
    context.set(node.outputs[0], reshaped(context, view, (prod(view.shape[:axis]), prod(view.shape[axis:]))))


def squeeze(context: Context, node: SourceNode) -> None:
    view = context.view(node.input(0))
    given = _axes(context, node, 1)
    if given is None:
        drop = {i for i, size in enumerate(view.shape) if size == 1}
    else:
        drop = {normalise_axis(a, len(view.axes)) for a in given}
    if any(view.shape[i] != 1 for i in drop):
        raise ModelError(f"axes {sorted(drop)} of {view.shape} are not all 1")
    context.set(node.outputs[0], replace(view, axes=tuple(g for i, g in enumerate(view.axes) if i not in drop)))


def unsqueeze(context: Context, node: SourceNode) -> None:
    view = context.view(node.input(0))
    given = _axes(context, node, 1) or ()
    rank = len(view.axes) + len(given)
    added = {normalise_axis(a, rank) for a in given}
    if len(added) != len(given):
        raise ModelError(f"axes {given} name one axis twice")
    rest = iter(view.axes)
    context.set(node.outputs[0], replace(view, axes=tuple(() if i in added else next(rest) for i in range(rank))))


def expand(context: Context, node: SourceNode) -> None:
    """Expand, as far as it only adds axes of size 1."""
    view = context.view(node.input(0))
    shape = context.integers(node.input(1), "shape")
    try:
        full = np.broadcast_shapes(view.shape, shape)
    except ValueError:
        raise ModelError(f"{view.shape} cannot be expanded to {shape}") from None
    if prod(full) != prod(view.shape):
        raise NotSupported(f"it repeats {view.shape} to {full}")
    context.set(node.outputs[0], view.in_rank(len(full)))


def shape_of(context: Context, node: SourceNode) -> None:
    """Shape of a computed tensor: a constant, because all shapes are."""
    shape = context.shape(node.input(0))
    rank = len(shape)
    start, end = node.attribute("start", 0), node.attribute("end", rank)
    context.set(node.outputs[0], Const(np.array(shape[slice(start, end)], np.int64)))


def size_of(context: Context, node: SourceNode) -> None:
    context.set(node.outputs[0], Const(np.array(prod(context.shape(node.input(0))), np.int64)))


def depth_to_space(context: Context, node: SourceNode) -> None:
    view = context.view(node.input(0))
    block = node.attribute("blocksize", 1)
    if len(view.axes) != 4:
        raise NotSupported(f"an input of shape {view.shape}")
    n, c, h, w = view.shape
    if node.op == "DepthToSpace":
        if c % block**2:
            raise ModelError(f"{c} channels cannot be cut into blocks of {block}x{block}")
        depth = c // block**2
        if node.attribute("mode", "DCR") == "DCR":
            cut = reshaped(context, view, (n, block, block, depth, h, w)).permute((0, 3, 4, 1, 5, 2))
        else:
            cut = reshaped(context, view, (n, depth, block, block, h, w)).permute((0, 1, 4, 2, 5, 3))
        context.set(node.outputs[0], reshaped(context, cut, (n, depth, h * block, w * block)))
        return
    if h % block or w % block:
        raise ModelError(f"an image of {h}x{w} cannot be cut into blocks of {block}x{block}")
    cut = reshaped(context, view, (n, c, h // block, block, w // block, block)).permute((0, 3, 5, 1, 2, 4))
    context.set(node.outputs[0], reshaped(context, cut, (n, c * block**2, h // block, w // block)))


# --- cutting and joining ---------------------------------------------------------------------------------------------


def cut(context: Context, view: View, spans: dict[int, tuple[int, int, int]]) -> View:
    """Elements start, start + step, ... below stop along each of these ONNX axes."""
    shape = view.shape
    spans = {a: span for a, span in spans.items() if span != (0, shape[a], 1)}
    for axis, (start, stop, step) in spans.items():
        if step < 1:
            raise NotSupported(f"a step of {step}")
        if not 0 <= start < stop <= shape[axis]:
            raise ModelError(f"elements {start}..{stop} of axis {axis} of {shape}: nothing is left")
    if not spans:
        return view
    view = context.isolate(view, sorted(spans))
    dims = context.types[view.value].shape
    by_dim = {view.axes[axis][0]: span for axis, span in spans.items()}
    full = [by_dim.get(i, (0, size, 1)) for i, size in enumerate(dims)]
    op = Slice(tuple(f[0] for f in full), tuple(f[1] for f in full), tuple(f[2] for f in full))
    value = context.emit(op, (view.value,))
    return View(value, context.types[value].shape, view.axes)


def slice_(context: Context, node: SourceNode) -> None:
    """Slice, with its limits as attributes (before opset 10) or as inputs."""
    view = context.view(node.input(0))
    if "starts" in node.attributes:
        starts, ends, axes = node.ints("starts"), node.ints("ends"), node.ints("axes")
        steps: tuple[int, ...] = ()
    else:
        starts = context.integers(node.input(1), "starts")
        ends = context.integers(node.input(2), "ends")
        axes = context.integers(node.input(3), "axes") if node.input(3) else ()
        steps = context.integers(node.input(4), "steps") if node.input(4) else ()
    axes, steps = axes or tuple(range(len(starts))), steps or (1,) * len(starts)
    if not len(starts) == len(ends) == len(axes) == len(steps):
        raise ModelError("starts, ends, axes and steps differ in length")
    spans: dict[int, tuple[int, int, int]] = {}
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if step < 1:
            raise NotSupported(f"a step of {step}")
        a = normalise_axis(axis, len(view.axes))
        spans[a] = (*slice(start, end, step).indices(view.shape[a])[:2], step)
    context.set(node.outputs[0], cut(context, view, spans))


def _spans(view: View, axis: int, sizes: Sequence[int]) -> list[tuple[int, int, int]]:
    """(start, stop, step) of pieces of these sizes, which must make up the axis. Raises ModelError."""
    if sum(sizes) != view.shape[axis] or min(sizes, default=0) < 1:
        raise ModelError(f"axis {axis} of {view.shape} cannot be split into {tuple(sizes)}")
    stops = list(accumulate(sizes))
    return [(stop - size, stop, 1) for stop, size in zip(stops, sizes, strict=True)]


def split(context: Context, node: SourceNode) -> None:
    """Split into several Slices."""
    view = context.view(node.input(0))
    axis = normalise_axis(node.attribute("axis", 0), len(view.axes))
    total = view.shape[axis]
    if "split" in node.attributes:
        sizes = node.ints("split")
    elif node.input(1):
        sizes = context.integers(node.input(1), "sizes")
    else:
        count = node.attribute("num_outputs", len(node.outputs))
        part = -(-total // count)
        sizes = (*(part,) * (count - 1), total - part * (count - 1))
    if len(sizes) != len(node.outputs):
        raise ModelError(f"axis {axis} of {view.shape} cannot be split into {sizes}")
    for name, span in zip(node.outputs, _spans(view, axis, sizes), strict=True):
        if name:
            context.scope(name)
            context.set(name, cut(context, view, {axis: span}))


def split_to_sequence(context: Context, node: SourceNode) -> None:
    """Slices that SequenceAt picks from: pieces of one size (the last may be shorter), or of given sizes."""
    view = context.view(node.input(0))
    axis = normalise_axis(node.attribute("axis", 0), len(view.axes))
    total = view.shape[axis]
    split = context.need_const(node.input(1), "sizes") if node.input(1) else np.array(1)
    if not node.input(1) and not node.attribute("keepdims", 1):
        raise NotSupported("keepdims=0")
    if split.ndim == 0 and int(split) >= 1:
        sizes = tuple(min(int(split), total - start) for start in range(0, total, int(split)))
    else:
        sizes = tuple(int(v) for v in split.reshape(-1))
    pieces = tuple(cut(context, view, {axis: span}) for span in _spans(view, axis, sizes))
    context.set(node.outputs[0], Pieces(pieces))


def sequence_at(context: Context, node: SourceNode) -> None:
    """One piece of a SplitToSequence."""
    pieces = context.tensors.get(node.input(0))
    if isinstance(pieces, Unknown):
        raise Blocked
    if not isinstance(pieces, Pieces):
        raise NotSupported("a sequence that is not made by SplitToSequence")
    position = context.integers(node.input(1), "position")
    if len(position) != 1:
        raise ModelError(f"a position of {len(position)} numbers; expected one")
    index = position[0]
    if not -len(pieces.views) <= index < len(pieces.views):
        raise ModelError(f"position {index} of a sequence of {len(pieces.views)} tensors")
    context.set(node.outputs[0], pieces.views[index])


def gather(context: Context, node: SourceNode) -> None:
    """Gather of one element, or of evenly spaced ones, along an axis: a Slice."""
    view = context.view(node.input(0))
    axis = normalise_axis(node.attribute("axis", 0), len(view.axes))
    indices = context.need_const(node.input(1), "indices")
    extent = view.shape[axis]
    flat = [int(i) + extent * (int(i) < 0) for i in indices.reshape(-1)]
    steps = {b - a for a, b in pairwise(flat)}
    if indices.ndim > 1 or len(steps) > 1 or min(steps, default=1) < 1 or not flat:
        raise NotSupported("indices that are not evenly spaced upwards")
    if not 0 <= flat[0] <= flat[-1] < extent:
        raise ModelError(f"indices beyond axis {axis} of {view.shape}")
    taken = cut(context, view, {axis: (flat[0], flat[-1] + 1, min(steps, default=1))})
    if indices.ndim == 0:
        taken = replace(taken, axes=(*taken.axes[:axis], *taken.axes[axis + 1 :]))
    context.set(node.outputs[0], taken)


def concat(context: Context, node: SourceNode) -> None:
    """Concat; the first computed operand's memory order is the result's."""
    operands = [context.view(name) for name in node.inputs]
    axis = normalise_axis(node.attribute("axis", 1), len(operands[0].axes))
    if len(operands) == 1:
        context.set(node.outputs[0], operands[0])
        return
    plain = [tuple(s for i, s in enumerate(v.shape) if i != axis) for v in operands]
    if any(p != plain[0] for p in plain):
        raise ModelError(f"shapes {[v.shape for v in operands]} cannot be joined along axis {axis}")
    lead = next((v for v in operands if not context.is_constant(v.value)), operands[0])
    laid = _laid_alike(context, operands, lead, axis) or _laid_naturally(context, operands, axis)
    value = context.emit(Concat(laid[1].axes[axis][0]), laid[0])
    context.set(node.outputs[0], View(value, context.types[value].shape, laid[1].axes))


def _laid_alike(context: Context, operands: Sequence[View], lead: View, axis: int) -> tuple[list[str], View] | None:
    """The operands' values in the lead's memory order, and the lead's view; None where their axes are cut otherwise."""
    index = operands.index(lead)
    lead = context.isolate(lead, [axis])
    joint = lead.axes[axis][0]
    values: list[str] = []
    for i, operand in enumerate(operands):
        if i == index:
            values.append(lead.value)
            continue
        # The joint axis of the operand in one piece, all others cut like the lead's.
        whole = context.isolate(operand, [axis]) if len(operand.axes[axis]) != 1 else operand
        matched = match(_without(lead, axis), _without(whole, axis))
        if matched is None or matched[0].atoms != lead.atoms or matched[1].atoms != whole.atoms:
            return None
        partner = {**matched[2], joint: whole.axes[axis][0]}
        shape = tuple(whole.shape[axis] if a == joint else size for a, size in enumerate(lead.atoms))
        values.append(context.arrange(whole, [partner[a] for a in sorted(partner)], shape))
    return values, lead


def _without(view: View, axis: int) -> View:
    """The view with nothing in one of its axes."""
    return replace(view, axes=(*view.axes[:axis], (), *view.axes[axis + 1 :]))


def _laid_naturally(context: Context, operands: Sequence[View], axis: int) -> tuple[list[str], View]:
    shapes = [v.shape for v in operands]
    values = [context.arrange(v, v.order, v.shape) for v in operands]
    return values, views.natural(values[0], shapes[0], shapes[0])


def pad(context: Context, node: SourceNode) -> None:
    """Pad with a constant."""
    mode = node.attribute("mode", "constant")
    if mode != "constant":
        raise NotSupported(f"mode '{mode}'; only constant is supported")
    view = context.view(node.input(0))
    rank = len(view.axes)
    name = "pads" if "pads" in node.attributes else "paddings"
    amounts = node.ints(name) if name in node.attributes else context.integers(node.input(1), "pads")
    value = float(node.attribute("value", 0.0))
    if node.input(2):
        given = context.need_const(node.input(2), "value")
        if given.size != 1:
            raise NotSupported(f"a padding value of shape {given.shape}")
        value = float(given.reshape(-1)[0])
    axes = context.integers(node.input(3), "axes") if node.input(3) else tuple(range(rank))
    if len(amounts) != 2 * len(axes):
        raise ModelError(f"{len(amounts)} pads for {len(axes)} axes")
    around = {normalise_axis(a, rank): (amounts[i], amounts[i + len(axes)]) for i, a in enumerate(axes)}
    around = {a: pair for a, pair in around.items() if pair != (0, 0)}
    crops = {a: (max(-b, 0), view.shape[a] - max(-e, 0), 1) for a, (b, e) in around.items() if min(b, e) < 0}
    view = cut(context, view, crops)
    around = {a: (max(b, 0), max(e, 0)) for a, (b, e) in around.items() if max(b, e) > 0}
    if max((n for pair in around.values() for n in pair), default=0) >= MAX_ELEMENTS:
        raise ModelError(f"pads {amounts}")
    if around:
        view = context.isolate(view, sorted(around))
        by_dim = {view.axes[a][0]: pair for a, pair in around.items()}
        pairs = [by_dim.get(i, (0, 0)) for i in range(len(view.atoms))]
        emitted = context.emit(Pad(tuple(p[0] for p in pairs), tuple(p[1] for p in pairs), value), (view.value,))
        view = View(emitted, context.types[emitted].shape, view.axes)
    context.set(node.outputs[0], view)
