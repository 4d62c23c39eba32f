"""Scans: every point of a grid solved in parallel and kept in one file; stop and run again at will.

The unit of work is a block of the grid, solved by one compiled call in a thread.  Points do not depend on each other
and only the parent writes, so the numbers do not depend on workers, order or interruptions.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import islice, product
from math import ceil, prod
from pathlib import Path

import numpy as np

from .grid import Grid
from .methods import Method
from .plan import Plan
from .problem import as_problem
from .result import Result
from .solve import check_method, default_method, solve_points
from .store import DIAGNOSTICS, ScanFile

log = logging.getLogger(__name__)

# Enough points per block to make writing cheap, and enough blocks to keep all workers busy to the end.
BLOCK_POINTS = 4096
LEAST_BLOCKS = 64

Slab = tuple[slice, ...]


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
    seconds : float
    """

    path: Path
    counts: dict[Result, int]
    computed: int
    skipped: int
    seconds: float


class Scan:
    """A problem on a grid.

    Parameters
    ----------
    problem : Problem, or a model with ``compile()``
    grid : Grid
    fixed : mapping of str to float, optional
        Parameters that are not axes.  Those left out take their default.
    method : Method

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
        self.method = method or default_method(self.problem)
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
        progress: Callable[[int, int], object] | None = None,
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

        Returns
        -------
        ScanReport

        Raises
        ------
        StoreError
            If the file cannot be written, or holds another scan.
        KeyboardInterrupt
            After the blocks that were running have been finished and written.
        """
        start = time.perf_counter()
        if workers is None:
            workers = os.cpu_count() or 1
        if workers < 1:
            raise ValueError(f"workers = {workers} must be at least 1")
        with ScanFile.for_plan(path, self.plan, self._block, overwrite) as file:
            result = file.results()
            missing = (result == Result.PENDING) | (result == Result.ERROR)
            skipped = done = int(result.size - np.count_nonzero(missing))
            if progress:
                progress(done, result.size)

            def write(slab: Slab, arrays: dict[str, np.ndarray]) -> None:
                nonlocal done
                where = missing[slab]
                file.write(slab, arrays, None if where.all() else where)
                result[slab][where] = arrays["result"][where]
                done += int(np.count_nonzero(where))
                if progress:
                    progress(done, result.size)

            slabs = (slab for slab in _slabs(self.grid.shape, self._block) if missing[slab].any())
            _in_threads(self._solve, ((slab, missing[slab]) for slab in slabs), write, workers)
        counts = {code: n for code in Result if (n := int(np.count_nonzero(result == code)))}
        return ScanReport(Path(path), counts, done - skipped, skipped, time.perf_counter() - start)

    def _solve(self, slab: Slab, where: np.ndarray) -> tuple[Slab, dict[str, np.ndarray]]:
        """Values by variable of a block, of its shape; only the points `where` are computed."""
        wanted = where.transpose(self._order)
        points = self._points.vectors(slab, self._order)
        try:
            batch = solve_points(self.problem, points[wanted.ravel()], self.method)
        except Exception:
            text = ", ".join(
                f"{name} from {axis[part][0]:g} to {axis[part][-1]:g}"
                for (name, axis), part in zip(self.grid.axes.items(), slab, strict=True)
            )
            log.exception("%s: the block with %s failed", self.problem.name, text)
            return slab, {"result": np.full(where.shape, Result.ERROR.value, dtype="i1")}
        flat = {name: getattr(batch, name) for name in DIAGNOSTICS} | self.problem.values.unpack(batch.values)
        return slab, {name: self._on_grid(values, wanted) for name, values in flat.items()}

    def _on_grid(self, values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        """From points in the order they were solved in to the block they belong to."""
        block = np.zeros(wanted.shape + values.shape[1:], dtype=values.dtype)
        block[wanted] = values
        back = np.argsort(self._order)
        return block.transpose(*back, *range(len(back), block.ndim))


def _in_threads(
    solve: Callable[[Slab, np.ndarray], tuple[Slab, dict[str, np.ndarray]]],
    jobs: Iterable[tuple[Slab, np.ndarray]],
    write: Callable[[Slab, dict[str, np.ndarray]], None],
    workers: int,
) -> None:
    """Solve the jobs in threads and write each result here, with few in flight, so that memory stays bounded."""
    jobs = iter(jobs)
    running: set[Future[tuple[Slab, dict[str, np.ndarray]]]] = set()

    def finish(future: Future[tuple[Slab, dict[str, np.ndarray]]]) -> None:
        write(*future.result())
        running.discard(future)

    with ThreadPoolExecutor(workers) as pool:
        try:
            while True:
                running.update(pool.submit(solve, *job) for job in islice(jobs, 2 * workers - len(running)))
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    finish(future)
        except KeyboardInterrupt:
            started = [future for future in running if not future.cancel()]
            log.warning("interrupted: writing the %d blocks that are being solved", len(started))
            for future in started:
                finish(future)
            raise


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
