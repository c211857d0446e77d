"""What people read, kept as files: tests/goldens/."""

from __future__ import annotations

from pathlib import Path

import pytest

GOLDENS = Path(__file__).parent / "goldens"


def check_golden(name: str, found: str) -> None:
    """Compare with tests/goldens/<name>. To renew it, delete the file, run the test, and read what it wrote."""
    path = GOLDENS / name
    if not path.exists():
        path.write_text(found)
        pytest.fail(f"{path.name} did not exist and was written: read it, then commit it")
    assert found == path.read_text()
