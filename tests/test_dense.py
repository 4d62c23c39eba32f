"""Products and solves on another device: the same results by the operations of the array API standard alone."""

import sys

import numpy as np
import pytest

from replica import dense
from replica.losses import make_loss
from replica.models import GeneralisedLinear, SpikedRandomFeatures
from replica.models.training import fit
from replica.validation import simulate_sizes


@pytest.fixture
def elsewhere(monkeypatch):
    """A library of the standard, and no more than it, in the place of CuPy."""
    strict = pytest.importorskip("array_api_strict", reason="needs array-api-strict")
    calls = []

    def library():
        calls.append(1)
        return strict

    monkeypatch.setattr(dense, "library", library)
    return calls


def test_products_and_solves_are_those_of_numpy(elsewhere):
    rng = np.random.default_rng(0)
    a, b, y = rng.normal(size=(30, 20)), rng.normal(size=(20, 40)), rng.normal(size=20)
    np.testing.assert_allclose(dense.product(a, b), a @ b, rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(dense.product(a.T, a), a.T @ a, rtol=1e-13, atol=1e-13)
    gram = a.T @ a
    np.testing.assert_allclose(dense.solve_positive(gram.copy(), y), np.linalg.solve(gram, y), rtol=1e-9)
    with pytest.raises(np.linalg.LinAlgError):
        dense.solve_positive(-gram, y)


@pytest.mark.parametrize(
    ("model", "point"),
    [
        (SpikedRandomFeatures(), {"alpha": 1.5, "alpha0": 2.0, "eta": 2.0, "reg": 0.1, "beta": 1.2, "noise": 0.1}),
        (GeneralisedLinear(loss="logistic", labels="sign"), {"alpha": 2.0, "reg": 0.1, "noise": 0.2, "flip": 0.0, "rho": 1.0}),
        (GeneralisedLinear(loss="hinge", labels="sign"), {"alpha": 0.7, "reg": 0.1, "noise": 0.2, "flip": 0.0, "rho": 1.0}),
    ],
)
def test_experiments_are_the_same_on_another_device(monkeypatch, model, point):
    strict = pytest.importorskip("array_api_strict", reason="needs array-api-strict")
    runs = []
    for library in (None, strict):
        monkeypatch.setattr(dense, "library", lambda library=library: library)
        runs.append(model.simulate(point, 40, np.random.default_rng(1)))
    assert runs[0].keys() == runs[1].keys()
    for name, value in runs[0].items():
        assert runs[1][name] == pytest.approx(value, rel=1e-7, abs=1e-9), name


@pytest.mark.parametrize("samples, weights", [(40, 20), (20, 40)])
def test_training_goes_through_the_device(elsewhere, samples, weights):
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(samples, weights)), rng.normal(size=samples)
    for loss in ("square", "huber(0.5)"):
        elsewhere.clear()
        fit(make_loss(loss), x, y, 0.1, False)
        assert len(elsewhere) >= 2, loss


@pytest.mark.parametrize(
    ("device", "words"), [("tpu", ["REPLICA_DEVICE", "'tpu'", "cpu, gpu"]), ("gpu", ["CuPy", "pip install"])]
)
def test_a_device_that_is_not_there_is_refused_in_one_line_before_any_work(monkeypatch, device, words):
    monkeypatch.setenv(dense.DEVICE, device)
    monkeypatch.setitem(sys.modules, "cupy", None)
    dense._cupy.cache_clear()
    with pytest.raises(dense.DeviceError) as caught:
        simulate_sizes(GeneralisedLinear(), [{"alpha": 1.0}], [30], 2, 0)
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_command_line_says_what_is_missing(replica, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    monkeypatch.setenv(dense.DEVICE, "cpu")  # so that what the command sets is undone
    dense._cupy.cache_clear()
    code, out, err = replica("validate", "ridge", "alpha=1", "reg=0.1", "--sizes", "30", "--repeats", "2", "--device", "gpu")
    assert (code, out) == (2, "")
    assert "CuPy" in err and len(err.strip().splitlines()) == 1
