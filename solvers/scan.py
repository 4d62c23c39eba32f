"""Scans: every point of a grid solved in parallel and kept in one file; stop and run again at will.

The unit of work is a block of the grid, solved by one compiled call in a thread or on a cluster.  Only the parent writes.
Points are solved independently; those that fail are then continued from solved neighbours, in an order that the outcome of
the first pass alone decides.  So the numbers do not depend on workers, order or interruptions.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice, product
from math import ceil, prod
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import numpy as np

from .cluster import LOST, ClusterError, connect
from .grid import Grid
from .layout import DIAGNOSTICS, OF_SCANS
from .methods import Ladder, Method, Newton
from .neighbours import distances, neighbours
from .outcomes import add_rung
from .plan import Plan
from .problem import FixedPointProblem, Problem, as_problem
from .result import Result, tally
from .solve import RETRIED, Batch, check_method, default_method, solve_points
from .store import ScanFile, check

log = logging.getLogger(__name__)

# Enough points per block to make writing cheap, and enough blocks to keep all workers busy to the end.
BLOCK_POINTS = 4096
LEAST_BLOCKS = 64

Slab = tuple[slice, ...]
Arrays = dict[str, np.ndarray]
Progress = Callable[[int, int], object]


@dataclass(frozen=True)
class ScanReport:
    """What a run did.

    Attributes
    ----------
    path : Path
    counts : dict of Result to int
        Points of the whole file by outcome; outcomes without points are left out.
    computed, skipped : int
        Points solved by this run, and points that were there already.
    continued : int
        Points that had failed and were tried from solved neighbours, by this run.
    seconds : float
    """

    path: Path
    counts: dict[Result, int]
    computed: int
    skipped: int
    continued: int
    seconds: float

    def __str__(self) -> str:
        return f"{self.path}: {self.computed} points in {self.seconds:.1f} s, {self.skipped} were there; {tally(self.counts)}"


class Scan:
    """A problem on a grid.

    Parameters
    ----------
    problem : Problem, or a model with ``compile()``
    grid : Grid
    fixed : mapping of str to float, optional
        Parameters that are not axes.  Those left out take their default.
    method : Method, optional
        `Ladder` where `default_method` is Newton's, `default_method` for the others.

    Raises
    ------
    ParameterError
        If any parameter or grid value is missing, unknown or out of range; before any work is done.
    """

    def __init__(
        self, problem: object, grid: Grid, fixed: Mapping[str, object] | None = None, method: Method | None = None
    ) -> None:
        self.problem = as_problem(problem)
        self.grid = grid
        usual = default_method(self.problem)
        self.method = method or (Ladder() if isinstance(usual, Newton) else usual)
        check_method(self.problem, self.method)
        self._points = grid.points(self.problem, fixed or {})
        self.plan = Plan(self.problem, grid, self._points.fixed, self.method)
        shared = [i for i, name in enumerate(grid.names) if name in self.problem.table_parameters]
        others = [i for i in range(len(grid.shape)) if i not in shared]
        # Parameters of the table vary slowest, so that each table is made once per block.
        self._order = (*shared, *others)
        self._block = _block(grid.shape, others, shared)

    def run(
        self,
        path: str | Path,
        workers: int | None = None,
        overwrite: bool = False,
        progress: Progress | None = None,
        scheduler: str | None = None,
    ) -> ScanReport:
        """Solve every point that the file does not have yet.

        Points whose result is ERROR, an exception in an earlier run, are tried again.

        Parameters
        ----------
        path : path-like
            Scan file; made if it does not exist, resumed if it holds this very scan.
        workers : int, optional
            Threads; one per processor if not given.
        overwrite : bool
            Start a new file even if there is one.
        progress : callable, optional
            Called with the points done and the points in total, once at the start and after every block.
        scheduler : str, optional
            Address of a dask.distributed scheduler whose workers solve the points, instead of threads here.

        Returns
        -------
        ScanReport

        Raises
        ------
        StoreError
            If the file cannot be written, or holds another scan.
        ClusterError
            If the cluster cannot be used, or its scheduler is lost; what is finished is in the file.
        KeyboardInterrupt
            After the blocks that were running here have been finished and written.
        """
        start = time.perf_counter()
        with (
            _pool(workers, scheduler) as pool,
            ScanFile.for_plan(path, self.plan, self._block, overwrite) as file,
        ):
            result = file.results()
            missing = (result == Result.PENDING) | (result == Result.ERROR)
            self._solve_where(file, pool, missing, self.method, progress)
            continued = self._continue(file, pool, self.method) if isinstance(self.method, Ladder) else 0
            return _report(path, file, int(np.count_nonzero(missing)), continued, start)

    def retry(
        self,
        path: str | Path,
        results: Iterable[Result],
        method: Method,
        workers: int | None = None,
        progress: Progress | None = None,
        scheduler: str | None = None,
    ) -> ScanReport:
        """Solve points of an existing file that did not converge once more, with another method.

        What is pending is solved first, as `run` does.  A point keeps what this method makes of it, and the file remembers that
        it was tried (``rung``): a retry that was interrupted goes on where it stood, and a finished one does nothing again.

        Parameters
        ----------
        path : path-like
        results : iterable of Result
            Which outcomes to try again; neither CONVERGED nor PENDING.
        method : Method
            Of one kind, not a ladder.
        workers, progress, scheduler
            As in `run`.

        Returns
        -------
        ScanReport
            `computed` counts the points tried again.
        """
        chosen = [Result(code) for code in results]
        if not chosen or Result.CONVERGED in chosen or Result.PENDING in chosen:
            known = ", ".join(code.name for code in Result if code not in (Result.CONVERGED, Result.PENDING))
            raise ValueError(f"only points that failed can be retried: name some of {known}")
        check_method(self.problem, method)
        if isinstance(method, Ladder):
            raise ValueError("a retry takes one method, not the ladder: newton, anderson or damped")
        check(path)
        start = time.perf_counter()
        self.run(path, workers, False, progress, scheduler)
        code = add_rung(path, {"name": method.name, **method.options()}, len(self.plan.rungs))
        with _pool(workers, scheduler) as pool, ScanFile.for_plan(path, self.plan, self._block) as file:
            wanted = np.isin(file.results(), chosen) & (file.read("rung") != code)
            self._solve_where(file, pool, wanted, method, progress, code)
            return _report(path, file, int(np.count_nonzero(wanted)), 0, start)

    def blocks(self) -> list[Slab]:
        """The parts of the grid that are solved together, in order."""
        return list(_slabs(self.grid.shape, self._block))

    def points(self, slab: Slab) -> np.ndarray:
        """Parameter vectors of a part of the grid, in the order in which they are solved."""
        return self._points.vectors(slab, self._order)

    def _solve_where(
        self,
        file: ScanFile,
        pool: _Executor,
        wanted: np.ndarray,
        method: Method,
        progress: Progress | None,
        rung: int | None = None,
    ) -> None:
        """Solve the wanted points; `rung` replaces the rung that the method says."""
        done = int(wanted.size - np.count_nonzero(wanted))
        if progress:
            progress(done, wanted.size)

        def jobs() -> Iterator[tuple[Slab, Callable[..., Any], tuple[Any, ...]]]:
            for slab in _slabs(self.grid.shape, self._block):
                if (where := wanted[slab]).any():
                    points = self.points(slab)[where.transpose(self._order).ravel()]
                    yield slab, solve_block, (self.problem, method, points, where, self._order)

        def finish(slab: Slab, arrays: Arrays | None, failure: str) -> None:
            nonlocal done
            where = wanted[slab]
            if arrays is None:
                self._log(slab, failure)
                arrays = {"result": np.full(where.shape, Result.ERROR.value, dtype="i1")}
            elif rung is not None:
                arrays["rung"] = np.full(where.shape, rung, dtype="i1")
            file.write(slab, arrays, None if where.all() else where)
            done += int(np.count_nonzero(where))
            if progress:
                progress(done, wanted.size)

        _each(pool, jobs(), finish)

    def _continue(self, file: ScanFile, pool: _Executor, ladder: Ladder) -> int:
        """Try points on which all methods failed from solved neighbours; returns how many were tried."""
        assert isinstance(self.problem, FixedPointProblem)
        problem, method, last = self.problem, ladder.rungs[0], len(ladder.rungs) - 1
        result, rung = file.results(), file.read("rung")
        distance = distances((result == Result.CONVERGED) & (rung <= last))
        left = np.isin(result, RETRIED) & (rung == last)
        tried = int(np.count_nonzero(left))

        def jobs(near: np.ndarray, usable: np.ndarray) -> Iterator[tuple[Slab, Callable[..., Any], tuple[Any, ...]]]:
            for slab in _slabs(self.grid.shape, self._block):
                inside = [tuple(int(i) for i in at) for at in np.argwhere(near[slab])]
                at = [tuple(part.start + i for part, i in zip(slab, index, strict=True)) for index in inside]
                if at:
                    points = np.concatenate([self.points(tuple(slice(i, i + 1) for i in index)) for index in at])
                    starts = [[self._unknowns(file, beside) for beside in neighbours(index, usable)] for index in at]
                    yield slab, continue_block, (problem, method, points, starts, near[slab])

        def finish(slab: Slab, arrays: Arrays | None, failure: str) -> None:
            where = left[slab] & (distance[slab] == depth)
            if arrays is None:
                self._log(slab, failure)
                arrays = {"solved": np.zeros_like(where)}
            better = arrays.pop("solved")
            top = np.full(where.shape, last + 1, dtype="i1")
            if better.any():
                file.write(slab, {**arrays, "rung": top}, better)
                result[slab][better] = arrays["result"][better]
            if (same := where & ~better).any():
                file.write(slab, {"rung": top, "result": result[slab].copy()}, same)
            rung[slab][where] = last + 1

        for depth in np.unique(distance[left]):
            usable = (result == Result.CONVERGED) & (rung <= last + 1) & (distance < depth)
            _each(pool, jobs(left & (distance == depth), usable), finish)
        return tried

    def _unknowns(self, file: ScanFile, index: tuple[int, ...]) -> np.ndarray:
        """Order parameters of one point of the file."""
        assert isinstance(self.problem, FixedPointProblem)
        part = tuple(slice(i, i + 1) for i in index)
        layout = self.problem.unknowns
        return layout.pack({name: file.read(name, part) for name in layout.names}).reshape(layout.size)

    def _log(self, slab: Slab, failure: str) -> None:
        text = ", ".join(
            f"{name} from {axis[part][0]:g} to {axis[part][-1]:g}"
            for (name, axis), part in zip(self.grid.axes.items(), slab, strict=True)
        )
        log.error("%s: the block with %s failed\n%s", self.problem.name, text, failure)


def solve_block(
    problem: Problem, method: Method, points: np.ndarray, wanted: np.ndarray, order: Sequence[int]
) -> tuple[Arrays | None, str]:
    """Solve the wanted points of a block, wherever it is sent.

    Parameters
    ----------
    points : ndarray, shape (wanted points, parameters)
        With the axes of the block in this `order`, the last varying fastest.
    wanted : ndarray of bool, of the shape of the block

    Returns
    -------
    arrays : dict of ndarray, or None
        Values by variable, of the shape of the block.
    failure : str
        The traceback, if there are none.
    """
    try:
        flat = _variables(problem, solve_points(problem, points, method))
    except Exception:
        return None, traceback.format_exc()
    back = np.argsort(order)
    arrays = {}
    for name, values in flat.items():
        block = np.zeros(tuple(wanted.shape[i] for i in order) + values.shape[1:], dtype=values.dtype)
        block[wanted.transpose(order)] = values
        arrays[name] = block.transpose(*back, *range(len(back), block.ndim))
    return arrays, ""


def continue_block(
    problem: Problem, method: Method, points: np.ndarray, starts: list[list[np.ndarray]], wanted: np.ndarray
) -> tuple[Arrays | None, str]:
    """Solve each wanted point of a block from each of its starts, until one leads to a solution; see `solve_block`.

    The variable ``solved`` says which points did.
    """
    try:
        solved = np.zeros_like(wanted)
        arrays: Arrays = {"solved": solved}
        for index, point, candidates in zip(np.argwhere(wanted), points, starts, strict=True):
            for start in candidates:
                batch = solve_points(problem, point[None], method, start)
                if batch.result[0] not in RETRIED:
                    solved[tuple(index)] = True
                    for name, values in _variables(problem, batch).items():
                        block = arrays.setdefault(name, np.zeros(wanted.shape + values.shape[1:], dtype=values.dtype))
                        block[tuple(index)] = values[0]
                    break
    except Exception:
        return None, traceback.format_exc()
    return arrays, ""


def _variables(problem: Problem, batch: Batch) -> Arrays:
    return {name: getattr(batch, name) for name in (*DIAGNOSTICS, *OF_SCANS)} | problem.values.unpack(batch.values)


def _report(path: str | Path, file: ScanFile, computed: int, continued: int, start: float) -> ScanReport:
    result = file.results()
    counts = {code: n for code in Result if (n := int(np.count_nonzero(result == code)))}
    return ScanReport(Path(path), counts, computed, result.size - computed, continued, time.perf_counter() - start)


class _Executor(Protocol):
    @property
    def slots(self) -> int: ...

    def submit(self, function: Callable[..., Any], /, *arguments: Any) -> Future[Any]: ...


class _Threads(ThreadPoolExecutor):
    @property
    def slots(self) -> int:
        return self._max_workers


@contextmanager
def _pool(workers: int | None, scheduler: str | None) -> Iterator[_Executor]:
    if workers is not None and workers < 1:
        raise ValueError(f"workers = {workers} must be at least 1")
    if scheduler is None:
        with _Threads(workers or processors()) as pool:
            yield pool
    else:
        if workers is not None:
            raise ValueError("workers are threads here, a scheduler has its own workers: give one of the two")
        with connect(scheduler) as cluster:
            yield cluster


def processors() -> int:
    """Processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _each(
    pool: _Executor,
    jobs: Iterator[tuple[Slab, Callable[..., Any], tuple[Any, ...]]],
    finish: Callable[[Slab, Arrays | None, str], None],
) -> None:
    """Do the jobs elsewhere and finish each here, with few in flight, so that memory stays bounded."""
    running: dict[Future[Any], Slab] = {}

    def collect(future: Future[Any]) -> None:
        finish(running[future], *_outcome(future))
        del running[future]

    try:
        with _interrupts() as pressed:
            while True:
                for slab, function, arguments in islice(jobs, max(0, 2 * pool.slots - len(running))):
                    running[pool.submit(function, *arguments)] = slab
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    collect(future)
                if pressed:
                    raise KeyboardInterrupt
    except KeyboardInterrupt:
        started = [future for future in running if not future.cancel()]
        log.warning("interrupted: writing the %d blocks that are being solved", len(started))
        for future in started:
            collect(future)
        raise


