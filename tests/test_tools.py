"""The tools of the checkout: shell that parses, pins that are complete, nothing that names where packages come from."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = sorted(
    path
    for folder in ("tools", "tools/bench", ".ci")
    for path in (ROOT / folder).iterdir()
    if path.is_file() and path.suffix == ""
)


@pytest.mark.quick
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_scripts_parse_and_are_executable(script: Path) -> None:
    assert os.access(script, os.X_OK)
    assert script.read_text().startswith("#!/usr/bin/env bash\n")
    subprocess.run(["bash", "-n", str(script)], check=True)


@pytest.mark.quick
def test_every_dependency_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *(d for extra in project["optional-dependencies"].values() for d in extra)]
    wanted = [d for d in wanted if "python_version" not in d and not d.startswith("dnnc[")]
    pins = {}
    for line in (ROOT / "tools/constraints.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            name, version = line.split("==")
            pins[_plain(name)] = version
    missing = [d for d in wanted if _plain(re.split(r"[<>=;\[ ]", d)[0]) not in pins]
    assert missing == []


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize(
    ("name", "told"),
    [("models", "resnet8_cifar10_jpeg"), ("cortex_m", "TFLM with CMSIS-NN"), ("calibrate_cycles", "least squares")],
)
def test_benchmarks_tell_what_they_do(name: str, told: str) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / f"tools/bench/{name}.py"), "--help"], capture_output=True, text=True, check=True
    )
    assert told in " ".join(done.stdout.split())


def test_a_network_of_the_shared_folder_is_shown_beside_others(tmp_path: Path) -> None:
    if not (ROOT.parent / "shared" / "models" / "ad_autoencoder_fused.onnx").is_file():
        pytest.skip("needs ../shared")
    command = [sys.executable, str(ROOT / "tools/bench/cortex_m.py"), "--profile", "ad"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rows = {line.split(" | ")[2]: line.split(" | ") for line in done.stdout.splitlines() if line.startswith("| ad | ")}
    assert rows["instructions"][4] == "582,540" and rows["flash"][6] == "276,000"
    ours = int(rows["instructions"][3].replace(",", ""))
    assert float(rows["instructions"][5]) == pytest.approx(582_540 / ours, abs=0.006)
    profile = done.stdout[done.stdout.index("### ad int8 on cortex-m7") :]
    assert f"| {ours:,} |" in next(line for line in profile.splitlines() if line.startswith("| all |"))
