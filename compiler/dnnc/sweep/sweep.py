"""From a model and a range of flash to the front of what can be traded, in a folder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import Executor, Future, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dnnc import build, frontend
from dnnc.cost.loader import load_target
from dnnc.cost.target import Target
from dnnc.errors import OptionError
from dnnc.ir.types import Shape
from dnnc.progress import Progress, silent
from dnnc.quantise.bits.uniform import Uniform
from dnnc.quantise.data import Source
from dnnc.samples import gather
from dnnc.sweep.candidates import Candidate, candidate_of, candidates
from dnnc.sweep.evaluate import Payload, evaluate, pack, prepared
from dnnc.sweep.executors import executor
from dnnc.sweep.front import Point, pareto, plot, to_csv, to_json
from dnnc.sweep.store import keep, kept, open_store, write

#: Samples that every candidate is measured on.
SAMPLES = 500


@dataclass(frozen=True)
class Sweep:
    """points: all that were measured; front: those that no other one beats and that lie in the range of flash; files:
    written into the folder. notes: for the user.
    """

    points: tuple[Point, ...]
    front: tuple[Point, ...]
    folder: Path
    files: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def headings(self) -> tuple[str, ...]:
        return ("bits from", "mean bits", "accuracy", "flash", "RAM", "cycles (model)", "energy uJ")

    def rows(self) -> list[tuple[str, ...]]:
        """The front as texts, one cell for each of `headings`; without labels accuracy is agreement, or SQNR in dB."""
        return [
            (
                p.origin,
                f"{p.weight_bits:.2f}",
                f"{p.quality:.2f}",
                f"{p.flash_bytes:,}",
                f"{p.ram_bytes:,}",
                "-" if p.cycles is None else f"{p.cycles:,}",
                "-" if p.energy_uj is None else f"{p.energy_uj:,.0f}",
            )
            for p in self.front
        ]


def sweep(
    model: Any,
    *,
    folder: str | Path,
    flash_bytes: tuple[int, int],
    target: str | Path = "cortex-m7",
    data: Source | Iterable[Any] | None = None,
    held_out: Source | None = None,
    points: int = 30,
    group: str = "layer",
    samples: int = SAMPLES,
    executor_name: str = "process",
    workers: int | None = None,
    input_shapes: Mapping[str, Shape] | None = None,
    compiler: str = "auto",
    seed: int = 0,
    progress: Progress = silent,
) -> Sweep:
    """Measures `points` allocations of bits, and the uniform ones among them, and writes their front to `folder`.

    flash_bytes: least and most bytes of the linked program. group: "layer" or "channel". samples: labelled held-out
    samples that accuracy is measured on. executor_name: see `executors.executor`. Results are stored as they come: a
    second call with the same arguments goes on. The same arguments give the same files, whatever the executor.
    Raises OptionError where the folder holds another sweep, and what `dnnc.compile` raises.
    """
    if not 0 < flash_bytes[0] <= flash_bytes[1]:
        raise OptionError(f"the range of flash expects two sizes in bytes, the smaller first, found {flash_bytes}")
    if points < 1:
        raise OptionError(f"a sweep needs at least one point, found {points}")
    hardware = load_target(target)
    progress("reading the model", 0, 0)
    graph = frontend.read(model, input_shapes)
    given = gather(graph, data, held_out=held_out, seed=seed, progress=progress)
    measured = given.calibration if given.measured_on is None else given.measured_on
    payload = pack(graph, given.calibration, measured.spread(samples), str(target), compiler, seed)
    settings = {
        "network": graph.name, "target": hardware.name, "flash_bytes": list(flash_bytes), "points": points,
        "group": group, "samples": min(samples, len(measured)), "seed": seed, "digest": payload.digest,
    }  # fmt: skip
    home = Path(folder)
    results = open_store(home, settings)
    chosen = _proposed(payload, hardware, flash_bytes, points, group, seed, progress)
    found = kept(results)
    missing = [candidate for candidate in chosen if candidate.key not in found]
    if missing:
        with executor(executor_name, workers) as pool:
            for point in _evaluated(pool, payload, missing, len(chosen), progress):
                keep(results, point)
                found[point.key] = point
    every = tuple(found[candidate.key] for candidate in chosen)
    front = pareto([p for p in every if flash_bytes[0] <= p.flash_bytes <= flash_bytes[1]])
    write(home / "sweep.csv", to_csv(every, front))
    write(home / "sweep.json", to_json(settings, every, front))
    drawn = plot(every, front, home / "sweep.png")
    notes = given.calibration.warnings if drawn else (*given.calibration.warnings, "no plot: matplotlib is not there")
    return Sweep(every, front, home, ("sweep.csv", "sweep.json", *(["sweep.png"] if drawn else [])), notes)


def _proposed(
    payload: Payload, target: Target, flash: tuple[int, int], points: int, group: str, seed: int, progress: Progress
) -> tuple[Candidate, ...]:
    """Candidates for programs in the range of flash: code is what a program of 8 bits has, where no model knows it."""
    calibration = prepared(payload).calibration
    code = 0
    source = build.Programs(calibration, target).source
    if source is None or not source.knows_code:
        progress("measuring code", 0, 0)
        plain = candidate_of("int8", Uniform().allocate(calibration, target, None, seed))
        code = max(evaluate(payload, plain).flash_bytes - _constants(payload, plain), 0)
    room = (max(flash[0] - code, 1), max(flash[1] - code, 1))
    return candidates(calibration, target, room, points, group, seed, progress)


def _constants(payload: Payload, candidate: Candidate) -> int:
    """Bytes of weights and tables, as budgets of flash count them."""
    from dnnc.quantise.bytes import linear_bytes, linear_nodes, other_bytes

    graph, bits = prepared(payload).calibration.graph, candidate.allocation().weight_bits
    return other_bytes(graph) + sum(linear_bytes(node, bits[node.name]) for node in linear_nodes(graph.nodes))


def _evaluated(
    pool: Executor, payload: Payload, missing: list[Candidate], total: int, progress: Progress
) -> Iterable[Point]:
    """As they are done; what is not yet begun is cancelled when the caller stops."""
    futures: list[Future[Point]] = [pool.submit(evaluate, payload, candidate) for candidate in missing]
    done = total - len(missing)
    try:
        for future in as_completed(futures):
            progress("candidates measured", done, total)
            done += 1
            yield future.result()
    finally:
        for future in futures:
            future.cancel()
