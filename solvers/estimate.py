"""What a scan will cost, before it starts: exact size on disk, and time from a few points of it."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from .layout import DIAGNOSTICS, OF_SCANS
from .scan import Scan
from .solve import solve_points
from .store import file_bytes

#: Blocks looked at, points solved in each, and seconds after which to stop looking.
BLOCKS, POINTS, PATIENCE = 8, 17, 5.0
#: Seconds to write one variable of one block.
WRITING = 2e-4


@dataclass(frozen=True)
class Estimate:
    """What a scan will cost.

    Attributes
    ----------
    points : int
    bytes : int
        Of the arrays of the file; a few thousand come on top.
    processor_seconds : float
        Of solving and writing; divide by the workers.  A factor 2 off where points differ much in cost.
    """

    points: int
    bytes: int
    processor_seconds: float


def estimate(scan: Scan) -> Estimate:
    """Solve a few points of some blocks, and extrapolate; takes about five seconds at most.

    Points of a block share a table, which takes longer than many points: the first point is timed apart.
    """
    blocks = scan.blocks()
    chosen = [blocks[i] for i in np.unique(np.linspace(0, len(blocks) - 1, BLOCKS).round().astype(int))]
    columns = [q.name in scan.problem.table_parameters for q in scan.problem.parameters]
    solve_points(scan.problem, scan.points(chosen[0])[:1], scan.method)  # compiles, or fetches what is compiled
    begin, costs = time.perf_counter(), []
    for slab in chosen:
        rows = scan.points(slab)
        tables = len(np.unique(rows[:, columns], axis=0))
        once = _seconds(scan, rows[:1])
        few = rows[: min(POINTS, len(rows) // tables)] if once < PATIENCE / BLOCKS else rows[:1]
        each = (_seconds(scan, few) - once) / (len(few) - 1) if len(few) > 1 else once
        each = min(max(each, 0.0), once)
        costs.append(tables * (once - each) + len(rows) * each)
        if time.perf_counter() - begin > PATIENCE:
            break
    writing = WRITING * (len(scan.problem.values.quantities) + len(DIAGNOSTICS | OF_SCANS))
    return Estimate(scan.grid.size, file_bytes(scan.plan), (float(np.mean(costs)) + writing) * len(blocks))


def _seconds(scan: Scan, rows: np.ndarray) -> float:
    begin = time.thread_time()
    try:
        solve_points(scan.problem, rows, scan.method)
    except Exception:  # the scan itself says what is wrong with a block
        pass
    return time.thread_time() - begin
