"""A linked bare-metal program: its bytes by address, its symbols, and whose share of the memory is whose."""

from __future__ import annotations

import io
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any

from elftools.elf.elffile import ELFFile

from dnnc.cost import riscv, thumb
from dnnc.cost.instructions import Instruction
from dnnc.run.base import Flash, Ram

# output sections of targets/common/bare_metal.ld
_CODE = (".text", ".rodata", ".data")
_STATIC = (".data", ".bss")


@dataclass(frozen=True)
class Symbol:
    """Address (without the Thumb bit) and size in bytes."""

    address: int
    size: int


@dataclass(frozen=True)
class Image:
    """segments: (load address, bytes). sections: (address, bytes) by name. symbols: all with a name.

    thumb: whether its code is Arm's; else it is RISC-V's.
    """

    elf: bytes
    segments: tuple[tuple[int, bytes], ...]
    sections: Mapping[str, tuple[int, int]]
    symbols: Mapping[str, Symbol]
    thumb: bool

    def flash(self) -> Flash:
        """The model's share of flash; initial values of .data count as code."""
        return Flash(
            weights=self._size(".dnnc_weights"),
            tables=self._size(".dnnc_tables"),
            code=sum(self._size(name) for name in _CODE),
        )

    def ram(self, stack_bytes: int) -> Ram:
        """The model's share of RAM, given the stack that was measured."""
        return Ram(self._size(".dnnc_arena"), sum(self._size(name) for name in _STATIC), stack_bytes)

    def _size(self, section: str) -> int:
        return self.sections.get(section, (0, 0))[1]

    def read(self, address: int, size: int) -> bytes:
        """Bytes of a segment."""
        for start, data in self.segments:
            if start <= address < start + len(data):
                return data[address - start : address - start + size]
        raise ValueError(f"there is no code at 0x{address:08x}")

    def decode(self, address: int) -> Instruction:
        """The instruction at an address of the code."""
        code = self.read(address, 4).ljust(4, b"\0")
        decoder = thumb.decode if self.thumb else riscv.decode
        return decoder(code[0] | code[1] << 8, code[2] | code[3] << 8, address)

    def lines(self, function: str, source: str) -> list[tuple[int, int]]:
        """(address, line), ascending, of the code of a function in the C file `source`; empty if built without -g."""
        symbol = self.symbols[function]
        file = ELFFile(io.BytesIO(self.elf))
        if not file.has_dwarf_info():
            return []
        dwarf = file.get_dwarf_info()
        found: dict[int, int] = {}
        for unit in dwarf.iter_CUs():
            named = unit.get_top_DIE().attributes.get("DW_AT_name")
            if named is None or PurePosixPath(named.value.decode()).name != source:
                continue
            program = dwarf.line_program_for_CU(unit)
            for entry in program.get_entries() if program else ():
                state = entry.state
                if state and not state.end_sequence and 0 <= state.address - symbol.address < symbol.size:
                    found[state.address] = state.line
        return sorted(found.items())

    def function_at(self, address: int) -> str:
        """The name of the function that holds an address; "?" where none does."""
        index = bisect_right(self._starts, address) - 1
        start, name = self._functions[max(index, 0)]
        return name if index >= 0 and address < start + self.symbols[name].size else "?"

    def describe(self, address: int) -> str:
        """ "name+0x12" for an address in the code."""
        index = bisect_right(self._starts, address) - 1
        if index < 0:
            return "?"
        start, name = self._functions[index]
        inside = address < start + self.symbols[name].size
        return f"{name}+0x{address - start:x}" if inside else "no function"

    @cached_property
    def _functions(self) -> list[tuple[int, str]]:
        return sorted((s.address, name) for name, s in self.symbols.items() if s.size)

    @cached_property
    def _starts(self) -> list[int]:
        return [start for start, _ in self._functions]


def read_image(elf: bytes) -> Image:
    """Parses an ELF program."""
    file = ELFFile(io.BytesIO(elf))
    arm = file["e_machine"] == "EM_ARM"
    segments = tuple(
        (s["p_paddr"], s.data()) for s in file.iter_segments() if s["p_type"] == "PT_LOAD" and s["p_filesz"]
    )
    sections = {s.name: (s["sh_addr"], s["sh_size"]) for s in file.iter_sections() if s["sh_flags"] & 2}
    symbols: dict[str, Symbol] = {}
    table: Any = file.get_section_by_name(".symtab")
    for symbol in table.iter_symbols():
        if symbol.name and not symbol.name.startswith("$") and symbol["st_shndx"] != "SHN_UNDEF":
            function = arm and symbol["st_info"]["type"] == "STT_FUNC"
            symbols[symbol.name] = Symbol(symbol["st_value"] & ~int(function), symbol["st_size"])
    return Image(elf, segments, sections, symbols, arm)
