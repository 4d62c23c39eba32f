"""Scans give the same numbers for any workers, any interruption and any order."""

import itertools
import logging
import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import toys
from toys import GRID, PROBLEM, Recorder

from solvers import scan
from solvers.grid import Grid
from solvers.layout import DIAGNOSTICS, OF_SCANS
from solvers.outcomes import status
from solvers.result import Result
from solvers.scan import Scan
from solvers.store import StoreError


@pytest.fixture(autouse=True)
def solver(monkeypatch):
    recorder = Recorder()
    monkeypatch.setattr(scan, "solve_points", recorder)
    return recorder


def contents(path):
    with h5py.File(path) as file:
        return {name: file[name][...] for name in (*PROBLEM.values.names, *DIAGNOSTICS, *OF_SCANS)}


def assert_same(path, other):
    for (name, values), expected in zip(contents(path).items(), contents(other).values(), strict=True):
        assert values.tobytes() == expected.tobytes(), name


def test_every_point_lands_where_its_coordinates_say(tmp_path):
    report = Scan(PROBLEM, GRID, {"noise": 0.5}).run(tmp_path / "scan.h5")
    assert report.counts == {Result.CONVERGED: 87, Result.LEFT_DOMAIN: 3}
    assert (report.computed, report.skipped) == (90, 0)
    assert str(report).startswith(f"{tmp_path / 'scan.h5'}: 90 points in ")
    assert str(report).endswith(" s, 0 were there; 87 CONVERGED, 3 LEFT_DOMAIN")
    values = contents(tmp_path / "scan.h5")
    for index in np.ndindex(*GRID.shape):
        point = [axis[i] for axis, i in zip(GRID.axes.values(), index, strict=True)]
        batch = toys.solve_points(PROBLEM, np.array([[*point, 0.5]]), None)
        for name, expected in PROBLEM.values.unpack(batch.values).items():
            np.testing.assert_array_equal(values[name][index], expected[0])
        assert values["result"][index] == batch.result[0]
        assert values["residual"][index] == batch.residual[0]


def test_scan_is_identical_for_one_and_many_workers(tmp_path):
    Scan(PROBLEM, GRID).run(tmp_path / "one.h5", workers=1)
    Scan(PROBLEM, GRID).run(tmp_path / "many.h5", workers=8)
    assert_same(tmp_path / "one.h5", tmp_path / "many.h5")


def test_a_finished_scan_is_not_computed_again(tmp_path, solver):
    Scan(PROBLEM, GRID).run(tmp_path / "scan.h5")
    report = Scan(PROBLEM, GRID).run(tmp_path / "scan.h5")
    assert (report.computed, report.skipped) == (0, 90)
    assert solver.points == 90


def test_overwriting_computes_again(tmp_path, solver):
    Scan(PROBLEM, GRID).run(tmp_path / "scan.h5")
    assert Scan(PROBLEM, GRID).run(tmp_path / "scan.h5", overwrite=True).computed == 90


def test_only_pending_points_of_a_block_are_computed(tmp_path, solver):
    Scan(PROBLEM, GRID).run(tmp_path / "scan.h5")
    Scan(PROBLEM, GRID).run(tmp_path / "whole.h5")
    with h5py.File(tmp_path / "scan.h5", "r+") as file:
        for index in ((0, 0, 0), (5, 4, 2), (5, 3, 2)):
            file["result"][index] = Result.PENDING
            file["m"][index] = np.nan
    solver.batches.clear()
    assert Scan(PROBLEM, GRID).run(tmp_path / "scan.h5").computed == 3
    assert solver.points == 3
    assert_same(tmp_path / "scan.h5", tmp_path / "whole.h5")


def test_killed_scan_resumes_without_recomputing(tmp_path, solver):
    path = tmp_path / "scan.h5"
    root = Path(scan.__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])}
    process = subprocess.Popen([sys.executable, toys.__file__, path], stdout=subprocess.PIPE, env=environment)
    assert process.stdout is not None
    for _ in range(8):
        process.stdout.readline()
    process.kill()
    process.communicate()
    done = 90 - status(path).counts[Result.PENDING]
    assert done >= 7
    report = Scan(PROBLEM, GRID).run(path)
    assert (report.skipped, report.computed) == (done, 90 - done)
    assert solver.points == 90 - done
    Scan(PROBLEM, GRID).run(tmp_path / "whole.h5")
    assert_same(path, tmp_path / "whole.h5")