@contextmanager
def _interrupts() -> Iterator[list[int]]:
    """Interrupts so far: what an interrupt raises is lost if it comes while Python runs a finaliser or a callback of C."""
    pressed: list[int] = []
    usual = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(usual):
        yield pressed
        return

    def note(number: int, frame: FrameType | None) -> None:
        pressed.append(number)
        usual(number, frame)

    signal.signal(signal.SIGINT, note)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, usual)


def _outcome(future: Future[Any]) -> tuple[Arrays | None, str]:
    """What a job returned; a job that took its workers with it failed like one that raised."""
    try:
        arrays, failure = future.result()
        return arrays, failure
    except CancelledError:
        raise ClusterError(LOST) from None
    except ImportError as error:
        raise ClusterError(f"a worker cannot run this scan ({error}); install this package there") from None
    except ClusterError:
        raise
    except Exception:
        return None, traceback.format_exc()


def _block(shape: tuple[int, ...], others: Sequence[int], shared: Sequence[int]) -> tuple[int, ...]:
    """Shape of a block of about BLOCK_POINTS points, few enough for LEAST_BLOCKS blocks.

    Axes in `others` are filled first, the last one fastest; those of the table (`shared`) only if points are left.
    """
    left = min(BLOCK_POINTS, ceil(prod(shape) / LEAST_BLOCKS))
    block = [1] * len(shape)
    for axis in (*reversed(others), *reversed(shared)):
        # Equal pieces, rather than full ones and a remainder.
        pieces = ceil(shape[axis] / min(left, shape[axis]))
        block[axis] = ceil(shape[axis] / pieces)
        left = max(1, left // block[axis])
    return tuple(block)


def _slabs(shape: tuple[int, ...], block: tuple[int, ...]) -> Iterator[Slab]:
    starts = (range(0, size, step) for size, step in zip(shape, block, strict=True))
    for corner in product(*starts):
        yield tuple(slice(i, min(i + n, size)) for i, n, size in zip(corner, block, shape, strict=True))
