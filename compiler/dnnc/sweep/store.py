"""The folder of a sweep: a file for every candidate that was measured, so that a sweep goes on where it stopped."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from dnnc.errors import OptionError
from dnnc.sweep.front import Point

_SETTINGS, _RESULTS = "settings.json", "results"


def open_store(folder: Path, settings: Mapping[str, Any]) -> Path:
    """The folder of results, made where it is not there. Raises OptionError where the folder is of another sweep."""
    results = folder / _RESULTS
    text = json.dumps(dict(settings), indent=1) + "\n"
    kept = folder / _SETTINGS
    if kept.is_file():
        if kept.read_text(encoding="utf-8") != text:
            found = json.loads(kept.read_text(encoding="utf-8"))
            different = [k for k in settings if found.get(k) != settings[k]]
            raise OptionError(
                f"'{folder}' holds another sweep, which differs in {', '.join(different)}: name another folder, or "
                f"delete this one"
            )
    elif folder.exists() and any(folder.iterdir()):
        raise OptionError(f"'{folder}' is not empty and holds no sweep: name another folder")
    results.mkdir(parents=True, exist_ok=True)
    write(kept, text)
    return results


def write(path: Path, text: str) -> None:
    """All of it or nothing, whenever the process ends."""
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def keep(results: Path, point: Point) -> None:
    """Store what a candidate measured."""
    write(results / f"{point.key}.json", json.dumps(asdict(point), indent=1) + "\n")


def kept(results: Path) -> dict[str, Point]:
    """What has been measured, by key. Raises OptionError where a file is none of ours."""
    return {path.stem: _read(path) for path in sorted(results.glob("*.json"))}


def _read(path: Path) -> Point:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return Point(**{f.name: values[f.name] for f in fields(Point)})
    except (ValueError, KeyError, TypeError) as error:
        raise OptionError(f"'{path}' is no result of a sweep: delete it to measure it again") from error
