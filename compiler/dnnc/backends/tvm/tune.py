"""Tuning: the ways to arrange a network's kernels, tried out on this computer.

MetaSchedule's runner calls each in another process, and its database keeps what was found, which later compiles reuse:
no arrangement of a kernel is measured twice. Which one is chosen changes no result, only how long it takes.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import tvm
from tvm import s_tir, tirx
from tvm.s_tir import meta_schedule as ms

from dnnc.backends.tvm.library import unchecked
from dnnc.backends.tvm.machine import Machine
from dnnc.backends.tvm.network import lower
from dnnc.backends.tvm.schedule import Choice, Chooser, arranged, first
from dnnc.errors import OptionError
from dnnc.ir.graph import Graph
from dnnc.progress import Progress

#: The most arrangements of a kernel that are tried before the others have their turn.
TOGETHER = 8
#: Seconds on record for an arrangement that failed; from ten times as many on, MetaSchedule forgets it.
FAILED = 1e9
TIMEOUT_SECONDS = 120.0


@dataclass(frozen=True)
class Tuned:
    """trials: arrangements measured now; failed: of them; known: what the database had; choices: all there are."""

    trials: int
    failed: int
    known: int
    choices: int
    interrupted: bool


@dataclass
class Task:
    """A kernel and what is known of its arrangements: seconds by the choice's number."""

    module: Any
    kernel: tirx.PrimFunc
    choices: Sequence[Choice]
    seconds: dict[int, float] = field(default_factory=dict)

    @property
    def best(self) -> float:
        return min(self.seconds.values(), default=FAILED)

    @property
    def untried(self) -> list[int]:
        return [number for number in range(len(self.choices)) if number not in self.seconds]


