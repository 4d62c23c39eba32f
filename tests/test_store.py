"""Scan files are netCDF, say what made them, and refuse what they are not."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import h5py
import numpy as np
import pytest
import toys
from toys import GRID, PROBLEM

from replica.results import open_results, open_simulation
from solvers import scan
from solvers.grid import Grid
from solvers.layout import DIAGNOSTICS
from solvers.methods import DampedIteration, Ladder
from solvers.outcomes import status
from solvers.problem import KernelSource, Layout, Quantity
from solvers.result import Result
from solvers.scan import Scan
from solvers.simulations import write_simulation
from solvers.store import ScanFile, StoreError, check


@pytest.fixture(autouse=True)
def solver(monkeypatch):
    monkeypatch.setattr(scan, "solve_points", toys.solve_points)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    path = tmp_path_factory.mktemp("finished") / "scan.h5"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan, "solve_points", toys.solve_points)
        Scan(PROBLEM, GRID).run(path)
    return path


@pytest.fixture
def path(tmp_path, finished):
    return shutil.copy(finished, tmp_path / "scan.h5")


def refused(call, *phrases):
    """Whether a call is refused in one line that has these phrases."""
    with pytest.raises(StoreError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    for phrase in phrases:
        assert phrase in message


def test_xarray_opens_a_file_lazily_with_labels(path):
    with open_results(path) as data:
        assert not data.m.variable._in_memory
        assert data.q.dims == ("alpha", "reg", "gain", "student", "student_other")
        assert data.test_error.dims == GRID.names
        np.testing.assert_array_equal(data.reg, GRID.axes["reg"])
        assert data.noise.item() == 0.25
        assert data.test_error.attrs["long_name"] == "generalisation error"
        assert data.test_error.attrs["latex"] == r"\epsilon_g"
        assert all(data[name].attrs["units"] == "1" for name in data.variables)


def test_integers_stay_integers(path):
    with open_results(path) as data:
        assert (data.result.dtype, data.steps.dtype, data.nodes.dtype) == ("int8", "int32", "int32")
        meanings = data.result.attrs["flag_meanings"].split()
        codes = data.result.attrs["flag_values"]
        assert {name.upper(): code for name, code in zip(meanings, codes, strict=True)} == Result.__members__


def test_a_file_says_what_made_it(path):
    with open_results(path) as data:
        attributes = data.attrs
    assert attributes["model"] == "toy"
    assert attributes["equations"] == PROBLEM.provenance["equations"]
    assert attributes["kernel_source"] == PROBLEM.kernel_source.text
    assert attributes["tabulate_source"] == PROBLEM.tabulate_source.text
    assert json.loads(attributes["options"]) == PROBLEM.options
    assert json.loads(attributes["method"]) == {"name": "ladder", **Ladder().options()}
    assert [rung["name"] for rung in json.loads(attributes["rungs"])] == ["newton", "anderson", "damped", "neighbour"]
    assert set(json.loads(attributes["versions"])) == {"python", "numpy", "numba", "h5py", "replica-solvers"}


def test_long_kernel_texts_fit_and_xarray_reads_them(tmp_path):
    text = "# a long kernel\n" * 50_000  # above the 64 KiB that HDF5 keeps in a header
    problem = replace(PROBLEM, kernel_source=KernelSource(text, ("update",)))
    Scan(problem, GRID).run(tmp_path / "scan.h5")
    with open_results(tmp_path / "scan.h5") as data:
        assert data.attrs["kernel_source"] == text


def test_everything_is_allocated_and_filled_at_creation(tmp_path):
    path = tmp_path / "scan.h5"
    ScanFile.for_plan(path, Scan(PROBLEM, GRID).plan, (6, 5, 3)).close()
    size = path.stat().st_size
    with h5py.File(path) as file:
        assert (file["result"][...] == Result.PENDING).all()
        assert np.isnan(file["m"][...]).all()
        assert all(file[name].id.get_storage_size() == file[name].nbytes for name in DIAGNOSTICS)
    Scan(PROBLEM, GRID).run(path)
    assert path.stat().st_size == size
    assert os.listdir(tmp_path) == ["scan.h5"]


def test_status_summarises_without_opening_for_writing(path):
    path.chmod(0o444)
    summary = status(path)
    assert summary.counts == {Result.CONVERGED: 87, Result.LEFT_DOMAIN: 3}
    assert summary.axes == {"alpha": 6, "reg": 5, "gain": 3}
    # The points that left the domain have residual 1; they do not count.
    assert summary.worst_residual == 1e-13 * 3.0
    assert summary.method["name"] == "ladder"
    assert summary.simulation_points == 0


OTHERS = {
    "reg axis": (
        Scan(PROBLEM, Grid(**{**GRID.axes, "reg": [0.1, 0.2]})),
        "reg axis differs (5 values from 0.001 to 10",
    ),
    "fewer axes": (
        Scan(PROBLEM, Grid(alpha=[1.0], reg=[0.1]), {"gain": 1.0}),
        "axes (alpha, reg, gain) != (alpha, reg)",
    ),
    "tolerance": (Scan(PROBLEM, GRID, method=Ladder(rtol=1e-8)), "method rtol 1e-10 != 1e-08"),
    "method": (Scan(PROBLEM, GRID, method=DampedIteration()), "method ladder != damped"),
    "fixed": (Scan(PROBLEM, GRID, {"noise": 0.5}), "parameter noise 0.25 != 0.5"),
    "kernel": (Scan(replace(PROBLEM, tabulate_source=KernelSource("# changed", ())), GRID), "kernel differs"),
    "model": (Scan(replace(PROBLEM, name="lasso"), GRID), "model toy != lasso"),
    "option": (Scan(replace(PROBLEM, options={"teacher": "Sign()"}), GRID), "option teacher Identity() != Sign()"),
}


@pytest.mark.parametrize("other", OTHERS)
def test_another_scan_is_refused_saying_what_differs(path, other):
    before = path.read_bytes()
    another, phrase = OTHERS[other]
    refused(lambda: another.run(path), "holds another scan", phrase)
    assert path.read_bytes() == before


def test_a_truncated_file_is_refused_and_may_be_overwritten(path):
    with open(path, "r+b") as file:
        file.truncate(path.stat().st_size // 2)
    for call in (lambda: status(path), lambda: open_results(path), lambda: Scan(PROBLEM, GRID).run(path)):
        refused(call, "truncated", "overwrite")
    assert Scan(PROBLEM, GRID).run(path, overwrite=True).computed == 90


def test_a_foreign_hdf5_file_is_refused_even_for_overwriting(tmp_path):
    path = tmp_path / "data.h5"
    with h5py.File(path, "w") as file:
        file["precious"] = 1.0
    before = path.read_bytes()
    refused(lambda: check(path), "HDF5 file, but not a scan file")
    refused(lambda: Scan(PROBLEM, GRID).run(path), "another path")
    refused(lambda: Scan(PROBLEM, GRID).run(path, overwrite=True), "another path")
    assert path.read_bytes() == before


@pytest.mark.parametrize("text", ["", "notes, not numbers\n"])
def test_a_file_that_is_not_hdf5_is_refused_even_for_overwriting(tmp_path, text):
    path = tmp_path / "notes.txt"
    path.write_text(text)
    refused(lambda: status(path), "not an HDF5 file")
    refused(lambda: Scan(PROBLEM, GRID).run(path, overwrite=True), "not an HDF5 file")
    assert path.read_text() == text


def test_a_file_of_a_later_layout_is_refused(path):
    with h5py.File(path, "r+") as file:
        file.attrs["layout_version"] = 99
    refused(lambda: status(path), "layout 99")


def test_places_that_cannot_be_written_are_named(tmp_path):
    (tmp_path / "file").write_text("")
    run = Scan(PROBLEM, GRID).run
    refused(lambda: run(tmp_path / "file" / "scan.h5"), "is a file, not a directory")
    refused(lambda: run(tmp_path / "missing" / "scan.h5"), "does not exist; create it")
    refused(lambda: run(tmp_path), "is a directory")
    refused(lambda: status(tmp_path / "scan.h5"), "does not exist")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_without_permission_is_named(tmp_path):
    tmp_path.chmod(0o555)
    refused(lambda: Scan(PROBLEM, GRID).run(tmp_path / "scan.h5"), "no permission")
    tmp_path.chmod(0o755)


def test_a_second_writer_is_refused_and_readers_are_not(path):
    code = "import h5py, sys; f = h5py.File(sys.argv[1], 'r+', locking=True); print('open', flush=True); input()"
    other = subprocess.Popen([sys.executable, "-c", code, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert other.stdout is not None
    other.stdout.readline()
    try:
        refused(lambda: Scan(PROBLEM, GRID).run(path), "being written by another process")
        refused(lambda: Scan(PROBLEM, GRID).run(path, overwrite=True), "being written by another process")
        assert status(path).counts[Result.CONVERGED] == 87
        open_results(path).close()
    finally:
        other.communicate(b"\n")


def test_writing_to_a_file_this_program_reads_is_refused(path):
    with open_results(path):
        refused(lambda: Scan(PROBLEM, GRID).run(path), "close it there first")


def test_names_that_collide_are_refused_before_the_file_exists(tmp_path):
    problem = replace(PROBLEM, outputs=Layout((Quantity("steps", "training steps"),)))
    refused(lambda: Scan(problem, GRID).run(tmp_path / "scan.h5"), "steps is needed twice")
    assert not os.listdir(tmp_path)


def test_a_matrix_over_one_index_twice_has_two_dimensions(tmp_path):
    m, q = PROBLEM.unknowns.quantities
    problem = replace(PROBLEM, unknowns=Layout((m, replace(q, dims=("student", "student")))))
    Scan(problem, GRID).run(tmp_path / "scan.h5")
    with open_results(tmp_path / "scan.h5") as data:
        assert data.q.dims[-2:] == ("student", "student_other")


POINTS = {"alpha": [0.5, 1.0], "reg": [0.1, 0.1], "gain": [1.0, 1.0]}
MEANS = {"test_error": np.array([0.7, 0.5]), "q": np.ones((2, 2, 2))}
SEMS = {"test_error": np.array([0.01, 0.02]), "q": np.zeros((2, 2, 2))}


def test_simulations_are_kept_beside_the_theory(path):
    assert open_simulation(path) is None
    with open_results(path) as data:
        before = data.load()
    write_simulation(path, POINTS, MEANS, SEMS, size=1000, repeats=10, seed=3)
    with open_simulation(path) as data:
        np.testing.assert_array_equal(data.test_error, MEANS["test_error"])
        np.testing.assert_array_equal(data.test_error_sem, SEMS["test_error"])
        assert data.q.dims == ("point", "student", "student_other")
        assert (data.attrs["size"], data.attrs["repeats"], data.attrs["seed"]) == (1000, 10, 3)
    with open_results(path) as data:
        assert data.identical(before)
    assert status(path).simulation_points == 2
    assert Scan(PROBLEM, GRID).run(path).computed == 0


def test_simulations_are_replaced_only_when_asked(path):
    write_simulation(path, POINTS, MEANS, SEMS, size=1000, repeats=10, seed=3)
    again = {"size": 500, "repeats": 5, "seed": 4}
    refused(lambda: write_simulation(path, POINTS, MEANS, SEMS, **again), "has simulations already")
    write_simulation(path, POINTS, MEANS, SEMS, **again, overwrite=True)
    with open_simulation(path) as data:
        assert data.attrs["size"] == 500


def test_simulations_that_do_not_fit_are_refused(path):
    about = {"size": 1000, "repeats": 10, "seed": 3}
    before = path.read_bytes()
    one, zero = np.ones(2), np.zeros(2)
    refused(lambda: write_simulation(path, {"alpha": [1.0]}, MEANS, SEMS, **about), "need a value of alpha, reg, gain")
    refused(lambda: write_simulation(path, POINTS, {"loss": one}, {"loss": zero}, **about), "'loss'", "test_error")
    refused(
        lambda: write_simulation(path, POINTS, {"q": one}, {"q": zero}, **about), "mean of simulated q has shape (2,)"
    )
    refused(lambda: write_simulation(path, POINTS, {"m": one}, {}, **about), "standard errors of")
    assert path.read_bytes() == before
