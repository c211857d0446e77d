"""A linked bare-metal program: its bytes by address, its symbols, and whose share of the memory is whose."""

from __future__ import annotations

import io
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from elftools.elf.elffile import ELFFile

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
    """segments: (load address, bytes). sections: (address, bytes) by name. symbols: all with a name."""

    elf: bytes
    segments: tuple[tuple[int, bytes], ...]
    sections: Mapping[str, tuple[int, int]]
    symbols: Mapping[str, Symbol]

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
    thumb = file["e_machine"] == "EM_ARM"
    segments = tuple(
        (s["p_paddr"], s.data()) for s in file.iter_segments() if s["p_type"] == "PT_LOAD" and s["p_filesz"]
    )
    sections = {s.name: (s["sh_addr"], s["sh_size"]) for s in file.iter_sections() if s["sh_flags"] & 2}
    symbols: dict[str, Symbol] = {}
    table: Any = file.get_section_by_name(".symtab")
    for symbol in table.iter_symbols():
        if symbol.name and not symbol.name.startswith("$") and symbol["st_shndx"] != "SHN_UNDEF":
            function = thumb and symbol["st_info"]["type"] == "STT_FUNC"
            symbols[symbol.name] = Symbol(symbol["st_value"] & ~int(function), symbol["st_size"])
    return Image(elf, segments, sections, symbols)
