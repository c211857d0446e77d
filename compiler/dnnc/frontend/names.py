"""Names from model files, made harmless: printable ASCII without quotes or comment marks, short, unique."""

from __future__ import annotations

import re

MAX_LENGTH = 80


def clean(text: str, fallback: str) -> str:
    """`text` with all but letters, digits and _ . / : - [ ] replaced; `fallback` where nothing readable is left."""
    kept = re.sub(r"[^A-Za-z0-9_./:\[\]-]+", "_", text[: 4 * MAX_LENGTH])
    return kept[:MAX_LENGTH] if re.search(r"[A-Za-z0-9]", kept) else fallback


class Namer:
    """Hands out names, each only once."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def unique(self, text: str, fallback: str) -> str:
        """`text` cleaned, with a number behind it where it is taken."""
        base = clean(text, fallback)
        name, count = base, 1
        while name in self._taken:
            count += 1
            suffix = f"_{count}"
            name = base[: MAX_LENGTH - len(suffix)] + suffix
        self._taken.add(name)
        return name
