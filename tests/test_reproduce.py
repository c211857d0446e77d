"""The scripts of tools/reproduce: those that offer a smoke run survive it and write their table."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "tools" / "reproduce"
#: What scripts share, and the training of their networks.
OTHERS = ("common.py", "images.py", "networks.py", "olmp_authors.py", "train_networks.py")
SCRIPTS = sorted(p for p in FOLDER.glob("*.py") if p.name not in OTHERS)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: p.stem)
def test_smoke_runs(script: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(script), "--smoke", "--output", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    written = (tmp_path / f"{script.stem}.md").read_text()
    assert "| --:" in written and "smoke run" in written and "torch" in written


@pytest.mark.quick
def test_tables(tmp_path: Path) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv.pop(1)); import common; "
        "o = common.arguments('Says nothing.', seeds=4); t = common.Table('A title', o); "
        "t.goal('size', '<= 3', '2', True); t.goal('speed', '>= 3', '2', False); t.goal('colour', '', 'red', None); "
        "t.finish('one note'); common.plot(o, {'a': [(1, 2), (2, 3)]}, 'x', 'y')"
    )
    command = [sys.executable, "-c", code, str(FOLDER), "--output", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "A title" in done.stdout and "one note" in done.stdout
    written = (tmp_path / "-c.md").read_text()
    assert "| size | <= 3 | 2 | met |" in written and "| speed | >= 3 | 2 | missed |" in written
    assert "| colour |  | red |  |" in written
    assert "- one note\n- full run, 4 seed(s)" in written


def test_the_network_for_smoke_runs_has_learned() -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import common; g, d = common.digits(); "
        "assert common.accuracy(g, d.test) > 90; common.setting(d)"
    )
    subprocess.run([sys.executable, "-c", code, str(FOLDER)], check=True, capture_output=True, timeout=120)
