"""A hand-written artefact: y = x + 1, then z = -y, saturating, over 20 codes. It needs no back end of dnnc."""

from __future__ import annotations

import numpy as np

from dnnc.artefact import FLOAT_GRAPH, INTEGER_GRAPH, Artefact
from dnnc.ir.graph import Graph, Input, Node, Output
from dnnc.ir.serial import dump_graph
from dnnc.ir.types import Layout, Quant, TensorType
from dnnc.ops.pointwise import Pointwise

SIZE = 20
CODES = np.arange(-128, 128)

HEADER = """
#ifndef TINY_H
#define TINY_H
#include <stdint.h>
typedef struct { int8_t x[20]; } tiny_input_t;
typedef struct { int8_t z[20]; } tiny_output_t;
tiny_input_t *tiny_input(void);
tiny_output_t *tiny_output(void);
int tiny_run(const tiny_input_t *in, tiny_output_t *out);
#endif
"""

#: @BODY@ runs between the two steps.
SOURCE = """
#include "tiny.h"

#if defined(__GNUC__) && defined(__ELF__)
#define PLACED(name) __attribute__((section(name)))
#else
#define PLACED(name)
#endif

static union { uint8_t bytes[40]; uint64_t aligned; } tiny_arena PLACED(".bss.dnnc_arena");
static const volatile int8_t one[16] PLACED(".rodata.dnnc_weights") = {1};
static const volatile int32_t limit[3] PLACED(".rodata.dnnc_tables") = {127};
@GLOBALS@

#ifdef DNNC_TRACE
void dnnc_trace(int32_t step, const void *data, uint32_t bytes);
#define TRACE(step, data) dnnc_trace(step, data, 20)
#else
#define TRACE(step, data) ((void)0)
#endif

tiny_input_t *tiny_input(void) { return (tiny_input_t *)(void *)tiny_arena.bytes; }
tiny_output_t *tiny_output(void) { return (tiny_output_t *)(void *)(tiny_arena.bytes + 20); }

int tiny_run(const tiny_input_t *in, tiny_output_t *out) {
  TRACE(-1, in);
  for (int i = 0; i < 20; ++i) out->z[i] = (int8_t)(in->x[i] < limit[0] ? in->x[i] + one[0] : 127);
  TRACE(0, out);
  @BODY@
  for (int i = 0; i < 20; ++i) out->z[i] = (int8_t)(out->z[i] > -128 ? -out->z[i] : 127);
  TRACE(1, out);
  return 0;
}
"""


def tiny_graph() -> Graph:
    kind = TensorType((4, 5), Quant(8, 0.5, 0))
    layout = Layout((1, 4, 5), 0, (0, 1))
    add = np.minimum(CODES + 1, 127).astype(np.int8)
    negate = np.minimum(-CODES, 127).astype(np.int8)
    nodes = (
        Node("add_one", Pointwise("affine", 1.0, 0.5), ("x",), {"table": add}, kind),
        Node("negate", Pointwise("affine", -1.0, 0.0), ("add_one",), {"table": negate}, kind),
    )
    return Graph("tiny", (Input("x", kind, "x", layout),), nodes, (Output("negate", "z", layout),)).verify()


def tiny_artefact(target: str, body: str = "", declarations: str = "") -> Artefact:
    """The artefact for a target; `body` is C between its two steps, `declarations` C at file scope."""
    graph = dump_graph(tiny_graph())
    source = SOURCE.replace("@BODY@", body).replace("@GLOBALS@", declarations)
    files = {
        "c/tiny.h": HEADER.encode(),
        "c/tiny.c": source.encode(),
        INTEGER_GRAPH: graph,
        FLOAT_GRAPH: graph,
    }
    return Artefact.create("tiny", target, files, {})


def tiny_inputs(count: int = 5) -> dict[str, np.ndarray]:
    """Codes int32 [count, 4, 5], the extremes among them."""
    codes = np.random.default_rng(1).integers(-128, 128, (count, 4, 5)).astype(np.int32)
    codes[0, 0, :3] = (-128, 127, 0)
    return {"x": codes}
