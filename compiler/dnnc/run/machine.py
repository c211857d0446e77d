"""An emulated core (unicorn) with a program loaded: calls of its functions, their instructions counted exactly."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import unicorn
from numpy.typing import NDArray
from unicorn import arm_const, riscv_const
from unicorn.unicorn_py3.unicorn import Uc, UcError, uclib

from dnnc.cost.target import Target
from dnnc.errors import ToolchainError, VerificationError
from dnnc.run.image import Image
from dnnc.run.native import shared_library

_PAGE = 0x1000
_SYSTEM_CONTROL = 0xE000E000
_NONE = 2**64 - 1
#: No call of a model takes that long here; beyond it the program hangs.
TIMEOUT_SECONDS = 900
_ACCESSES = {
    unicorn.UC_MEM_READ_UNMAPPED: "read of",
    unicorn.UC_MEM_WRITE_UNMAPPED: "write to",
    unicorn.UC_MEM_FETCH_UNMAPPED: "jump to",
    unicorn.UC_MEM_WRITE_PROT: "write to read-only",
    unicorn.UC_MEM_READ_PROT: "read of protected",
    unicorn.UC_MEM_FETCH_PROT: "jump to data at",
}


Counts = NDArray[np.uint32]


class EmulationFault(VerificationError):
    """The emulated program did what no correct program does."""


@dataclass(frozen=True)
class _Registers:
    """Unicorn's numbers of the registers of a calling convention."""

    pc: int
    sp: int
    link: int
    arguments: tuple[int, ...]


_ARM = _Registers(
    arm_const.UC_ARM_REG_PC,
    arm_const.UC_ARM_REG_SP,
    arm_const.UC_ARM_REG_LR,
    (arm_const.UC_ARM_REG_R0, arm_const.UC_ARM_REG_R1, arm_const.UC_ARM_REG_R2),
)
_RISCV = _Registers(
    riscv_const.UC_RISCV_REG_PC,
    riscv_const.UC_RISCV_REG_SP,
    riscv_const.UC_RISCV_REG_RA,
    (riscv_const.UC_RISCV_REG_A0, riscv_const.UC_RISCV_REG_A1, riscv_const.UC_RISCV_REG_A2),
)


class _Counter(ctypes.Structure):
    """struct counter of native/hook.c."""

    _fields_ = (
        ("base", ctypes.c_uint64),
        ("halfwords", ctypes.c_uint64),
        ("code", ctypes.c_void_p),
        ("executions", ctypes.c_void_p),
        ("left", ctypes.c_void_p),
        ("notes", ctypes.c_void_p),
        ("read", ctypes.c_void_p),
        ("sp_identifier", ctypes.c_int32),
        ("thumb", ctypes.c_int32),
        ("instructions", ctypes.c_uint64),
        ("sp", ctypes.c_uint64),
        ("lowest_sp", ctypes.c_uint64),
        ("previous", ctypes.c_uint64),
        ("it_from", ctypes.c_uint64),
        ("it_to", ctypes.c_uint64),
    )


@dataclass(frozen=True)
class _Kept:
    """What the hook points to, and so must outlive it."""

    code: bytes
    executions: Counts
    left: Counts
    notes: NDArray[np.uint8]


@dataclass(frozen=True)
class Count:
    """Of one call, from the function's first instruction to its return.

    stack_bytes: the deepest below the caller's stack pointer. executions: how often the instruction at address
    base + 2 * i was executed, uint32 [halfwords of code]; left: how often it led elsewhere than to the next one.
    """

    instructions: int
    stack_bytes: int
    base: int
    executions: Counts
    left: Counts


