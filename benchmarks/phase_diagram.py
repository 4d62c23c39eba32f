"""One phase diagram of spiked random features, alpha by reg, solved and stored: time and memory.

A process of its own, so that its peak memory is that of the scan.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from cases import FIXED, METHOD

from replica.models import SpikedRandomFeatures
from solvers import Grid, Scan, solve


def peak_memory() -> int:
    """Bytes of physical memory this process ever held."""
    # Linux: ru_maxrss starts at the size of the parent that forked us; VmHWM is this process alone.
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def measure(size: int, workers: int) -> dict[str, float]:
    """Wall time of the scan and of everything before it, peak memory, size of the file, points that converged."""
    begin = time.perf_counter()
    problem = SpikedRandomFeatures(activation="tanh", target="sin").compile()
    solve(problem, alpha=1.0, reg=0.1, **FIXED)  # fetches the kernels
    ready = time.perf_counter()
    grid = Grid(alpha=np.linspace(0.1, 3, size), reg=np.logspace(-4, 1, size))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "diagram.h5"
        report = Scan(problem, grid, fixed=FIXED, method=METHOD).run(file, workers=workers)
        end = time.perf_counter()
        stored = os.path.getsize(file)
    return {
        "points": size * size,
        "workers": workers,
        "seconds": end - ready,
        "seconds_before": ready - begin,
        "peak_bytes": peak_memory(),
        "file_bytes": stored,
        "converged": sum(n for code, n in report.counts.items() if code.name == "CONVERGED"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=1000, help="points along each axis")
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    print(json.dumps(measure(arguments.size, arguments.workers)))


if __name__ == "__main__":
    main()
