"""What a scan will cost is said before it starts, and is about right."""

import os
import time

import numpy as np
import pytest

from replica.models import LinearStudent, Parity
from solvers import Grid, Scan, StoreError
from solvers.estimate import estimate


class Broken(Parity):
    """A model with a mistake that shows at some points only."""

    def evaluate(self, parameters, nodes):
        if parameters["k"] == 5:
            raise ZeroDivisionError("k - 5")
        return super().evaluate(parameters, nodes)


def test_size_is_exact_but_for_names_and_texts(ridge, tmp_path):
    scan = Scan(ridge, Grid(alpha=np.linspace(0.2, 3, 300), reg=np.logspace(-3, 0, 200)))
    expected = estimate(scan)
    scan.run(tmp_path / "scan.h5")
    assert expected.points == 60_000
    # Chunks are whole blocks, so the last one of an axis may stick out.
    assert expected.bytes < os.path.getsize(tmp_path / "scan.h5") < 1.05 * expected.bytes + 200_000


def test_time_is_of_the_right_size_also_where_tables_dominate(srf, tmp_path):
    for axes, fixed in (
        ({"alpha": np.linspace(0.5, 3, 100), "reg": np.logspace(-2, 0, 50)}, {"alpha0": 5, "eta": 1}),
        ({"eta": np.linspace(0.5, 3, 100), "reg": np.logspace(-2, 0, 5)}, {"alpha0": 5, "alpha": 2}),
    ):
        scan = Scan(srf, Grid(**axes), fixed)
        expected = estimate(scan).processor_seconds
        begin = time.process_time()
        scan.run(tmp_path / f"{len(axes['reg'])}.h5", workers=1)
        assert 0.3 < expected / (time.process_time() - begin) < 3


@pytest.mark.parametrize(
    "model, axes, fixed",
    [(Broken(), {"D": [30.0, 50.0], "k": [2.0, 5.0]}, {}), (LinearStudent(), {"time": [0.0, 1.0, 2.0]}, {"alpha": 2.0})],
    ids=["points that raise", "trajectories"],
)
def test_every_kind_of_problem_can_be_estimated(model, axes, fixed):
    expected = estimate(Scan(model, Grid(**axes), fixed))
    assert expected.bytes > 0
    assert 0 < expected.processor_seconds < 1000


def test_a_disk_that_is_too_small_is_noticed_before_anything_is_written(ridge, tmp_path, monkeypatch):
    monkeypatch.setattr("solvers.store.shutil.disk_usage", lambda path: type("usage", (), {"free": 1e5}))
    scan = Scan(ridge, Grid(alpha=np.linspace(0.2, 3, 300), reg=np.logspace(-3, 0, 200)))
    with pytest.raises(StoreError, match=r"60000 points need 0.0\d+ GB, and 0.0001 GB are free"):
        scan.run(tmp_path / "scan.h5")
    assert not list(tmp_path.iterdir())
