"""README.md of an artefact that is a library of TVM."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dnnc.report import words
from dnnc.report.data import Report
from dnnc.report.markdown import table
from dnnc.report.readme import PORT_HEADINGS, port_row


def library_readme(report: Report, manifest: Mapping[str, Any]) -> str:
    """manifest: the artefact's, for its `inputs`, `outputs` and `tvm`. Ends with a newline."""
    library, batch, cpu = (manifest["tvm"][key] for key in ("library", "batch", "cpu"))
    rows = [port_row("input", port) for port in manifest["inputs"]]
    rows += [port_row("output", port) for port in manifest["outputs"]]
    taken = "one sample" if batch == 1 else f"1 to {batch} samples"
    return f"""# {report.name}

A neural network as a library of TVM for {report.target} ({cpu}), its weights inside, in integers alone. It computes
exactly, bit for bit, what `dnnc verify` checks.

## Call it

A call takes {taken}: the first axis of every tensor. It returns all outputs, in the order below.

Python, with the package `apache-tvm`:

```python
{python_lines(manifest)}
```

C++17, with the headers and the library of TVM's runtime:

```cpp
{cpp_lines(manifest)}
```

Codes stand for real numbers: real = scale * (code - zero_point). Shapes are channels last, whatever the model had.

{table(PORT_HEADINGS, rows, PORT_HEADINGS)}

## Figures

{table(("", ""), words.totals(report), {""})}

## What is here

{table(("file", "content"), (("`" + library + "`", "the network"), *_CONTENTS), ("file", "content"))}
"""


def python_lines(manifest: Mapping[str, Any]) -> str:
    """What loads the library and calls it on zeros."""
    inputs = ", ".join(
        f"tvm.runtime.tensor(np.zeros({(1, *port['shape'])}, np.{_dtype(port)}))" for port in manifest["inputs"]
    )
    return f"""import numpy as np, tvm
network = tvm.relax.VirtualMachine(tvm.runtime.load_module("{manifest["tvm"]["library"]}"), tvm.cpu())
outputs = [y.numpy() for y in network["main"]({inputs})]"""


def cpp_lines(manifest: Mapping[str, Any]) -> str:
    """The same in C++; the tensors x0, x1, ... are the caller's."""
    inputs = ", ".join(f"x{i}" for i in range(len(manifest["inputs"])))
    library = manifest["tvm"]["library"]
    return f"""auto network = tvm::ffi::Module::LoadFromFile("{library}")->GetFunction("vm_load_executable").value()()
                   .cast<tvm::ffi::Module>();
network->GetFunction("vm_initialization").value()(static_cast<int>(kDLCPU), 0, 2);
auto outputs = network->GetFunction("main").value()({inputs}).cast<tvm::ffi::Array<tvm::ffi::Tensor>>();"""


def _dtype(port: Mapping[str, Any]) -> str:
    return "int8" if port["bits"] <= 8 else "int16"


_CONTENTS = (
    ("tvm/*.ir.txt", "the IRModule that it was compiled from, as text"),
    ("report.md, report.json", "figures of every layer, for people and for machines"),
    ("manifest.json", "names, layouts, scales, layers, and a digest of every file"),
    ("vectors.npz", "test vectors: input codes, and the output codes that they must give"),
    ("model/", "the network before and after quantisation, for `dnnc verify`, `dnnc run` and `dnnc eval`"),
)
