"""One phase diagram of spiked random features, alpha by reg, solved and stored: time and memory.

A process of its own, so that its peak memory is that of the scan.  Processor time of all threads and of the one that writes
tell, also on a busy machine, how two workers would fare on a quiet one: `two_over_one` is 2 S/(S + W), where S is the time of
the workers and W that of the writer, which is hidden behind one worker but not behind two on two processors.
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
from replica.results import open_results
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
        scan = Scan(problem, grid, fixed=FIXED, method=METHOD)
        everyone, writer = time.process_time(), time.thread_time()
        report = scan.run(file, workers=workers)
        end, everyone, writer = time.perf_counter(), time.process_time() - everyone, time.thread_time() - writer
        peak, stored = peak_memory(), os.path.getsize(file)
        with open_results(file) as data:
            lazy = not any(data[name].variable._in_memory for name in problem.values.names)
            opened = time.perf_counter() - end
    return {
        "points": size * size,
        "workers": workers,
        "seconds": end - ready,
        "seconds_before": ready - begin,
        "processor_seconds": everyone,
        "writer_seconds": writer,
        "two_over_one": 2 * (everyone - writer) / everyone,
        "peak_bytes": peak,
        "opens_lazily": lazy,
        "seconds_to_open": opened,
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
