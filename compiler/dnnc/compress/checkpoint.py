"""The state of a training on disk: written whole or not at all, and read back only by the training that wrote it."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from dnnc.ir.graph import Graph
from dnnc.ir.serial import dump_graph


def digest(graphs: Sequence[Graph], *parts: object) -> str:
    """What tells one training from another: the networks in it, and the texts of `parts`."""
    found = hashlib.sha256()
    for graph in graphs:
        found.update(hashlib.sha256(dump_graph(graph)).digest())
    found.update("\n".join(map(str, parts)).encode())
    return found.hexdigest()


def place(path: Path, of: str) -> Path:
    """The file for the training with digest `of`: `path`, or a file of its own where that is a folder."""
    return path / f"training-{of[:16]}.pt" if path.is_dir() else path


def save(path: Path, of: str, state: dict[str, Any]) -> None:
    """state: tensors, numbers, texts, lists and dicts of them. An interruption leaves the file as it was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    torch.save({"digest": of, "state": state}, partial)
    partial.replace(path)


def load(path: Path, of: str, device: str) -> tuple[dict[str, Any] | None, str | None]:
    """(the state, why there is none): none where there is no file, or where it is damaged or of another training."""
    if not path.is_file():
        return None, None
    try:
        found = torch.load(path, map_location=device, weights_only=True)
        if not isinstance(found, dict) or found.get("digest") != of:
            return None, f"the checkpoint '{path}' is of another training"
        state: dict[str, Any] = found["state"]
    except (OSError, RuntimeError, EOFError, KeyError, ValueError, pickle.UnpicklingError):
        return None, f"the checkpoint '{path}' is damaged"
    return state, None
