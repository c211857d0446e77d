"""RESULTS.md: the tables that the scripts left in results/, in the order of the claims, with all verdicts in front.

usage: summarise.py [--check]     --check: only say whether RESULTS.md is what results/ holds (exit status 1: it is not)
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
#: Script: the claim that it measures.
CLAIMS = {
    "olmp": "OLMP: LeNet-300-100 and LeNet-5 with a hundredth of their parameters",
    "lenet5_small": "LeNet-5 in 6 kB of flash",
    "squeeze": "Squeeze: one-shot, no fine-tuning",
    "mutual_information": "Mutual information: channels by what they tell of the labels",
    "hfp": "HFP: 60 % of multiplications and of parameters out",
    "symog": "SYMOG: two-bit weights in all layers",
    "fisher": "Fisher: which weights go, which need their bits",
    "resnet8": "ResNet-8, everything together",
    "presets": "Presets",
}


def verdicts(text: str) -> Iterator[tuple[str, str, str, str]]:
    """(figure, goal, measured, verdict) of the rows that have a verdict."""
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []
        if len(cells) == 4 and cells[3] in ("met", "missed"):
            yield cells[0], cells[1], cells[2], cells[3]


def summary(results: Path) -> str:
    """The whole of RESULTS.md."""
    found = {name: results / f"{name}.md" for name in CLAIMS if (results / f"{name}.md").is_file()}
    texts = {name: path.read_text().strip() for name, path in found.items()}
    parts = [
        "# Measured figures of the compression methods",
        "Written by `tools/reproduce/summarise.py` from `results/`; every table is printed by the script that is named "
        "above it (from a clone with `../shared` beside it; `--quick` takes ten minutes at most). A verdict is of the "
        "goal in its row. Test images are looked at once, at the end of a script.",
        "| script | figure | goal | measured | verdict |\n| :-- | :-- | --: | --: | --: |\n"
        + "\n".join(f"| {name} | {' | '.join(row)} |" for name, text in texts.items() for row in verdicts(text)),
    ]
    for name, text in texts.items():
        parts += [f"# {CLAIMS[name]}", f"    .venv/bin/python tools/reproduce/{name}.py", text]
        if (results / f"{name}.png").is_file():
            parts.append(f"![{CLAIMS[name]}]({results.name}/{name}.png)")
    missing = [name for name in CLAIMS if name not in found]
    if missing:
        parts.append(f"Not measured in full yet: {', '.join(missing)}.")
    return "\n\n".join(parts) + "\n"


def main() -> None:
    target, text = FOLDER / "RESULTS.md", summary(FOLDER / "results")
    if sys.argv[1:] == ["--check"]:
        if not target.is_file() or target.read_text() != text:
            raise SystemExit("RESULTS.md is not what results/ holds: run tools/reproduce/summarise.py")
    elif sys.argv[1:]:
        raise SystemExit(__doc__)
    else:
        target.write_text(text)


if __name__ == "__main__":
    main()
