"""The kernels of `run` as pytest-benchmark cases: ``pytest benchmarks/test_benchmarks.py``.

Outside testpaths, so not part of the tests.  Time is per scan of `Cases.points`, not per point.
"""

from __future__ import annotations

import pytest

pytest.importorskip("pytest_benchmark", reason="pytest-benchmark is not installed (extra: benchmark)")

import notebook_style
from cases import Cases


@pytest.fixture(scope="module")
def cases():
    return Cases.make()


@pytest.fixture(scope="module")
def layer():
    return notebook_style.FirstLayer()


def test_both_kernels_give_the_same(cases):
    assert max(cases.disagreement()) < 1e-9  # the same nodes; rounding, Newton's last step


@pytest.mark.benchmark(group="undamped map")
def test_update_by_hand(benchmark, cases):
    benchmark(cases.own_update, cases.outputs()["state"])


@pytest.mark.benchmark(group="undamped map")
def test_update_generated(benchmark, cases):
    benchmark(cases.update, cases.outputs()["state"])


@pytest.mark.benchmark(group="solution")
def test_solution_by_hand(benchmark, cases):
    benchmark(cases.own_solve, cases.outputs()["own"])


@pytest.mark.benchmark(group="solution")
def test_solution_generated(benchmark, cases):
    benchmark(cases.newton, cases.outputs()["state"])


@pytest.mark.benchmark(group="solution")
def test_solution_certified(benchmark, cases):
    benchmark(cases.certified)


@pytest.mark.benchmark(group="solution, a table for each point")
def test_solution_certified_fresh_table(benchmark, cases):
    benchmark(cases.certified_fresh, 5)


@pytest.mark.benchmark(group="one point, notebook style")
def test_notebook_style_memoised(benchmark, layer):
    options = {"alpha": 0.9, "beta": 1, "alpha0": 20, "eta": 3, "reg": 0.1, "layer": layer}
    benchmark.pedantic(notebook_style.solve, kwargs=options, rounds=3)
