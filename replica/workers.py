"""Independent calls in processes of one BLAS thread each: the same bits for any number of processes.

Processes, because some experiments are loops in Python, which threads would take turns at.  One BLAS thread, because a library
that splits a sum over its threads rounds it differently for every number of them, and because processes times threads
would be more than the processors.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

#: What the libraries below numpy read when they are loaded.
THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS", "BLIS_NUM_THREADS")


class WorkerError(RuntimeError):
    """A process ended before its work did."""


def call_all(
    function: Callable[..., Any],
    tasks: Sequence[tuple[Any, ...]],
    workers: int,
    done: Callable[[int, Any], object] | None = None,
) -> list[Any]:
    """``[function(*task) for task in tasks]``, in `workers` new processes.

    Parameters
    ----------
    function : callable
        Importable by name, as its arguments and results must be picklable.
    tasks : sequence of tuple
        Started in this order: put long ones first.
    workers : int
        Processes, at least 1.  Also a single one is a process of its own, since here BLAS may have its threads already.
    done : callable, optional
        Called with the number of a task and its result, in the order of `tasks`.

    Returns
    -------
    list
        In the order of `tasks`.

    Raises
    ------
    WorkerError
        If a process was killed.  What `function` raises is raised here, and the calls that have not begun are dropped.
    """
    count = max(1, min(workers, len(tasks)))
    context = multiprocessing.get_context("spawn")
    watched, line = context.Pipe(duplex=False)
    with line, watched, ProcessPoolExecutor(count, context, _begin, (watched,)) as pool:
        try:
            with _one_thread():  # processes start while tasks are handed in, and inherit this
                futures: list[Future[Any]] = [pool.submit(function, *task) for task in tasks]
            results = []
            for number, future in enumerate(futures):  # begun in this order, so the next to be waited for is among the oldest
                results.append(future.result())
                if done:
                    done(number, results[-1])
            return results
        except BrokenProcessPool as error:
            raise WorkerError("a process was killed (for want of memory, perhaps); try fewer workers or smaller tasks") from error
        except BaseException:
            line.close()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _begin(watched: Connection) -> None:
    """An interrupt ends a process at once and in silence, its parent speaks for it; so does the end of the parent's line."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=_watch, args=(watched,), daemon=True).start()


def _watch(watched: Connection) -> None:
    try:
        watched.recv()
    except EOFError:  # the parent gave up, or was killed
        os._exit(1)


@contextmanager
def _one_thread() -> Iterator[None]:
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
