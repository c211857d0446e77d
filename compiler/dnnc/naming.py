"""The name of a network in C: of its files, its functions and its macros."""

from __future__ import annotations

import re

from dnnc.errors import OptionError

LIMIT = 40

#: Words that C or C++ (or a common compiler's macro) keeps for itself.
KEYWORDS = frozenset(
    "auto break case char const continue default do double else enum extern float for goto if inline int long register "
    "restrict return short signed sizeof static struct switch typedef union unsigned void volatile while "
    "alignas alignof and and_eq asm bitand bitor bool catch class compl constexpr delete explicit export false "
    "fortran friend mutable namespace new noexcept not not_eq nullptr operator or or_eq private protected public "
    "static_assert template this thread_local throw true try typeid typename typeof using virtual wchar_t xor xor_eq "
    "main linux unix".split()
)
#: NAME.h would hide these from `#include <...>`.
_HEADERS = frozenset(
    "assert complex ctype errno fenv float inttypes iso646 limits locale math setjmp signal stdalign stdarg stdatomic "
    "stdbool stddef stdint stdio stdlib stdnoreturn string tgmath threads time uchar wchar wctype".split()
)


#: First words that dnnc keeps for itself: of its kernels, and of the harness that it runs networks in.
_PREFIXES = ("dnnc", "harness")


def network_name(text: str) -> str:
    """A C identifier for any text: [a-z][a-z0-9_]*, at most 40 characters, no keyword and no standard header."""
    name = re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")
    if not name:
        return "network"
    if not name[0].isalpha() or name.partition("_")[0] in _PREFIXES:
        name = f"net_{name}"
    name = name[:LIMIT].rstrip("_")
    return f"{name}_net" if name in KEYWORDS | _HEADERS else name


def check_network_name(name: str) -> str:
    """`name` itself, when the user chose it and it can stand in C. Raises OptionError otherwise."""
    if network_name(name) != name:
        raise OptionError(
            f"the name '{name}' cannot stand in C: use a-z, 0-9 and _, at most {LIMIT} characters; "
            f"'{network_name(name)}' would do"
        )
    return name
