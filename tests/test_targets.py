"""The targets that come with dnnc, and what a wrong target file is told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dnnc import resources
from dnnc.cost.loader import list_hardware, list_targets, load_target
from dnnc.errors import TargetError
from dnnc.run.toolchain import compile_objects, find_compiler, shared_file

pytestmark = pytest.mark.quick

SHIPPED = resources.targets()
Edit = Callable[[str, str], Path]


@pytest.fixture
def edited(tmp_path: Path) -> Edit:
    """A copy of the Cortex-M7's file in which one text replaces another."""

    def edit(old: str, new: str) -> Path:
        text = (SHIPPED / "cortex-m7" / "target.toml").read_text()
        assert text.count(old) == 1
        path = tmp_path / "target.toml"
        path.write_text(text.replace(old, new))
        return path

    return edit


CORES = (
    "aarch64", "aarch64-dotprod", "cortex-m0plus", "cortex-m33", "cortex-m4", "cortex-m7", "host", "rv32imc", "rv64",
)  # fmt: skip
BOARDS = ("esp32-c3", "nrf5340", "rp2040", "stm32f746", "stm32h743", "stm32h7a3", "stm32l4r5", "stm32u575")


def test_the_cores_and_boards_are_there() -> None:
    assert list_targets() == tuple(sorted((*CORES, *BOARDS)))


@pytest.mark.parametrize("name", list_targets())
def test_every_target_loads_and_names_files_that_exist(name: str) -> None:
    target = load_target(name)
    assert target.name == name
    assert target.kernels[-1] == "generic"
    for file in (target.emulation.link_script, target.emulation.startup):
        assert file is None or shared_file(target, file).is_file()


def test_only_cores_with_dsp_use_the_dsp_kernels() -> None:
    with_dsp = {name for name in CORES if "armv7em" in load_target(name).kernels}
    assert with_dsp == {"cortex-m7", "cortex-m4", "cortex-m33"}
    assert load_target("cortex-m0plus").requantise == "shift"


@pytest.mark.parametrize("choice", ["auto", "zig"])
@pytest.mark.parametrize("name", ["cortex-m7", "cortex-m4", "cortex-m33", "stm32f746"])
def test_compilers_are_told_of_the_dsp_instructions(name: str, choice: str, tmp_path: Path) -> None:
    (tmp_path / "dsp.c").write_text("#ifndef __ARM_FEATURE_DSP\n#error no DSP\n#endif\nint only;\n")
    compiler = find_compiler(load_target(name), choice)
    assert compile_objects(compiler, tmp_path, ["dsp.c"], ()) == ["dsp.o"]


@pytest.mark.parametrize("name", list_hardware())
def test_every_file_says_where_its_figures_come_from(name: str) -> None:
    first = (SHIPPED / name / "target.toml").read_text().splitlines()[0]
    assert first.startswith("#")


def test_a_user_may_bring_a_file_or_its_folder(edited: Edit) -> None:
    path = edited("ram_bytes = 524288", "ram_bytes = 1000")
    assert load_target(path).ram_bytes == 1000
    assert load_target(str(path.parent)) == load_target(path)
    assert shared_file(load_target(path), "bare_metal.ld").is_file()


def test_an_unknown_name_lists_the_known_ones_and_the_nearest() -> None:
    with pytest.raises(TargetError, match=r"'cortex-m77' \(did you mean 'cortex-m7'\?\).*rv32imc"):
        load_target("cortex-m77")


def test_a_missing_file_is_named() -> None:
    with pytest.raises(TargetError, match=r"no target file 'nowhere/target\.toml'"):
        load_target("nowhere/target.toml")


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("ram_bytes =", "ram_byte =", r"unknown key 'ram_byte' \(did you mean 'ram_bytes'\?\)"),
        ("zig_cpu =", "zigcpu =", r"'toolchain': unknown key 'zigcpu' \(did you mean 'zig_cpu'\?\)"),
        ("ram_bytes = 524288\n", "", r"missing key\(s\) ram_bytes"),
        ("ram_bytes = 524288", 'ram_bytes = "512k"', "'ram_bytes' must be a whole number, not negative, but is '512k'"),
        ("ram_bytes = 524288", "ram_bytes = -1", "'ram_bytes' must be a whole number, not negative, but is -1"),
        ("ram_bytes = 524288", "ram_bytes = true", "'ram_bytes' must be a whole number"),
        ('requantise = "multiply"', 'requantise = "float"', "'requantise' must be one of .*'float'"),
        ("activation_bits = [4, 8, 16]", "activation_bits = [9]", "'activation_bits' must list"),
        ("activation_bits = [4, 8, 16]", "activation_bits = 8", "'activation_bits' must be a list of whole numbers"),
        ("weight_bits = [1,", "weight_bits = [0,", "'weight_bits' must list numbers from 1 to 8"),
        ('kernels = ["armv7em",', 'kernels = ["armv7",', r"unknown kernel family 'armv7' \(did you mean 'armv7em'\?\)"),
        ('"armv7em", "generic"]', '"armv7em"]', "'kernels' must end with \"generic\""),
        ("[toolchain]", "[toolchain", "cannot be read"),
        ('startup = "cortex_m.c"', "", "needs both link_script and startup"),
        ("qemu_systick_hz = 25_000_000", "", "needs link_script and qemu_systick_hz"),
        ('mca_cpu = "cortex-m7"', "", "'cycles' needs both mca_triple and mca_cpu"),
        ("transfer_words = 2", "transfer_words = 3", "'transfer_words' must be 1 or 2, but is 3"),
        ("shift = ", "shifts = ", r"'table': unknown key 'shifts' \(did you mean 'shift'\?\)"),
        ("long_product = ", 'long_product = "x" #', "'long_product' must be a number, not negative, but is 'x'"),
        ("long_product = ", "long_product = true #", "'long_product' must be a number, not negative, but is True"),
        ("long_product = ", "long_product = -", "'long_product' must be a number, not negative"),
    ],
)
def test_a_wrong_file_is_told_what_is_wrong(edited: Edit, old: str, new: str, told: str) -> None:
    with pytest.raises(TargetError, match=told):
        load_target(edited(old, new))


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "target.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TargetError, match="cannot be read"):
        load_target(path)