def open_database(folder: Path) -> Any:
    """MetaSchedule's, made where there is none. Raises OptionError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return ms.database.JSONDatabase(work_dir=str(folder))
    except (OSError, RuntimeError, ValueError) as error:
        told = str(error).strip().splitlines()[-1:] or ["unknown"]
        raise OptionError(f"'{folder}' is not a database of tuned kernels: {told[0]}") from error


def chosen(graph: Graph, machine: Machine, database: Any) -> Chooser:
    """What the database knows to be fastest of every kernel, for one sample or many; else what is not measured."""
    found: dict[str, Any] = {}
    for step in lower(graph, machine.dot).steps:
        records = _records(database, _module(step.plain), machine) if step.choices else []
        if records:
            found[step.node.name] = min(records, key=_seconds).trace

    def choose(node: str, kernel: tirx.PrimFunc, choices: Sequence[Choice]) -> tirx.PrimFunc:
        if node not in found:
            return first(node, kernel, choices)
        schedule = s_tir.Schedule(kernel)
        found[node].apply_to_schedule(schedule, remove_postproc=False)
        return schedule.mod["main"]

    return choose


def tuned(
    graph: Graph, machine: Machine, trials: int, folder: Path | None, compiler: Sequence[str | Path], progress: Progress
) -> tuple[Chooser, dict[str, Any]]:
    """How to arrange a network's kernels after at most `trials` more, and what the manifest says of it.

    folder: of the database; without one, what is found is forgotten.
    """
    with tempfile.TemporaryDirectory(prefix="dnnc-", ignore_cleanup_errors=True) as forgotten:
        database = open_database(folder or Path(forgotten))
        result = tune(graph, machine, trials, database, [str(part) for part in compiler], progress)
        return chosen(graph, machine, database), {"tuning": asdict(result)}


def tune(
    graph: Graph, machine: Machine, trials: int, database: Any, compiler: Sequence[str], progress: Progress
) -> Tuned:
    """Measure at most `trials` arrangements, which the database remembers; an interruption ends it early.

    compiler: the command that links. A trial that fails counts, and nothing else comes of it.
    """
    tasks = _tasks(graph, machine, database)
    known = sum(len(task.seconds) for task in tasks)
    trials = min(trials, sum(len(task.untried) for task in tasks))
    done = failed = 0
    interrupted = False
    try:
        if trials:
            progress("tuning", 0, trials)
            measure = Measurer.start(machine, compiler)
            for task, numbers in _plan(tasks, trials):
                for number in numbers:
                    task.seconds[number] = seconds = measure.measure(task, number, database)
                    failed += seconds >= FAILED
                    done += 1
                    progress("tuning", done, trials)
    except KeyboardInterrupt:
        interrupted = True  # the best so far is what was asked for
    return Tuned(done, failed, known, sum(len(task.choices) for task in tasks), interrupted)


def _tasks(graph: Graph, machine: Machine, database: Any) -> list[Task]:
    """Kernels with a choice, each once."""
    found: dict[str, Task] = {}
    for step in lower(graph, machine.dot).steps:
        module = _module(step.plain)
        text = module.script()
        if len(step.choices) < 2 or text in found:
            continue
        task = found[text] = Task(module, step.plain, step.choices)
        measured = {str(record.trace): _seconds(record) for record in _records(database, module, machine, every=True)}
        if measured:
            for number, choice in enumerate(step.choices):
                schedule = _schedule(task, choice)
                if schedule is not None and str(schedule.trace) in measured:
                    task.seconds[number] = measured[str(schedule.trace)]
    return list(found.values())


def _plan(tasks: Sequence[Task], trials: int) -> Iterator[tuple[Task, list[int]]]:
    """What to measure next: every kernel as it is untuned, then the others in the order of how good they should be, as
    many of a kernel as its share of the time."""
    left = trials
    for task in tasks:
        if 0 in task.untried and left:
            left -= 1
            yield task, [0]
    while left:
        open_tasks = [task for task in tasks if task.untried]
        total = sum(min(task.best, 1.0) for task in open_tasks)
        for task in sorted(open_tasks, key=lambda task: -task.best):
            share = max(1, round(left * min(task.best, 1.0) / total))
            numbers = task.untried[: min(share, TOGETHER, left)]
            left -= len(numbers)
            if numbers:
                yield task, numbers


@dataclass(frozen=True)
class Measurer:
    """Runs kernels in another process, so that one that crashes or hangs ends only itself."""

    machine: Machine
    compiler: tuple[str, ...]
    runner: Any

    @classmethod
    def start(cls, machine: Machine, compiler: Sequence[str]) -> Measurer:
        return cls(
            machine,
            tuple(compiler),
            ms.runner.LocalRunner(
                timeout_sec=TIMEOUT_SECONDS,
                evaluator_config=ms.runner.EvaluatorConfig(number=1, repeat=30, min_repeat_ms=1),
                f_alloc_argument=zeros,
            ),
        )

    def measure(self, task: Task, number: int, database: Any) -> float:
        """Seconds of one choice; FAILED where it has none."""
        schedule = _schedule(task, task.choices[number])
        if schedule is None:
            return FAILED
        arguments = ms.arg_info.ArgInfo.from_entry_func(task.module)
        with tempfile.TemporaryDirectory(prefix="dnnc-", ignore_cleanup_errors=True) as folder:
            seconds = self._run(schedule.mod, Path(folder) / "kernel.so", arguments)
        workload = database.commit_workload(task.module)
        database.commit_tuning_record(
            ms.database.TuningRecord(schedule.trace, workload, [seconds], self.machine.target, arguments)
        )
        return seconds

    def _run(self, module: Any, path: Path, arguments: Any) -> float:
        def link(output: str, objects: Sequence[str], **_: Any) -> None:
            names = [str(name) for name in objects]
            subprocess.run([*self.compiler, "-shared", "-fPIC", *names, "-o", str(output)], check=True)

        try:
            with unchecked():
                built = tvm.tirx.build(module, target=self.machine.target)
            built.export_library(str(path), fcompile=link)
        except (ValueError, RuntimeError, subprocess.CalledProcessError):  # of TVM and of the linker
            return FAILED
        (running,) = self.runner.run([ms.runner.RunnerInput(str(path), "cpu", arguments)])
        outcome = running.result()
        if outcome.error_msg is not None:
            return FAILED
        return min(float(value) for value in outcome.run_secs)


def zeros(device: Any, arguments: Any, repeat: int) -> list[list[Any]]:
    """In another process: arguments that are valid places in any table."""
    made = []
    for _ in range(repeat):
        tensors = []
        for _, dtype, shape in arguments:
            tensor = tvm.runtime.empty(tuple(int(extent) for extent in shape), str(dtype), device)
            tensor.copyfrom(tensor.numpy() * 0)
            tensors.append(tensor)
        made.append(tensors)
    return made


def _module(kernel: tirx.PrimFunc) -> Any:
    return tvm.IRModule({"main": kernel.with_attr("global_symbol", "main")})


def _schedule(task: Task, choice: Choice) -> Any:
    """None where a kernel cannot be arranged so."""
    try:
        return arranged(task.kernel, choice)
    except (ValueError, RuntimeError):  # TVM's own errors are both
        return None


def _records(database: Any, module: Any, machine: Machine, every: bool = False) -> list[Any]:
    """Of this machine; those that failed only where `every` one is wanted."""
    if not database.has_workload(module):
        return []
    records = database.get_top_k(database.commit_workload(module), len(database))
    own = [record for record in records if str(record.target) == str(machine.target)]
    return [record for record in own if every or _seconds(record) < FAILED]


def _seconds(record: Any) -> float:
    return min(float(value) for value in record.run_secs)
