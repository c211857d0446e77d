"""A piece of hardware, as its target.toml describes it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

#: The family of a target file that names none.
MICROCONTROLLER = "microcontroller"


@dataclass(frozen=True)
class Toolchain:
    """How its C is compiled. `gcc` is a command name, None where only zig applies; flags are given whole."""

    zig_target: str
    zig_cpu: str
    gcc: str | None = None
    gcc_flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Emulation:
    """How its programs are run here.

    unicorn: "arm:<cpu model>" or "riscv32", None where unicorn has no such core. qemu: a machine of qemu-system-arm, or
    None; qemu_systick_hz is the rate of that machine's SysTick. link_script, startup: files in the target's folder or
    in the shared folder `common`. Origins are addresses.
    """

    unicorn: str | None = None
    qemu: str | None = None
    qemu_systick_hz: int = 0
    flash_origin: int = 0
    ram_origin: int = 0x20000000
    link_script: str | None = None
    startup: str | None = None


@dataclass(frozen=True)
class CycleTable:
    """Cycles of an instruction by its kind, for want of a scheduling model; `source` says where they come from.

    load, store: with their first word; load_word, store_word: each further one. product: but those of which the high
    word (high_product) or both (long_product) are kept. branch: conditional and not taken; branch_taken: taken; jump:
    unconditional, and what loading the program counter adds to a load; call: a jump that leaves a way back.
    """

    source: str
    alu: float
    shift: float
    extend: float
    product: float
    high_product: float
    long_product: float
    divide: float
    load: float
    load_word: float
    store: float
    store_word: float
    branch: float
    branch_taken: float
    jump: float
    call: float
    floating: float


@dataclass(frozen=True)
class Cycles:
    """How its cycles are modelled.

    mca_triple, mca_cpu: what llvm-mca calls the core; None where LLVM has no scheduling model of it. transfer_words:
    words that a load or store of several registers moves in a cycle (LLVM counts it as one whatever their number).
    table: what holds without llvm-mca.
    """

    mca_triple: str | None = None
    mca_cpu: str | None = None
    transfer_words: int = 1
    table: CycleTable | None = None


@dataclass(frozen=True)
class Active:
    """What the whole board draws while it computes; `source` says who measured it."""

    source: str
    pj_per_cycle: float


@dataclass(frozen=True)
class Tvm:
    """How LLVM, inside TVM, compiles for it.

    cpu: LLVM's name of the core, or "native" for that of this computer. triple: None for this computer's. attributes:
    such as "+dotprod". abi: where there is more than one.
    """

    cpu: str
    triple: str | None = None
    attributes: tuple[str, ...] = ()
    abi: str | None = None


@dataclass(frozen=True)
class Target:
    """Memories in bytes, clock in Hz. `kernels` names the kernel families it can run, best first.

    requantise: "multiply" where a 32x32 -> high 32 multiply exists; "shift" where it does not, so that every scale
    must be a power of two. cycles, energy: None where nothing is known of them. family: which cost model it has.
    inherited: the folders of the targets that it inherits, the nearest first.
    tvm: None where TVM's libraries cannot run, which need an operating system; there, TVM makes C.
    """

    name: str
    description: str
    folder: Path
    kernels: tuple[str, ...]
    requantise: str
    weight_bits: tuple[int, ...]
    activation_bits: tuple[int, ...]
    flash_bytes: int
    ram_bytes: int
    clock_hz: int
    toolchain: Toolchain
    emulation: Emulation
    cycles: Cycles | None = None
    energy: Active | None = None
    tvm: Tvm | None = None
    family: str = MICROCONTROLLER
    inherited: tuple[Path, ...] = ()

    @property
    def folders(self) -> tuple[Path, ...]:
        """Where files that come with it may lie."""
        return (self.folder, *self.inherited)
