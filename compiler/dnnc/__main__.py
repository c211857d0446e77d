"""The command `dnnc`, and `python -m dnnc`: an interrupt is one word from the first import on."""

from __future__ import annotations

import sys
from typing import NoReturn

#: As a shell counts: 128 + SIGINT.
_INTERRUPTED = 130


def run() -> NoReturn:
    """Runs `dnnc.cli.main`, which is imported here: on a slow disk that alone takes long enough to be interrupted."""
    try:
        from dnnc.cli import main

        main()
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(_INTERRUPTED)


if __name__ == "__main__":
    run()
