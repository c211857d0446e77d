"""Hardware as data: families, inheritance, and what a wrong file is told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dnnc import resources
from dnnc.cost.accelerator import Accelerator
from dnnc.cost.estimate import BOUNDS
from dnnc.cost.families import FAMILIES, has_model, model_of
from dnnc.cost.layer import layers_of
from dnnc.cost.loader import list_hardware, list_targets, load_hardware, load_target
from dnnc.errors import TargetError
from test_cost_layer import network

pytestmark = pytest.mark.quick

ACCELERATORS = tuple(sorted(set(list_hardware()) - set(list_targets())))
Edit = Callable[[str, str, str], Path]


@pytest.fixture
def edited(tmp_path: Path) -> Edit:
    """A copy of a target's file in which one text replaces another."""

    def edit(name: str, old: str, new: str) -> Path:
        text = (resources.targets() / name / "target.toml").read_text()
        assert text.count(old) == 1
        path = tmp_path / "target.toml"
        path.write_text(text.replace(old, new))
        return path

    return edit


@pytest.mark.parametrize("name", ACCELERATORS)
def test_every_accelerator_loads_and_costs_a_network(name: str) -> None:
    hardware = load_hardware(name)
    assert isinstance(hardware, Accelerator) and hardware.name == name and has_model(hardware)
    works = layers_of(network())
    cost = model_of(hardware).network(works)
    assert [layer.name for layer in cost.layers] == [work.name for work in works]
    assert cost.cycles > 0 and cost.flash_bytes > 0 and cost.seconds and cost.energy_uj
    assert cost.macs == sum(work.macs for work in works)
    assert all(layer.cycles > 0 and layer.bound in BOUNDS and layer.energy_pj for layer in cost.layers)


def test_every_family_has_a_target() -> None:
    assert {load_hardware(name).family for name in ACCELERATORS} == set(FAMILIES)


def test_programs_are_not_written_for_accelerators() -> None:
    with pytest.raises(TargetError, match=r"no programs for 'gap8' \(roofline\).*dnnc estimate --target gap8"):
        load_target("gap8")


def test_costs_without_a_model_are_measured() -> None:
    host = load_hardware("host")
    assert not has_model(host) or model_of(host)
    if not has_model(host):
        with pytest.raises(TargetError, match="measured: run `dnnc compile --target host`"):
            model_of(host)


def test_a_board_inherits_its_core() -> None:
    board, core = load_target("nrf5340"), load_target("cortex-m33")
    assert (board.toolchain, board.emulation, board.kernels) == (core.toolchain, core.emulation, core.kernels)
    assert (board.name, board.clock_hz, board.flash_bytes) == ("nrf5340", 128_000_000, 1 << 20)
    assert load_target("stm32l4r5").energy is not None
    changed = load_target("stm32f746").toolchain
    assert changed.zig_target == load_target("cortex-m7").toolchain.zig_target
    assert changed.gcc_flags[-1] == "-mfpu=fpv5-sp-d16"


def test_a_users_board_is_a_few_lines(tmp_path: Path) -> None:
    path = tmp_path / "target.toml"
    path.write_text('inherits = "cortex-m4"\nname = "mine"\ndescription = "my board"\nram_bytes = 65536\n')
    assert load_target(path).ram_bytes == 65536 and load_target(path).name == "mine"
    child = tmp_path / "child" / "target.toml"
    child.parent.mkdir()
    child.write_text('inherits = "../target.toml"\nname = "child"\ndescription = "its child"\nclock_hz = 1000\n')
    assert load_target(child).clock_hz == 1000 and load_target(child).ram_bytes == 65536


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('inherits = "cortex-m5"\n', r"unknown target 'cortex-m5' \(did you mean 'cortex-m"),
        ("inherits = 3\n", "'inherits' must be the name of a target or a path, but is 3"),
        ('inherits = "cortex-m4"\n', r"missing key\(s\) name, description"),
        ('inherits = "./target.toml"\n', "it inherits './target.toml', which inherits it"),
        ('inherits = "cortex-m4"\nname = "a"\ndescription = "b"\nclock = 3\n', "unknown key 'clock' .*'clock_hz'"),
    ],
)
def test_wrong_inheritance(text: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / "target.toml"
    path.write_text(text)
    with pytest.raises(TargetError, match=told):
        load_hardware(path)


@pytest.mark.parametrize(
    ("name", "old", "new", "told"),
    [
        (
            "gemmini",
            'family = "systolic"',
            'family = "systolik"',
            r"unknown family 'systolik' \(did you mean 'systolic'",
        ),
        ("gemmini", "[systolic]", "[array]", r"unknown key 'array'.*valid keys: .*systolic"),
        ("gemmini", "rows = 16", "row = 16", r"'systolic': unknown key 'row' \(did you mean 'rows'\?\)"),
        ("gemmini", "rows = 16", "", r"'systolic': missing key\(s\) rows"),
        ("gemmini", "rows = 16", "rows = 0", "'rows' must be more than 0"),
        ("gemmini", '"weight-stationary"', '"weights-stationary"', "must be one of weight-.* mean 'weight-stationary'"),
        (
            "gemmini",
            "sram_bytes =",
            "sram_byte =",
            r"'memory': unknown key 'sram_byte' \(did you mean 'sram_bytes'\?\)",
        ),
        ("gemmini", 'external = "dram"', 'external = "disc"', "'external' must be one of"),
        ("gemmini", "weight_bits = [8]", "weight_bits = [0]", "'weight_bits' must list numbers from 1 to 16"),
        ("gemmini", "clock_hz = 500_000_000", "clock_hz = 0", "'clock_hz' must be more than 0"),
        ("ethos-u55-128", "macs = 128", "macs = 100", "'macs' must be one of 32, 64, 128, 256, but is 100"),
        ("gap8", "{ 8 = 32, 4 = 28.8, 2 = 30.1 }", "{ wide = 32 }", "must be a table of numbers by bits"),
        ("gap8", "\nutilisation = 0.48", '\nutilisation = "half"', "'utilisation' must be a number"),
    ],
)
def test_a_wrong_accelerator_is_told_what_is_wrong(edited: Edit, name: str, old: str, new: str, told: str) -> None:
    with pytest.raises(TargetError, match=told):
        load_hardware(edited(name, old, new))
