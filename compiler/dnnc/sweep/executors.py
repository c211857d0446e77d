"""Where candidates are evaluated: processes or threads of this computer, or a Dask cluster."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from dnnc.errors import OptionError
from dnnc.quantise.threads import one_thread

_DASK = "dask://"
KINDS = ("process", "thread", "dask://host:port")


@contextmanager
def executor(text: str, workers: int | None = None) -> Iterator[Executor]:
    """An executor of `process`, `thread` or `dask://host:port`, with as many workers as there are cores unless told
    otherwise (a cluster has as many as it has). What is still waiting when it is left is cancelled.

    Raises OptionError where the text is none of these, or the cluster cannot be reached.
    """
    count = workers or os.cpu_count() or 1
    if text.startswith(_DASK):
        with _dask(text.removeprefix(_DASK)) as found:
            yield found
        return
    if text not in KINDS[:2]:
        raise OptionError(f"unknown executor '{text}'; allowed: {', '.join(KINDS)}")
    made: Executor
    if text == "process":
        # Spawned: a process that forks while torch's threads run may hang.
        made = ProcessPoolExecutor(count, multiprocessing.get_context("spawn"))
    else:
        made = ThreadPoolExecutor(count)
    # Threads share torch's setting, so it is made before they begin.
    with one_thread():
        try:
            yield made
        finally:
            made.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _dask(address: str) -> Iterator[Executor]:
    try:
        import distributed
    except ImportError as error:
        raise OptionError(f"executor '{_DASK}{address}' needs Dask: pip install distributed") from error
    try:
        client: Any = distributed.Client(f"tcp://{address}", timeout="10s")
    except (OSError, TimeoutError, ValueError) as error:
        raise OptionError(f"executor '{_DASK}{address}': there is no scheduler: {error}") from error
    try:
        yield client.get_executor()
    finally:
        client.close()
