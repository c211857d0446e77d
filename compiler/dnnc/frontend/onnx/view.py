"""How an ONNX tensor lies in the memory of a graph value: transposes and reshapes are only relabelling.

A graph value is cut into *atoms*, factors of its size in memory order; every ONNX axis is a sequence of atoms. An image
[H, W, C] in memory that ONNX calls [1, C, H, W] has the atoms (H, W, C) and the axes ((), (2,), (0,), (1,)); flattened
to [1, C*H*W] it has the axes ((), (2, 0, 1)), and nothing has moved. Atoms of size 1 may belong to no axis, and an axis
of size 1 (the batch, above all) may have no atom.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import prod

from dnnc.ir.types import Shape


@dataclass(frozen=True)
class View:
    """The ONNX tensor whose axis i is made of the atoms axes[i] (slowest first) of the graph value `value`."""

    value: str
    atoms: tuple[int, ...]
    axes: tuple[tuple[int, ...], ...]

    @property
    def shape(self) -> Shape:
        """The ONNX shape, batch included."""
        return tuple(prod(self.atoms[a] for a in group) for group in self.axes)

    @property
    def order(self) -> tuple[int, ...]:
        """The atoms in ONNX order."""
        return tuple(a for group in self.axes for a in group)

    def solid(self, group: Sequence[int]) -> tuple[int, ...]:
        """A group without its atoms of size 1."""
        return tuple(a for a in group if self.atoms[a] > 1)

    def permute(self, perm: Sequence[int]) -> View:
        return replace(self, axes=tuple(self.axes[p] for p in perm))

    def in_rank(self, rank: int) -> View:
        """With axes of size 1 in front, as broadcasting does it."""
        return replace(self, axes=((),) * (rank - len(self.axes)) + self.axes)


def natural(value: str, shape: Shape, onnx_shape: Shape) -> View:
    """A value whose memory order is the ONNX order; `shape` is onnx_shape with or without its leading 1."""
    skipped = len(onnx_shape) - len(shape)
    return View(value, shape, ((),) * skipped + tuple((i,) for i in range(len(shape))))


def image(value: str, shape: Shape, rank: int) -> View:
    """A channels-last image [H, W, C] (H = 1 for rank 3) as ONNX's [1, C, H, W] or [1, C, W]."""
    return View(value, shape, ((), (2,), (0,), (1,)) if rank == 4 else ((), (2,), (1,)))


def split_atoms(view: View, cuts: dict[int, Sequence[int]]) -> View:
    """Replace each atom in `cuts` by factors of it."""
    atoms: list[int] = []
    places: list[tuple[int, ...]] = []
    for index, size in enumerate(view.atoms):
        parts = tuple(cuts.get(index, (size,)))
        places.append(tuple(range(len(atoms), len(atoms) + len(parts))))
        atoms.extend(parts)
    axes = tuple(tuple(p for a in group for p in places[a]) for group in view.axes)
    return View(view.value, tuple(atoms), axes)


def merge_atoms(view: View, across_axes: bool) -> View:
    """Join atoms that follow one another in memory and in ONNX order; atoms of size 1 vanish."""
    memory = {a: i for i, a in enumerate(i for i, size in enumerate(view.atoms) if size > 1)}
    runs: list[list[int]] = []
    groups: list[list[int]] = []
    for group in view.axes:
        members: list[int] = []
        for a in view.solid(group):
            follows = bool(runs) and memory[a] == memory[runs[-1][-1]] + 1
            if follows and (across_axes or members):
                runs[-1].append(a)
            else:
                runs.append([a])
                members.append(len(runs) - 1)
        groups.append(members)
    ranks = sorted(range(len(runs)), key=lambda r: memory[runs[r][0]])
    place = {r: i for i, r in enumerate(ranks)}
    atoms = tuple(prod(view.atoms[a] for a in runs[r]) for r in ranks)
    return View(view.value, atoms, tuple(tuple(place[r] for r in group) for group in groups))


def regroup(view: View, shape: Shape) -> View | None:
    """The same elements in the same ONNX order under another ONNX shape; None where memory would have to move."""
    found = _regroup(view, shape)
    if found is None:
        # Joined across axes, the atoms may be cut elsewhere: [6, 4] to [4, 6]. The axes of the joined view are moot.
        found = _regroup(merge_atoms(view, across_axes=True), shape)
    return found


def _regroup(view: View, shape: Shape) -> View | None:
    pending: list[tuple[int, int]] = [(a, view.atoms[a]) for a in reversed(view.order)]
    parts: dict[int, list[int]] = {}
    groups: list[list[tuple[int, int]]] = []
    for size in shape:
        group: list[tuple[int, int]] = []
        if size == 1 and pending and pending[-1][1] == 1:
            atom, _ = pending.pop()
            parts[atom] = [1]
            group.append((atom, 0))
        while size > 1:
            if not pending:
                return None
            atom, extent = pending.pop()
            if size % extent and extent % size:
                return None
            if extent == 1:
                continue
            if extent > size:
                pending.append((atom, extent // size))
                extent = size
            parts.setdefault(atom, []).append(extent)
            group.append((atom, len(parts[atom]) - 1))
            size //= extent
        groups.append(group)
    if any(extent > 1 for _, extent in pending):
        return None
    cut = split_atoms(replace(view, axes=tuple((a,) for a in range(len(view.atoms)))), dict(parts))
    return replace(cut, axes=tuple(tuple(cut.axes[a][part] for a, part in group) for group in groups))


def refine(view: View, factors: Sequence[Sequence[int]]) -> View | None:
    """Cut the atoms so that the solid atoms of axis i have the sizes factors[i]; None where that is impossible."""
    flat = regroup(view, tuple(f for group in factors for f in group))
    if flat is None:
        return None
    if any(len(group) > 1 for group in flat.axes):
        flat = merge_atoms(flat, across_axes=False)
        if any(len(group) > 1 for group in flat.axes):
            return None
    groups = iter(flat.axes)
    return replace(flat, axes=tuple(tuple(a for _ in group for a in next(groups)) for group in factors))


def common_factors(a: Sequence[int], b: Sequence[int]) -> tuple[int, ...] | None:
    """The coarsest factors of which both sequences (of equal product) are joins; None where there are none."""
    total = prod(a)
    cuts = sorted({prod(s[:i]) for s in (a, b) for i in range(len(s) + 1)} | {1, total})
    if any(high % low for low, high in pairwise(cuts)):
        return None
    return tuple(high // low for low, high in pairwise(cuts))


def align_dims(atoms: Sequence[int], shape: Shape) -> list[list[int]] | None:
    """The atoms that make up each dimension of `shape` (the same memory); None where a dimension cuts an atom."""
    dims: list[list[int]] = []
    index = 0
    for size in shape:
        members: list[int] = []
        covered = 1
        while covered < size:
            if index == len(atoms):
                return None
            covered *= atoms[index]
            members.append(index)
            index += 1
        if covered != size:
            return None
        if size == 1 and index < len(atoms) and atoms[index] == 1:
            members.append(index)
            index += 1
        dims.append(members)
    return dims
