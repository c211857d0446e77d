"""`--preset`: what each is for it does, on handwritten digits; and what it says to wrong names and other targets."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import pytest

from dnnc.compress.presets import LABELLED, UNLABELLED, preset
from dnnc.cost.loader import load_target
from dnnc.driver import Training, compile_with_report
from dnnc.errors import OptionError
from dnnc.report.data import Report

M7 = load_target("cortex-m7")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The network of the demo, with its images beside it."""
    folder = tmp_path_factory.mktemp("model")
    script = Path(__file__).resolve().parents[1] / "tools" / "demo_model.py"
    subprocess.run([sys.executable, str(script), str(folder)], check=True, stdout=subprocess.DEVNULL)
    return folder / "digits.onnx"


@lru_cache
def compiled(model: Path, name: str | None) -> Report:
    _, report = compile_with_report(model, data=model.with_suffix(".npz"), training=Training(preset=name))
    assert report.accuracy is not None and report.measured is not None
    return report


@pytest.mark.parametrize("name", LABELLED)
def test_smaller_and_faster_than_int8_with_little_lost(model: Path, name: str) -> None:
    plain, found = compiled(model, None), compiled(model, name)
    assert found.flash_bytes < plain.flash_bytes and found.measured.instructions < plain.measured.instructions
    assert found.accuracy.integer_percent >= plain.accuracy.integer_percent - 3.0


def test_small_is_the_smallest_and_fast_the_fastest(model: Path) -> None:
    found = {name: compiled(model, name) for name in LABELLED}
    assert min(found, key=lambda name: found[name].flash_bytes) == "small"
    assert min(found, key=lambda name: found[name].measured.instructions) == "fast"


@pytest.mark.quick
def test_an_unknown_preset_names_the_known_ones() -> None:
    with pytest.raises(OptionError, match=r"unknown preset 'smal'.*did you mean 'small'.*small, fast, balanced"):
        preset("smal", M7, labelled=True)


@pytest.mark.quick
@pytest.mark.parametrize("labelled", (True, False))
def test_targets_of_eight_bits_get_int8(labelled: bool) -> None:
    only8 = replace(M7, weight_bits=(8,))
    assert LABELLED.keys() == UNLABELLED.keys()
    assert {preset(name, only8, labelled).bits for name in LABELLED} == {"int8"}
