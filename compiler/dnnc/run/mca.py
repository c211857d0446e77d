"""Cycles of basic blocks by llvm-mca: steady state under LLVM's scheduling model of the core.

What llvm-mca cannot take is put differently: IT is left out and what it makes conditional is unconditional, CBZ is CMP
and B, a call is a branch and one cycle (what LLVM 19 makes of a call of latency 3). It counts a load or store of
several registers as one transfer; here it is as many as the core needs. What it still refuses is charged like the rest
of its block.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

from dnnc.cost.instructions import Block, Kind
from dnnc.errors import ToolchainError
from dnnc.run import toolchain

_OLDEST, _NEWEST = 14, 40
# the difference of the two is steady state; it is divisible by every period up to six iterations
_SHORT_RUN, _LONG_RUN = 60, 180
_TIMEOUT_SECONDS = 120
_LISTED = re.compile(r"^\s*([0-9a-f]+):\s+(\S.*)$", re.MULTILINE)
_TOTAL = re.compile(r"^Total Cycles:\s+(\d+)$", re.MULTILINE)
_BAD_LINE = re.compile(r"^<stdin>:(\d+):\d+: error:", re.MULTILINE)
_UNSUPPORTED = re.compile(r"found an unsupported instruction.*?instruction:\s+(\S+)", re.DOTALL)
_CONDITIONS = ("eq", "ne", "hs", "cs", "lo", "cc", "mi", "pl", "vs", "vc", "hi", "ls", "ge", "lt", "gt", "le")
_OPPOSITE = {"cs": "hs", "cc": "lo"}
_SEVERAL = re.compile(r"(ldm|stm)(?:ia|db|fd|ea)?(?:\.w)?\t(\w+)(!?), \{(.*)\}")
_STACKED = re.compile(r"(push|pop)(?:\.w)?\t\{(.*)\}")
_TWO = re.compile(r"(ldr|str)d(?:\.w)?\t(\w+), (\w+), \[(\w+)(.*)")
_DIRECT = re.compile(rf"b(?:{'|'.join(_CONDITIONS)})?(?:\.w|\.n)?")


@dataclass(frozen=True)
class Tools:
    """llvm-mca and the disassembler that came with it."""

    mca: str
    objdump: str
    version: str


@dataclass(frozen=True)
class Prices:
    """Cycles of one execution of each block, and how many of its instructions were charged like its others."""

    cycles: tuple[Fraction, ...]
    extrapolated: tuple[int, ...]


@lru_cache(maxsize=1)
def find_tools() -> Tools | None:
    """The newest llvm-mca on the search path that has its llvm-objdump beside it, whatever suffix they carry."""
    found = []
    for suffix in ("", *(f"-{n}" for n in range(_OLDEST, _NEWEST))):
        mca, objdump = (shutil.which(f"llvm-{tool}{suffix}") for tool in ("mca", "objdump"))
        if mca and objdump:
            version = re.search(r"LLVM version (\d+)\.([\d.]+)", toolchain.run_tool([mca, "--version"], Path.cwd()))
            if version and int(version[1]) >= _OLDEST:
                found.append((int(version[1]), Tools(mca, objdump, f"{version[1]}.{version[2]}")))
    return max(found, key=lambda pair: pair[0])[1] if found else None


@dataclass(frozen=True)
class Mca:
    """One core. `_known`: prices of blocks by their text, so that a block is simulated once."""

    tools: Tools
    triple: str
    cpu: str
    transfer_words: int
    _known: dict[tuple[str, ...], tuple[Fraction, int]] = field(default_factory=dict, repr=False, compare=False)

    @property
    def name(self) -> str:
        return f"llvm-mca {self.tools.version} {self.cpu}"

    def prices(self, elf: bytes, blocks: Sequence[Block]) -> Prices:
        """Prices of blocks of an ELF program. Raises ToolchainError where llvm-mca does not take them."""
        listing = self.disassemble(elf)
        texts = [assembly([listing.get(i.address, "") for i in b.instructions], self.transfer_words) for b in blocks]
        return self.prices_of(texts, [len(b.instructions) for b in blocks], [b.last.kind is Kind.CALL for b in blocks])

    def prices_of(self, texts: Sequence[tuple[str, ...]], sizes: Sequence[int], calls: Sequence[bool]) -> Prices:
        """Prices of blocks of `sizes` instructions that were put as `texts` and end with a call or not."""
        unknown = [text for text in dict.fromkeys(texts) if text not in self._known]
        if unknown:
            self._known.update(zip(unknown, self._simulate(unknown), strict=True))
        cycles, extrapolated = [], []
        for text, size, call in zip(texts, sizes, calls, strict=True):
            price, refused = self._known[text]
            # at least one instruction remains: `_simulate` raises where nothing of a program is understood
            price = price * Fraction(len(text), max(len(text) - refused, 1)) + call
            cycles.append(price)
            extrapolated.append(min(refused, size))
        return Prices(tuple(cycles), tuple(extrapolated))

    def disassemble(self, elf: bytes) -> Mapping[int, str]:
        """Mnemonic, tab, operands, by address."""
        with toolchain.temporary_folder() as work:
            folder = Path(work)
            (folder / "program.elf").write_bytes(elf)
            options = ("-d", "--no-show-raw-insn", f"--triple={self.triple}", f"--mcpu={self.cpu}")
            text = toolchain.run_tool((self.tools.objdump, *options, "program.elf"), folder)
        return {
            int(address, 16): re.split(r"\s*(?:@|//|<)", instruction)[0].rstrip()
            for address, instruction in _LISTED.findall(text)
        }

    def _simulate(self, texts: Sequence[tuple[str, ...]]) -> list[tuple[Fraction, int]]:
        """Cycles of one iteration, and lines that llvm-mca refuses, of each text."""
        dropped: list[set[int]] = [set() for _ in texts]
        while True:
            source, places = self._source(texts, dropped)
            short = self._run(source, _SHORT_RUN)
            # Older ones (LLVM 14) name a line, leave it out, and call that a success.
            if self._drop(short.stderr, texts, places, dropped):
                continue
            if short.returncode == 0:
                break
            said = (short.stderr.strip().splitlines() or ["nothing"])[0]
            raise ToolchainError(f"{self.tools.mca} does not take the program for {self.cpu}: {said}")
        totals = [
            [int(total) for total in _TOTAL.findall(done.stdout)] for done in (short, self._run(source, _LONG_RUN))
        ]
        if any(len(found) != len(texts) for found in totals):
            raise ToolchainError(f"{self.tools.mca} reports on {len(totals[0])} blocks instead of {len(texts)}")
        return [
            (Fraction(long - few, _LONG_RUN - _SHORT_RUN), len(gone))
            for few, long, gone in zip(*totals, dropped, strict=True)
        ]

    def _source(
        self, texts: Sequence[tuple[str, ...]], dropped: Sequence[set[int]]
    ) -> tuple[str, dict[int, tuple[int, int]]]:
        """What llvm-mca reads, and by line number which line of which block stands there."""
        lines = ["\t.syntax unified", "\t.thumb", "here:"]
        places: dict[int, tuple[int, int]] = {}
        for block, text in enumerate(texts):
            lines.append(f"# LLVM-MCA-BEGIN b{block}")
            kept = [(i, line) for i, line in enumerate(text) if i not in dropped[block]]
            for index, line in kept:
                lines.append(f"\t{line}")
                places[len(lines)] = (block, index)
            if not kept:
                lines.append("\tnop")
            lines.append("# LLVM-MCA-END")
        return "\n".join(lines) + "\n", places

    def _run(self, source: str, iterations: int) -> subprocess.CompletedProcess[str]:
        options = (f"-mtriple={self.triple}", f"-mcpu={self.cpu}", f"-iterations={iterations}")
        command = (self.tools.mca, *options, "-instruction-info=0", "-resource-pressure=0", "-")
        try:
            return subprocess.run(
                command, input=source, capture_output=True, text=True, check=False, timeout=_TIMEOUT_SECONDS
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ToolchainError(f"'{self.tools.mca}' cannot be run: {error}") from error

    @staticmethod
    def _drop(
        said: str, texts: Sequence[tuple[str, ...]], places: Mapping[int, tuple[int, int]], dropped: Sequence[set[int]]
    ) -> bool:
        """Marks the lines that llvm-mca names; whether there are any that were not marked before."""
        named = {places[int(line)] for line in _BAD_LINE.findall(said) if int(line) in places}
        for mnemonic in _UNSUPPORTED.findall(said):
            named |= {
                (block, index)
                for block, index in places.values()
                if texts[block][index].split("\t")[0].split(".")[0] == mnemonic.split(".")[0]
            }
        for block, index in named:
            dropped[block].add(index)
        return bool(named)


def assembly(listing: Sequence[str], transfer_words: int) -> tuple[str, ...]:
    """The instructions of a block, as a disassembler lists them, as llvm-mca takes them."""
    lines: list[str] = []
    pending: list[str] = []  # conditions of the instructions that an IT covers
    for text in listing:
        mnemonic, _, operands = text.partition("\t")
        if re.fullmatch(r"it[te]*", mnemonic):
            pending = _conditions(mnemonic, operands.strip())
            continue
        if pending:
            text = _unconditional(text, pending.pop(0))
        lines += _lines(text, transfer_words)
    return tuple(lines)


def _conditions(mnemonic: str, condition: str) -> list[str]:
    """Of the instructions after an IT: "ite lt" -> ["lt", "ge"]."""
    index = _CONDITIONS.index(condition)
    pairs = {"eq": "ne", "hs": "lo", "cs": "cc", "mi": "pl", "vs": "vc", "hi": "ls", "ge": "lt", "gt": "le"}
    opposite = {**pairs, **{b: a for a, b in pairs.items()}}[_CONDITIONS[index]]
    return [condition if letter in "it" else opposite for letter in "i" + mnemonic[2:]]


def _unconditional(text: str, condition: str) -> str:
    mnemonic, tab, operands = text.partition("\t")
    name, dot, width = mnemonic.partition(".")
    same = {condition, _OPPOSITE.get(condition, condition)}
    stripped = next((name[: -len(c)] for c in same if name.endswith(c)), name)
    return f"{stripped}{dot}{width}{tab}{operands}"


def _lines(text: str, transfer_words: int) -> list[str]:
    """One instruction as one line or several."""
    mnemonic, _, operands = text.partition("\t")
    if mnemonic in ("cbz", "cbnz"):
        return [f"cmp\t{operands.split(',')[0]}, #0", ("beq" if mnemonic == "cbz" else "bne") + "\there"]
    if mnemonic.split(".")[0] in ("bl", "blx"):
        return ["b\there"] if operands[:1] != "r" and operands != "lr" else [f"bx\t{operands}"]
    if _DIRECT.fullmatch(mnemonic):
        return [f"{mnemonic.split('.')[0]}\there"]
    if found := _TWO.fullmatch(text):
        return [text] if transfer_words > 1 else _two(*found.groups())
    if found := _SEVERAL.fullmatch(text):
        what, base, writes, registers = found.groups()
        return _several("ldr" if what == "ldm" else "str", base, registers.split(", "), bool(writes), transfer_words)
    if found := _STACKED.fullmatch(text):
        what, registers = found.groups()
        return _several("ldr" if what == "pop" else "str", "sp", registers.split(", "), True, transfer_words)
    return [text]


def _two(what: str, first: str, second: str, base: str, rest: str) -> list[str]:
    """LDRD or STRD as two; the one that changes the base comes last."""
    plain = f"[{base}]"
    order = (second, first) if what == "ldr" and first == base else (first, second)
    return [f"{what}\t{order[0]}, {plain}", f"{what}\t{order[1]}, " + (f"[{base}{rest}" if rest != "]" else plain)]


def _several(what: str, base: str, registers: Sequence[str], writes: bool, words: int) -> list[str]:
    """LDM, STM, PUSH or POP as transfers of `words` registers; the last one changes the base and reaches PC."""
    ordered = [r for r in registers if r not in (base, "pc")] + [r for r in registers if r in (base, "pc")]
    groups: list[list[str]] = []
    for register in ordered:
        if groups and len(groups[-1]) < words and register != "pc" and "pc" not in groups[-1]:
            groups[-1].append(register)
        else:
            groups.append([register])
    lines = []
    for index, group in enumerate(groups):
        post = f", #{4 * len(group)}" if writes and index == len(groups) - 1 else ""
        lines.append(f"{what}{'d' if len(group) == 2 else ''}\t{', '.join(group)}, [{base}]{post}")
    return lines