def test_interrupted_scan_writes_what_was_running_and_stops(tmp_path, solver):
    def interrupt(done, total):
        if done > 10:
            raise KeyboardInterrupt

    path = tmp_path / "scan.h5"
    with pytest.raises(KeyboardInterrupt):
        Scan(PROBLEM, GRID).run(path, workers=2, progress=interrupt)
    pending = status(path).counts[Result.PENDING]
    assert 0 < pending < 90
    assert Scan(PROBLEM, GRID).run(path).computed == pending


def test_an_exception_becomes_a_result_and_is_tried_again(tmp_path, monkeypatch, caplog, solver):
    def fail_at_the_end(problem, points, method):
        if (points[:, 0] == 3.0).any():
            raise FloatingPointError("toy failure")
        return toys.solve_points(problem, points, method)

    monkeypatch.setattr(scan, "solve_points", fail_at_the_end)
    with caplog.at_level(logging.ERROR):
        report = Scan(PROBLEM, GRID).run(tmp_path / "scan.h5")
    assert report.counts[Result.ERROR] == 15
    assert report.counts[Result.CONVERGED] == 75
    assert "toy failure" in caplog.text
    assert "alpha from 3 to 3" in caplog.text
    monkeypatch.setattr(scan, "solve_points", solver)
    report = Scan(PROBLEM, GRID).run(tmp_path / "scan.h5")
    assert report.computed == 15
    assert Result.ERROR not in report.counts


def test_progress_counts_points_from_where_the_file_stood(tmp_path):
    calls = []
    Scan(PROBLEM, GRID).run(tmp_path / "scan.h5", progress=lambda *call: calls.append(call))
    assert calls[0] == (0, 90)
    assert calls[-1] == (90, 90)
    assert calls == sorted(calls)


def test_parameters_of_the_table_vary_slowest_in_every_batch(tmp_path, solver):
    Scan(PROBLEM, toys.spread((40, 50, 30))).run(tmp_path / "scan.h5")
    for batch in solver.batches:
        changes = np.count_nonzero(np.diff(batch[:, 2]))
        assert changes == len(np.unique(batch[:, 2])) - 1


@pytest.mark.parametrize("shape", [(1, 1, 1), (1000, 1, 1), (7, 1, 1013), (200, 300, 11), (1, 4096, 5), (3, 5, 20000)])
def test_blocks_cover_the_grid_once_and_are_neither_large_nor_few(shape):
    block = scan._block(shape, others=(0, 1), shared=(2,))
    assert np.prod(block) <= scan.BLOCK_POINTS
    covered = np.zeros(shape, dtype=int)
    slabs = list(scan._slabs(shape, block))
    for slab in slabs:
        covered[slab] += 1
    assert (covered == 1).all()
    assert len(slabs) >= min(scan.LEAST_BLOCKS, covered.size) / 2
    # Small blocks would make writing dear: at least a quarter of what is aimed at, edges aside.
    assert np.prod(block) >= min(scan.BLOCK_POINTS, covered.size / scan.LEAST_BLOCKS) / 4


def test_few_blocks_are_in_flight(tmp_path, monkeypatch):
    started, written = itertools.count(), []

    def count(problem, points, method):
        ahead = next(started) - len(written)
        assert ahead <= 4
        return toys.solve_points(problem, points, method)

    monkeypatch.setattr(scan, "solve_points", count)
    report = Scan(PROBLEM, GRID).run(tmp_path / "scan.h5", workers=2, progress=lambda *call: written.append(call))
    assert Result.ERROR not in report.counts


def test_a_model_is_compiled_by_the_scan(tmp_path):
    class Model:
        def compile(self):
            return PROBLEM

    assert Scan(Model(), Grid(alpha=[1.0]), {"reg": 0.1, "gain": 1.0}).run(tmp_path / "scan.h5").computed == 1


def test_bad_places_and_workers_are_refused_before_any_work(tmp_path, solver):
    with pytest.raises(StoreError, match="does not exist; create it"):
        Scan(PROBLEM, GRID).run(tmp_path / "missing" / "scan.h5")
    with pytest.raises(ValueError, match="workers = -1"):
        Scan(PROBLEM, GRID).run(tmp_path / "scan.h5", workers=-1)
    assert solver.points == 0
