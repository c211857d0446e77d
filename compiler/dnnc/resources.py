"""Where the C kernels and the targets lie: in the package when installed, at the repository's root in a checkout."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def _folder(name: str) -> Path:
    installed = _PACKAGE / "data" / name
    return installed if installed.is_dir() else _PACKAGE.parents[1] / name


def kernels() -> Path:
    """The folder of C kernels and templates."""
    return _folder("kernels")


def targets() -> Path:
    """The folder with one folder a target."""
    return _folder("targets")
