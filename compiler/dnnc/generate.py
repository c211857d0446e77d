"""What a back end makes of an integer graph: the files of the artefact, and what they take."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from dnnc import build, foresight
from dnnc.artefact import Vectors
from dnnc.backends.c import emit, lower
from dnnc.backends.c.optimise import select
from dnnc.cost.target import Target
from dnnc.errors import OptionError
from dnnc.ir.graph import Graph
from dnnc.passes.plan import plan
from dnnc.progress import Progress
from dnnc.report.data import LayerCost
from dnnc.run import toolchain

BACKENDS = ("c", "tvm")
#: Stored vectors that go into the C: flash is dear. A real input, and one of random codes.
SELFTEST_VECTORS = (0, build.REAL_VECTORS)


@dataclass(frozen=True)
class Generated:
    """files by path in the artefact; costs by node; manifest: what loads them must know beyond the graph."""

    files: Mapping[str, bytes]
    costs: Mapping[str, LayerCost]
    arena_bytes: int
    arena_lower_bound_bytes: int
    manifest: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_c(self) -> bool:
        """Whether it is C, which can be linked and measured."""
        return any(path.startswith("c/") for path in self.files)


@dataclass(frozen=True)
class Backend:
    """name: of BACKENDS. batch: the most samples a call, which only TVM's libraries take.

    tune: arrangements of kernels to try; database: the folder where these are kept, and found again without `tune`.
    """

    name: str = "c"
    batch: int = 1
    tune: int = 0
    database: Path | None = None

    def check(self, target: Target, goal: str) -> None:
        """Raise OptionError for what does not go together, ToolchainError where TVM is missing."""
        if self.name not in BACKENDS:
            raise OptionError(f"unknown back end '{self.name}'; known: {', '.join(BACKENDS)}")
        if self.batch < 1:
            raise OptionError(f"a batch has at least one sample, found {self.batch}")
        if self.tune < 0:
            raise OptionError(f"at least 0 trials are expected for tuning, found {self.tune}")
        tuned = self.tune > 0 or self.database is not None
        if tuned and (self.name != "tvm" or target.tvm is None or target.tvm.triple is not None):
            raise OptionError("tuning measures on this computer: it is for --backend tvm and the target 'host'")
        if self.name == "c":
            if self.batch > 1:
                raise OptionError(f"C takes one sample a call, not {self.batch}: batches are for --backend tvm")
            return
        from dnnc.backends.tvm import require

        if goal != "balanced":
            raise OptionError(f"to optimise for {goal} is for the back end c, which measures its own kernels")
        if target.tvm is None and self.batch > 1:
            raise OptionError(
                f"a batch of {self.batch} is for TVM's libraries; for target '{target.name}', which has no section "
                f"[tvm], it makes C, which takes one sample a call"
            )
        require()

    def generate(
        self,
        graph: Graph,
        target: Target,
        goal: str,
        vectors: Vectors,
        compiler: str,
        budget_bytes: int | None,
        progress: Progress,
    ) -> Generated:
        """What it makes of an integer graph, after `check`. goal, budget_bytes: see `generate_c`."""
        if self.name == "c":
            return generate_c(graph, target, goal, vectors, compiler, budget_bytes, progress)
        if target.tvm is None:
            return generate_plain(graph, target, vectors, progress)
        return generate_tvm(graph, target, self, compiler, progress)

    @property
    def packs(self) -> bool:
        """Whether values of four bits may share bytes."""
        return self.name == "c"


C = Backend()


def generate_c(
    graph: Graph,
    target: Target,
    goal: str,
    vectors: Vectors,
    compiler: str,
    budget_bytes: int | None,
    progress: Progress,
) -> Generated:
    """C99. goal: see dnnc.backends.c.optimise; budget_bytes: of weights and tables."""
    program = select(
        goal,
        lambda tried: lower(graph, target, tried),
        lambda tried: build.cost(graph, tried, target, vectors, compiler, budget_bytes),
        progress,
    )
    progress("generating C", 0, 0)
    layout = foresight.layout(graph, program)
    return Generated(
        emit(graph, program, layout, target, vectors.take(SELFTEST_VECTORS)),
        {step.node: LayerCost(step.kernel, step.weight_bytes, step.table_bytes) for step in program.steps},
        layout.arena_bytes,
        layout.lower_bound_bytes,
    )


def generate_tvm(graph: Graph, target: Target, backend: Backend, compiler: str, progress: Progress) -> Generated:
    """A library and the IRModule that it was made of; the arena is that of the values, as dnnc would place them."""
    from dnnc.backends.tvm.library import build as build_network
    from dnnc.backends.tvm.library import export
    from dnnc.backends.tvm.machine import machine_of
    from dnnc.backends.tvm.schedule import Chooser, first

    machine, tuning = machine_of(target), dict[str, Any]()
    linker = toolchain.find_compiler(target, compiler)
    choose: Chooser = first
    if backend.tune or backend.database:
        from dnnc.backends.tvm.tune import tuned

        choose, tuning = tuned(graph, machine, backend.tune, backend.database, linker.command, progress)
    progress("compiling with TVM", 0, 0)
    network = build_network(graph, machine, backend.batch, choose)
    library = export(network, _link_by(linker))
    layout = plan(graph)
    return Generated(
        {f"tvm/{graph.name}.so": library, f"tvm/{graph.name}.ir.txt": network.module.script().encode()},
        _costs(graph, network.program.steps),
        layout.arena_bytes,
        layout.lower_bound_bytes,
        {
            "tvm": {
                "library": f"tvm/{graph.name}.so",
                "batch": backend.batch,
                "triple": network.machine.triple,
                "cpu": network.machine.cpu,
                **tuning,
            }
        },
    )


def generate_plain(graph: Graph, target: Target, vectors: Vectors, progress: Progress) -> Generated:
    """TVM's kernels as C with plain pointers, behind the interface of `generate_c`."""
    from dnnc.backends.tvm.plain_emit import build_plain, emit_plain

    progress("generating C with TVM", 0, 0)
    network = build_plain(graph, target)
    files = emit_plain(network, vectors.take(SELFTEST_VECTORS))
    return Generated(
        {**files, f"tvm/{graph.name}.ir.txt": network.text},
        _costs(graph, [kernel.step for kernel in network.kernels.values()]),
        network.plan.arena_bytes,
        network.plan.lower_bound_bytes,
        {"kernels": f"TVM {version('apache-tvm')}"},
    )


def _costs(graph: Graph, steps: Iterable[Any]) -> dict[str, LayerCost]:
    """By node what TVM's kernels take. steps: of the nodes that have one."""
    made = {step.node.name: LayerCost(step.function, step.weight_bytes, step.table_bytes) for step in steps}
    return {node.name: made.get(node.name, LayerCost("")) for node in graph.nodes}


def _link_by(compiler: toolchain.Compiler) -> Callable[[str, Sequence[str]], None]:
    def link(output: str, objects: Sequence[str]) -> None:
        # The library's calls of TVM's runtime are resolved where it is loaded.
        toolchain.run_tool(
            (*compiler.command, "-O2", "-shared", "-s", "-fPIC", *objects, "-o", output), Path(output).parent
        )

    return link
