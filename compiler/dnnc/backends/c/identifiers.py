"""C identifiers from whatever a model calls its things."""

from __future__ import annotations

import re

from dnnc.naming import KEYWORDS

MAX_LENGTH = 40


def identifier(text: str) -> str:
    """Lower case letters, digits and _, not starting with a digit, no keyword of C or C++, at most MAX_LENGTH long."""
    cleaned = re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_") or "x"
    if cleaned[0].isdigit() or cleaned in KEYWORDS:
        cleaned = f"x_{cleaned}"
    return cleaned[:MAX_LENGTH].rstrip("_")


class Names:
    """Hands out identifiers, each only once; case does not tell two apart, as macros are upper case."""

    def __init__(self, *reserved: str) -> None:
        self._taken = {name.lower() for name in reserved}

    def take(self, name: str) -> str:
        """`name`, with a number behind it where it is taken."""
        candidate, count = name, 1
        while candidate.lower() in self._taken:
            count += 1
            candidate = f"{name}_{count}"
        self._taken.add(candidate.lower())
        return candidate


def comment(text: str) -> str:
    """Any text as part of a C comment: printable ASCII that neither ends the comment nor continues the line."""
    plain = "".join(c if " " <= c <= "~" else "?" for c in text)
    return plain.replace("*/", "* /").replace("/*", "/ *").replace("\\", "/").replace("??", "? ?")
