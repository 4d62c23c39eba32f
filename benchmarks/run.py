"""All benchmarks, one table: ``python benchmarks/run.py [--quick] [--json FILE]``.

Ratios come from runs that take turns within one process, and from the fastest of them.  What is compared with what is
said in benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import notebook_style
import numba
import numpy as np
from cases import ROOT, Cases, Job

SOLVE = ["solve", "srf", "alpha=2", "alpha0=20", "eta=3", "reg=0.1", "--json"]
#: Time per point of the authors' own notebook as its stored output shows it, in seconds.
PUBLISHED = (1.8, 3.7)


@dataclass
class Row:
    """One line of the table.

    Attributes
    ----------
    what : str
    value : float
    unit : str
        ``x`` for a ratio.
    aim : float or None
        What the value should be at least (`more`) or at most.
    """

    part: str
    what: str
    value: float
    unit: str
    aim: float | None = None
    more: bool = False

    @property
    def met(self) -> bool | None:
        if self.aim is None:
            return None
        return self.value >= self.aim if self.more else self.value <= self.aim

    def line(self) -> str:
        aim = "" if self.aim is None else f"{'>=' if self.more else '<='} {self.aim:,g} {self.unit}"
        verdict = {None: "", True: "yes", False: "NO"}[self.met]
        value = f"{_number(self.value):>10} {self.unit:<4}"
        return f"{self.part:<3} {self.what:<76} {value} {aim:>14} {verdict:>4}".rstrip()


def _number(value: float) -> str:
    if value == 0 or 1e-3 <= abs(value) < 1e7:
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return f"{value:.1e}"


def fastest(jobs: dict[str, Job], repeats: int) -> dict[str, float]:
    """Seconds of each job, the fastest of `repeats` rounds in which the jobs take turns."""
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for job in jobs.values():
        job()
    for _ in range(repeats):
        for name, job in jobs.items():
            start = time.perf_counter()
            job()
            times[name].append(time.perf_counter() - start)
    return {name: min(t) for name, t in times.items()}


def against_notebook(cases: Cases, quick: bool) -> Iterator[Row]:
    """(a) Our time per point at 1e-10 against quad, sampled spectrum and damped iteration stopped at 1e-4."""
    fresh = 5 if quick else 20
    jobs: dict[str, Job] = {
        "scan": cases.certified,
        "fresh": lambda: cases.certified_fresh(fresh),
        "tables": cases.tables,
    }
    ours = fastest(jobs, 5 if quick else 20)
    scan, alone = ours["scan"] / len(cases.points), ours["fresh"] / fresh
    yield Row("a", "tables of n and 2 n nodes, once per activation, target, alpha0, eta, noise", 1e6 * ours["tables"], "us")
    yield Row("a", f"certified point of a scan of {len(cases.points)}, rtol 1e-10", 1e6 * scan, "us")
    yield Row("a", "certified point that needs a table of its own, rtol 1e-10", 1e6 * alone, "us")
    layer = notebook_style.FirstLayer()
    alphas = (0.9,) if quick else (0.9, 2.3)
    for memoise, label in ((False, "as notebooks do"), (True, "averages memoised")):
        seconds = []
        for alpha in alphas:
            start = time.perf_counter()
            notebook_style.solve(alpha, beta=1, alpha0=20, eta=3, reg=0.1, layer=layer, memoise=memoise)
            seconds.append(time.perf_counter() - start)
        theirs = statistics.median(seconds)
        yield Row("a", f"notebook style, {label}, stop at 1e-4", theirs, "s")
        yield Row("a", f"  times faster, in a scan ({label})", theirs / scan, "x", 1e5, more=True)
        yield Row("a", f"  times faster, a table for each point ({label})", theirs / alone, "x")
    for published in PUBLISHED:
        yield Row("a", f"  times faster than {published:g} s, a point of the published notebook", published / scan, "x")


def against_hand_written(cases: Cases, quick: bool) -> Iterator[Row]:
    """(b) Generated kernels against the hand-written one at the same nodes."""
    out = cases.outputs()
    jobs: dict[str, Job] = {
        "update": lambda: cases.update(out["state"]),
        "own_update": lambda: cases.own_update(out["state"]),
        "newton": lambda: cases.newton(out["state"]),
        "own_solve": lambda: cases.own_solve(out["own"]),
        "certified": cases.certified,
    }
    map_difference, solution_difference = cases.disagreement()
    us = {name: 1e6 * t / len(cases.points) for name, t in fastest(jobs, 10 if quick else 60).items()}
    yield Row("b", "largest relative difference of the two maps", map_difference, "1", 1e-9)
    yield Row("b", "largest relative difference of the two solutions", solution_difference, "1", 1e-9)
    yield Row("b1", "undamped map once, by hand", us["own_update"], "us")
    yield Row("b1", "undamped map once, generated", us["update"], "us")
    yield Row("b1", "  times slower than by hand", us["update"] / us["own_update"], "x", 2)
    yield Row("b2", "solution and errors, by hand", us["own_solve"], "us")
    yield Row("b2", "solution, generated blocks and the package's Newton", us["newton"], "us")
    yield Row("b2", "  times slower than by hand", us["newton"] / us["own_solve"], "x", 2)
    yield Row("b3", "solution, observables and certificate", us["certified"], "us")
    yield Row("b3", "  times slower than by hand without certificate", us["certified"] / us["own_solve"], "x")


def phase_diagram(quick: bool) -> Iterator[Row]:
    """(c) alpha by reg, solved and written to HDF5."""
    size = 200 if quick else 1000
    script = str(ROOT / "benchmarks" / "phase_diagram.py")
    for workers in (1, 2):
        text = _run([script, "--size", str(size), "--workers", str(workers)], {}).stdout
        found = json.loads(text)
        label = f"phase diagram {size} x {size}, {workers} worker{'s' if workers > 1 else ''}"
        aims = (20.0, 1.0) if workers == 2 and not quick else (None, None)
        yield Row("c", f"{label}: wall time", found["seconds"], "s", aims[0])
        yield Row("c", f"{label}: peak memory", found["peak_bytes"] / 2**30, "GiB", aims[1])
        yield Row("c", f"{label}: HDF5 file", found["file_bytes"] / 2**20, "MiB")
        yield Row("c", f"{label}: points not converged", found["points"] - found["converged"], "1", 0)


def cold_start(quick: bool) -> Iterator[Row]:
    """(d) New processes: kernels in the cache, nothing in any cache, and no work at all."""
    seconds = lambda command, environment: _run(["-m", "replica", *command], environment).seconds
    seconds(SOLVE, {})
    repeats = range(3 if quick else 5)
    yield Row("d", "replica --help", statistics.median(seconds(["--help"], {}) for _ in repeats), "s")
    warm = statistics.median(seconds(SOLVE, {}) for _ in repeats)
    yield Row("d", "replica solve srf, kernels cached", warm, "s", 2)
    with tempfile.TemporaryDirectory() as folder:
        empty = {"REPLICA_CACHE_DIR": f"{folder}/kernels", "NUMBA_CACHE_DIR": f"{folder}/numba"}
        yield Row("d", "replica solve srf, empty caches: everything is compiled", seconds(SOLVE, empty), "s", 15)
        other = [*SOLVE, "--option", "activation=erf"]
        yield Row("d", "replica solve srf, another activation: only its table is compiled", seconds(other, empty), "s")


def line_networks(quick: bool) -> Iterator[Row]:
    """(e) Trajectories of line networks."""
    import trajectories

    side = 200 if quick else 1000
    trajectories.trajectory(10)
    ours = min(trajectories.trajectory() for _ in range(3))
    many = [trajectories.weights_by_ode(trajectories.TIMES) for _ in range(3)]
    once = [trajectories.weights_by_ode(np.array([5.0])) for _ in range(3)]
    point, hand, difference = trajectories.grid_of_trajectories(side)
    raw = min(seconds for seconds, _ in once)
    yield Row("e", f"{side} x {side} grid, per trajectory: scipy on 2 x 100 weights over ours", raw / point, "x", 10_000, True)
    yield Row("e", "one trajectory at 50 times: scipy on 2 x 100 weights over ours", min(s for s, _ in many) / ours, "x")
    yield Row("e", "largest difference of the two outputs", max(d for _, d in [*many, *once]), "")
    yield Row("e", f"{side} x {side} grid: ours, all observables, over NumPy by hand, output only", point / hand, "x")
    yield Row("e", "largest difference of the two outputs", difference, "")
    yield Row("e", f"{side} x {side} grid into a file, 2 workers", trajectories.scan(side), "s")


def logistic_regression(quick: bool) -> Iterator[Row]:
    """(f) Any convex loss: logistic regression on noiseless signs."""
    import losses

    found = losses.logistic(5 if quick else 30)
    for name, point, aim in (("easy", "alpha 1.5, reg 0.1", 0.1), ("hard", "alpha 20, reg 1e-3", 5.0)):
        yield Row("f", f"logistic, {point}: per point at 1e-8, error measured", found[f"{name} ours"], "ms", aim)
        ratio = found[f"{name} theirs"] / found[f"{name} ours"]
        yield Row("f", f"logistic, {point}: compiled Picard with 96 nodes over ours", ratio, "x")
        yield Row("f", f"logistic, {point}: relative error of that Picard in q", found[f"{name} error"], "")
    yield Row("f", "logistic, 100 random points: per point at 1e-8", found["random ours"], "ms")
    yield Row("f", "logistic, 100 random points: Picard over ours", found["random theirs"] / found["random ours"], "x")
    yield Row("f", "logistic, 100 random points: largest relative error of Picard in q", found["random error"], "")
    yield Row("f", "logistic, 100 random points: not converged", found["random failed"], "", 0)
    for name, value in losses.spiked(3 if quick else 10).items():
        yield Row("f", f"srf, {name}: per point at 1e-10", value, "ms", 20.0 if name.startswith("logistic") else None)


@dataclass
class _Finished:
    stdout: str
    seconds: float


def _run(command: Sequence[str], environment: dict[str, str]) -> _Finished:
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, check=False
    )
    seconds = time.perf_counter() - start
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr.strip()[-500:]}")
    return _Finished(done.stdout, seconds)


def measure(parts: str, quick: bool, show: Callable[[Row], None]) -> list[Row]:
    rows: list[Row] = []

    def take(found: Iterator[Row]) -> None:
        for row in found:
            rows.append(row)
            show(row)

    if "a" in parts or "b" in parts:
        cases = Cases.make()
        if "a" in parts:
            take(against_notebook(cases, quick))
        if "b" in parts:
            take(against_hand_written(cases, quick))
    if "c" in parts:
        take(phase_diagram(quick))
    if "d" in parts:
        take(cold_start(quick))
    if "e" in parts:
        take(line_networks(quick))
    if "f" in parts:
        take(logistic_regression(quick))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two minutes or so: fewer repeats, a smaller diagram")
    parser.add_argument("--parts", default="abcdef", help="some of a, b, c, d, e, f; all by default")
    parser.add_argument("--json", metavar="FILE", help="also write the numbers here")
    arguments = parser.parse_args()
    if not arguments.parts or set(arguments.parts) - set("abcdef"):
        parser.error(f"--parts {arguments.parts!r} must be made of the letters a, b, c, d, e, f")
    print(f"{'':<3} {'measurement':<76} {'value':>10} {'':<4} {'aim':>14} {'met':>4}")
    rows = measure(arguments.parts, arguments.quick, lambda row: print(row.line(), flush=True))
    if arguments.json:
        versions = {"python": platform.python_version(), "numba": numba.__version__, "numpy": np.__version__}
        found = {"quick": arguments.quick, "processors": os.cpu_count(), "versions": versions}
        found["rows"] = [asdict(row) | {"met": row.met} for row in rows]
        Path(arguments.json).write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
