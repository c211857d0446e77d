"""README.md of an artefact: what the firmware engineer needs, and nothing of how it came about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dnnc.report import words
from dnnc.report.data import Report
from dnnc.report.markdown import table

PORT_HEADINGS = ("", "member", "in the model", "shape", "type", "real value")


def artefact_readme(report: Report, manifest: Mapping[str, Any], c_files: Sequence[str]) -> str:
    """manifest: the artefact's, for its `inputs` and `outputs`; c_files: paths in the artefact. Ends with a newline."""
    name = report.name
    build = [path for path in c_files if path.endswith(".c") and not path.endswith("_selftest.c")]
    rows = [port_row("input", port) for port in manifest["inputs"]] + [
        port_row("output", port) for port in manifest["outputs"]
    ]
    first_in, first_out = manifest["inputs"][0]["name"], manifest["outputs"][0]["name"]
    return f"""# {name}

A neural network as integer C99 for {report.target}: no malloc, no runtime, no dependencies beyond `<stdint.h>` and
`<stddef.h>`. It computes exactly, bit for bit, what `dnnc verify` checks.{_written(name, manifest)}

## Add it to a build

Put the folder `c/` on the include path and compile its files, all but `{name}_selftest.c`, with `-O2` and C99 or later:

{chr(10).join(f"    {path}" for path in build)}

The constants lie in the sections `.rodata.dnnc_weights` and `.rodata.dnnc_tables`, the working memory in
`.bss.dnnc_arena`; link them where you like. Nothing is reentrant: one inference at a time.

## Call it

```c
#include "{name}.h"

{name}_input_t *in = {name}_input();    /* in the arena: writing here saves a copy; your own struct does as well */
{name}_output_t *out = {name}_output();
in->{first_in}[i] = {name}_quantise_{first_in}(real);    /* or codes that you have: a pixel, an ADC value */
int error = {name}_run(in, out);       /* 0: done. The input is consumed: write it anew for every inference. */
float real = {name}_dequantise_{first_out}(out->{first_out}[j]);
```

Codes stand for real numbers: real = scale * (code - zero_point). Shapes are channels last, whatever the model had.

{table(PORT_HEADINGS, rows, PORT_HEADINGS)}

`int {name}_selftest(void)`, in a file of its own, runs stored inputs and returns 0 when every output is as it must be:
call it once on the real hardware.

## Figures

{table(("", ""), words.totals(report), {""})}

Instructions are counted on an emulated core; cycles are modelled, without wait states. Layer by layer: report.md.

## What is here

{table(("file", "content"), _contents(manifest), ("file", "content"))}
"""


def _written(name: str, manifest: Mapping[str, Any]) -> str:
    """Who wrote the kernels, where they are not dnnc's own."""
    if "kernels" not in manifest:
        return ""
    return f"""

Its kernels, `c/{name}_kernels.c`, were written by {manifest["kernels"]} from dnnc's tensor expressions; dnnc placed
what they work on. Its functions and types are those of a network of dnnc's own kernels (`--backend c`): one takes the
place of the other by compiling other files, and gives the same output. The file of kernels turns `-Wconversion` off for
itself; everything compiles with `-Wall -Wextra -Wconversion -Werror`."""


def _contents(manifest: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    if "kernels" not in manifest:
        return _CONTENTS
    return (_CONTENTS[0], ("tvm/*.ir.txt", "the IRModule that the kernels were made from, as text"), *_CONTENTS[1:])


_CONTENTS = (
    ("c/", "the program"),
    ("report.md, report.json", "figures of every layer, for people and for machines"),
    ("manifest.json", "names, layouts, scales, layers, and a digest of every file"),
    ("vectors.npz", "test vectors: input codes, and the output codes that they must give"),
    ("model/", "the network before and after quantisation, for `dnnc verify`, `dnnc run` and `dnnc eval`"),
)


def port_row(direction: str, port: Mapping[str, Any]) -> tuple[str, ...]:
    kind = "int8_t" if port["bits"] <= 8 else "int16_t"
    real = f"{port['scale']:.9g} * (code - {port['zero_point']})".replace("- -", "+ ")
    return (direction, port["name"], port["model_name"], words.shape(port["shape"]), kind, real)