class Machine:
    """A core with the image loaded and its start-up code executed; memory outside flash and RAM does not exist.

    Raises VerificationError where the program faults, ToolchainError where unicorn lacks the core.
    """

    def __init__(self, image: Image, target: Target, timeout_seconds: int = TIMEOUT_SECONDS) -> None:
        self.image = image
        self._timeout_seconds = timeout_seconds
        core = target.emulation.unicorn
        if core is None:
            raise ToolchainError(f"target '{target.name}' names no core for unicorn")
        self._thumb = core.startswith("arm:")
        self._registers = _ARM if self._thumb else _RISCV
        self._uc = _make_core(core, target.name)
        self._executions: Counts | None = None
        self._fault: tuple[int, int] | None = None
        self._map(target)
        self._uc.hook_add(unicorn.UC_HOOK_MEM_INVALID, self._on_invalid)
        self._boot()

    def call(self, function: str, *arguments: int) -> int:
        """The int32 that the C function returns for up to three word arguments."""
        stop = self.image.symbols["board_returned"].address
        for register, value in zip(self._registers.arguments, arguments, strict=False):
            self._uc.reg_write(register, value & 0xFFFFFFFF)
        self._uc.reg_write(self._registers.link, stop | self._thumb)
        self._emulate(self.image.symbols[function].address, stop, function)
        return int(ctypes.c_int32(self._uc.reg_read(self._registers.arguments[0])).value)

    def call_counted(self, function: str, *arguments: int) -> tuple[int, Count]:
        """`call`, counted."""
        counter, kept = self._start_counter()
        start = int(counter.sp)
        hook = ctypes.c_size_t()
        status = uclib.uc_hook_add(
            self._uc._uch,
            ctypes.byref(hook),
            ctypes.c_int(unicorn.UC_HOOK_CODE),
            ctypes.cast(_library().dnnc_count, ctypes.c_void_p),
            ctypes.byref(counter),
            ctypes.c_uint64(1),
            ctypes.c_uint64(0),
        )
        if status != unicorn.UC_ERR_OK:
            raise ToolchainError(f"unicorn refused the counting hook (code {status})")
        self._executions = kept.executions
        try:
            result = self.call(function, *arguments)
        finally:
            self._executions = None
            uclib.uc_hook_del(self._uc._uch, hook)
        depth = int(start - counter.lowest_sp)
        return result, Count(int(counter.instructions), depth, int(counter.base), kept.executions, kept.left)

    def executions_so_far(self) -> Counts:
        """A copy of what `Count.executions` will be, within `call_counted`, from a callback."""
        if self._executions is None:
            raise ValueError("nothing is being counted")
        return self._executions.copy()

    def watch(self, address: int, callback: Callable[[int, int, int], None]) -> None:
        """callback(first three arguments of a function that starts there) whenever an address is reached, just before
        its instruction is executed and counted."""

        def entered(uc: Any, _address: int, _size: int, _user: Any) -> None:
            callback(*(int(uc.reg_read(r)) for r in self._registers.arguments))

        self._uc.hook_add(unicorn.UC_HOOK_CODE, entered, begin=address, end=address)

    @contextmanager
    def watching(self, function: str, callback: Callable[[int], None]) -> Iterator[None]:
        """callback(address) before each instruction of the function is executed and counted."""
        symbol = self.image.symbols[function]
        end = symbol.address + symbol.size - 1
        hook = self._uc.hook_add(
            unicorn.UC_HOOK_CODE, lambda _uc, address, _size, _user: callback(address), begin=symbol.address, end=end
        )
        try:
            yield
        finally:
            self._uc.hook_del(hook)

    def read(self, address: int, size: int) -> bytes:
        return bytes(self._uc.mem_read(address, size))

    def write(self, address: int, data: bytes) -> None:
        self._uc.mem_write(address, data)

    def _start_counter(self) -> tuple[_Counter, _Kept]:
        base, code = self._code()
        size = len(code) // 2
        kept = _Kept(code, np.zeros(size, np.uint32), np.zeros(size, np.uint32), np.zeros(size, np.uint8))
        sp = int(self._uc.reg_read(self._registers.sp))
        counter = _Counter(
            base=base,
            halfwords=len(code) // 2,
            code=ctypes.cast(ctypes.c_char_p(code), ctypes.c_void_p),
            executions=kept.executions.ctypes.data,
            left=kept.left.ctypes.data,
            notes=kept.notes.ctypes.data,
            read=ctypes.cast(uclib.uc_reg_read, ctypes.c_void_p),
            sp_identifier=self._registers.sp,
            thumb=int(self._thumb),
            sp=sp,
            lowest_sp=sp,
            previous=_NONE,
        )
        return counter, kept

    def _code(self) -> tuple[int, bytes]:
        """The bytes from the first to the last instruction of the program."""
        spans = [self.image.sections[s] for s in (".harness_text", ".text") if s in self.image.sections]
        start = min(address for address, _ in spans)
        end = max(address + size for address, size in spans)
        return start, self.read(start, (end - start + 1) // 2 * 2)

    def _map(self, target: Target) -> None:
        emulation, image = target.emulation, self.image
        flash_end = max(address + len(data) for address, data in image.segments)
        ram_end = max((a + n for a, n in image.sections.values() if a >= emulation.ram_origin), default=0)
        flash_size = _round_up(flash_end - emulation.flash_origin)
        self._uc.mem_map(emulation.flash_origin, flash_size, unicorn.UC_PROT_READ | unicorn.UC_PROT_EXEC)
        self._uc.mem_map(
            emulation.ram_origin,
            _round_up(ram_end - emulation.ram_origin),
            unicorn.UC_PROT_READ | unicorn.UC_PROT_WRITE,
        )
        if self._thumb:
            self._uc.mem_map(_SYSTEM_CONTROL, _PAGE)
        for address, data in image.segments:
            self._uc.mem_write(address, data)

    def _boot(self) -> None:
        symbols = self.image.symbols
        self._uc.reg_write(self._registers.sp, symbols["__stack_top"].address)
        self._emulate(symbols["board_reset"].address, symbols["board_ready"].address, "the start-up code")
        # a call of ours has the stack to itself
        self._uc.reg_write(self._registers.sp, symbols["__stack_top"].address)

    def _emulate(self, start: int, stop: int, what: str) -> None:
        self._fault = None
        try:
            self._uc.emu_start(start | self._thumb, stop, timeout=self._timeout_seconds * 1_000_000)
        except UcError as error:
            raise EmulationFault(f"{what} failed: {self._explain(error)}") from error
        if self._pc() != stop:
            raise EmulationFault(f"{what} did not return within {self._timeout_seconds} s; it is in {self._where()}")

    def _pc(self) -> int:
        return int(self._uc.reg_read(self._registers.pc)) & ~int(self._thumb)

    def _where(self) -> str:
        return f"{self.image.describe(self._pc())} (PC 0x{self._pc():08x})"

    def _explain(self, error: UcError) -> str:
        if self._fault is None:
            return f"{error} in {self._where()}"
        access, address = self._fault
        stack = self.image.symbols["__stack_bottom"].address
        hint = " (the stack has overflowed)" if 0 < stack - address <= 0x10000 else ""
        return f"{_ACCESSES.get(access, 'access to')} 0x{address:08x}{hint} in {self._where()}"

    def _on_invalid(self, _uc: Any, access: int, address: int, _size: int, _value: int, _user: Any) -> bool:
        self._fault = (access, address)
        return False


def _make_core(core: str, target: str) -> Any:
    engine: Any = Uc
    if core == "riscv32":
        return engine(unicorn.UC_ARCH_RISCV, unicorn.UC_MODE_RISCV32)
    model = getattr(arm_const, core.removeprefix("arm:"), None)
    if not core.startswith("arm:") or model is None:
        raise ToolchainError(f"target '{target}': unicorn has no core '{core}'")
    uc = engine(unicorn.UC_ARCH_ARM, unicorn.UC_MODE_THUMB | unicorn.UC_MODE_MCLASS)
    uc.ctl_set_cpu_model(model)
    return uc


@lru_cache(maxsize=1)
def _library() -> ctypes.CDLL:
    return ctypes.CDLL(str(shared_library("hook.c")))


def _round_up(size: int) -> int:
    return max(_PAGE, -(-size // _PAGE) * _PAGE)
