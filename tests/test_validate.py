"""`replica validate`: experiments of several sizes, extrapolated and stored beside the theory; a wrong theory is caught."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest

from replica import experiments
from replica.extrapolation import AGREE, DISAGREE, UNCLEAR, compare_number, extrapolate
from replica.model import Model
from replica.models import MODELS, DeepMode, RidgeRegression
from replica.results import open_results, open_simulation
from replica.scan_validation import Theory, validate
from replica.validation import Settings, SimulationError, simulate_points, simulate_sizes
from replica.workers import WorkerError, call_all
from solvers import Grid, Scan

RIDGE = ["ridge", "alpha=1.5", "reg=0.3", "noise=0.2"]
SMALL = ["--sizes", "30,60,120", "--repeats", "8", "--workers", "1"]
POINT = {"alpha": 1.5, "reg": 0.3, "noise": 0.2, "rho": 1.0}


class FlippedRidge(RidgeRegression):
    """The noise enters the test error with the wrong sign."""

    name = "flipped-ridge"

    def observables(self):
        found = dict(super().observables())
        return {**found, self.test_error: found[self.test_error] - 2 * self.noise}


class LateMode(DeepMode):
    """An experiment that takes as much time as it is given, and half as much again."""

    name = "late-mode"

    def simulate(self, parameters, size, rng):
        return super().simulate({**parameters, "time": 1.5 * parameters["time"]}, size, rng)


class Failing(RidgeRegression):
    def simulate(self, parameters, size, rng):
        raise np.linalg.LinAlgError("singular matrix")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    path = tmp_path_factory.mktemp("validate") / "scan.h5"
    grid = Grid(alpha=[0.5, 1.0, 1.5, 2.0, 2.5], reg=[0.1, 0.3, 1.0])
    Scan(RidgeRegression(), grid, fixed={"noise": 0.2}).run(path, workers=1)
    return path


@pytest.fixture
def path(tmp_path, finished):
    return Path(shutil.copy(finished, tmp_path / "scan.h5"))


# ---------------------------------------------------------------- the line in 1/d


def test_a_line_is_extrapolated_exactly_and_its_error_is_that_of_least_squares():
    sizes, sems = [100, 200, 400], [0.03, 0.02, 0.01]
    line = extrapolate(sizes, [1 + 5 / d for d in sizes], sems, repeats=20)
    design = np.array([[1, 1 / d] for d in sizes]) / np.array(sems)[:, None]
    covariance = np.linalg.inv(design.T @ design)
    assert line.value == pytest.approx(1, rel=1e-12)
    assert line.slope == pytest.approx(5, rel=1e-12)
    assert line.error == pytest.approx(math.sqrt(covariance[0, 0]), rel=1e-12)
    assert line.chi2 == pytest.approx(0, abs=1e-20) and line.chance == pytest.approx(1)


def test_reported_errors_are_those_of_many_repetitions():
    rng, sizes, ends = np.random.default_rng(1), [50, 100, 200], []
    for _ in range(2000):
        runs = [2 - 3 / d + rng.standard_normal(10) / math.sqrt(d) for d in sizes]
        line = extrapolate(sizes, [r.mean() for r in runs], [r.std(ddof=1) / math.sqrt(10) for r in runs], 10)
        ends.append((line.value - 2, line.error, line.chance))
    off, error, chance = np.array(ends).T
    assert abs(off.mean()) < 4 * off.std() / math.sqrt(2000)
    # weights that are themselves estimated cost some per cent
    assert off.std() == pytest.approx(math.sqrt(np.mean(error**2)), rel=0.15)
    assert np.mean(chance < 1e-2) < 0.03


def test_one_size_is_its_mean_and_two_have_no_lack_of_fit():
    one, two = extrapolate([50], [0.3], [0.1], 5), extrapolate([50, 100], [0.3, 0.2], [0.1, 0.1], 5)
    assert (one.value, one.error, one.freedom) == (0.3, 0.1, 4) and math.isnan(one.slope)
    assert two.value == pytest.approx(0.1) and math.isnan(two.chance)


def test_verdicts():
    sizes, sems = [100, 200, 400], [1e-3] * 3
    line, bent = [1 + 5 / d for d in sizes], [1 + 5 / d**0.5 for d in sizes]
    assert compare_number(1.0, 0.0, sizes, line, sems, 20).verdict == AGREE
    assert compare_number(1.1, 0.0, sizes, line, sems, 20).verdict == DISAGREE
    assert compare_number(1.1, 0.0, sizes, line, sems, 20, allowance=0.1).verdict == AGREE
    assert compare_number(1.1, 0.1, sizes, line, sems, 20).verdict == AGREE
    assert compare_number(math.nan, 0.0, sizes, line, sems, 20).verdict == DISAGREE
    assert compare_number(1.0, 0.0, sizes, bent, sems, 20).verdict == UNCLEAR


def test_few_repeats_need_more_sigmas():
    limits = [compare_number(0.0, 0.0, [100], [1.0], [1.0], repeats).limit for repeats in (3, 10, 1000)]
    assert limits[0] > 50 > 8 > limits[1] > limits[2] > 4
    assert limits[2] == pytest.approx(4, rel=0.01)


# ---------------------------------------------------------------- streams and workers


def test_results_are_the_same_for_any_number_of_workers():
    found = [simulate_sizes(RidgeRegression(), [POINT], [40, 80], 4, 3, workers=workers) for workers in (1, 3)]
    assert found[0] == found[1]


def test_streams_are_those_of_simulate_points_and_points_can_come_later():
    model, points = RidgeRegression(), [POINT, {**POINT, "alpha": 2.0}]
    together = simulate_sizes(model, points, [30, 60], 3, 5)
    assert simulate_sizes(model, points[1:], [60, 30], 3, 5, first=1)[0] == together[1]
    alone = simulate_points(model, points, 30, 3, 5)
    assert [found[30] for found in simulate_sizes(model, points, [30], 3, 5)] == alone
    assert together[0][30] != alone[0]  # sizes beside others have streams of their own


def test_an_experiment_that_fails_is_named_in_one_line():
    for workers in (None, 1):
        with pytest.raises(SimulationError, match=r"size 30 at alpha=1.5, .*: singular matrix"):
            simulate_sizes(Failing(), [POINT], [30], 2, 0, workers=workers)


def test_a_killed_process_is_no_traceback():
    import os

    with pytest.raises(WorkerError, match="killed"):
        call_all(os._exit, [(1,)], 1)


# ---------------------------------------------------------------- the command


def test_validate_prints_one_document(replica):
    code, out, _ = replica("validate", *RIDGE, *SMALL, "--json")
    answer = json.loads(out)
    assert (code, answer["verdict"], answer["extrapolated"]) == (0, "agree", True)
    assert (answer["sizes"], answer["repeats"], answer["seed"]) == ([30, 60, 120], 8, 0)
    (point,) = answer["points"]
    assert point["parameters"] == POINT
    assert {"m", "q", "test_error", "train_error"} <= point["observables"].keys()
    entry = point["observables"]["test_error"]
    width = math.hypot(entry["standard_error"], entry["theory_error"])
    assert entry["z"] == pytest.approx((entry["simulation"] - entry["theory"]) / width)
    line = extrapolate([30, 60, 120], entry["means"], entry["standard_errors"], 8)
    assert (line.value, line.slope, line.chi2) == (entry["simulation"], entry["slope"], entry["chi2"])


def test_a_wrong_theory_is_caught(replica, monkeypatch):
    monkeypatch.setitem(MODELS, "flipped-ridge", FlippedRidge)
    code, out, _ = replica("validate", "flipped-ridge", *RIDGE[1:], *SMALL, "--json")
    answer = json.loads(out)
    assert (code, answer["verdict"]) == (4, "disagree")
    wrong = {name for name, entry in answer["points"][0]["observables"].items() if entry["verdict"] != "agree"}
    assert wrong == {"test_error"}


def test_a_wrong_trajectory_is_caught_and_experiments_without_chance_need_no_error(replica, monkeypatch):
    monkeypatch.setitem(MODELS, "late-mode", LateMode)
    about = ["depth=3", "s=1", "u0=0.1", "time=0,1,2", "--sizes", "10,20,30", "--repeats", "2", "--json"]
    code, out, _ = replica("validate", "deep-mode", *about)
    right = json.loads(out)
    assert (code, right["verdict"], len(right["points"])) == (0, "agree", 3)
    code, out, _ = replica("validate", "late-mode", *about)
    assert (code, [point["verdict"] for point in json.loads(out)["points"]]) == (4, ["agree", "disagree", "disagree"])


def test_one_size_is_said_not_to_be_extrapolated(replica):
    code, out, _ = replica("validate", *RIDGE, "--sizes", "120", "--repeats", "10")
    assert "not extrapolated" in out and code in (0, 4)


def test_output_is_a_scan_file_that_plot_draws(replica, tmp_path):
    path, image = tmp_path / "ridge.h5", tmp_path / "ridge.png"
    assert replica("validate", "ridge", "alpha=1,2", "reg=0.3", *SMALL, "--output", path)[0] == 0
    with open_results(path) as data, open_simulation(path) as simulation:
        assert data.test_error.dims == ("alpha",)
        assert simulation.test_error_by_size.dims == ("point", "size")
        assert (simulation.attrs["size"], simulation.attrs["repeats"], simulation.attrs["seed"]) == (120, 8, 0)
        ends = [
            extrapolate([30, 60, 120], simulation.test_error_by_size.values[i], simulation.test_error_by_size_sem.values[i], 8)
            for i in range(2)
        ]
        assert [(end.value, end.error) for end in ends] == list(
            zip(simulation.test_error.values, simulation.test_error_sem.values, strict=True)
        )
    assert replica("plot", path, "--x", "alpha", "--y", "test_error", "--output", image)[0] == 0
    assert image.exists()


# ---------------------------------------------------------------- scan files


def test_points_are_added_to_a_scan_file_and_none_is_done_twice(replica, path):
    near = ["--at", "alpha=0.6,2.4", "--at", "reg=0.25", *SMALL, "--json"]
    code, out, _ = replica("validate", path, *near)
    first = json.loads(out)
    assert code == 0 and [p["parameters"]["alpha"] for p in first["points"]] == [0.5, 2.5]
    with open_simulation(path) as data:
        stored = data.load()
    before = path.read_bytes()
    assert json.loads(replica("validate", path, *near)[1]) == first
    assert path.read_bytes() == before
    _, out, _ = replica("validate", path, "--at", "alpha=1,2.5", "--at", "reg=0.3", *SMALL, "--json")
    assert json.loads(out)["points"][1] == first["points"][1]
    with open_simulation(path) as data:
        assert data.sizes["point"] == 3
        assert data.isel(point=slice(2)).identical(stored)


@pytest.mark.parametrize("workers", [None, 2])
def test_interrupted_experiments_keep_finished_points_and_go_on_with_the_same_bits(path, tmp_path, workers):
    """Two of three points are done when the interrupt comes; the streams of the third do not know of it."""
    shutil.copy(path, tmp_path / "alone.h5")
    chosen, settings = Theory.read(path).spread(3), Settings((30, 60), 4, 0)

    def interrupt(done, total):
        if done >= 18 and total == 24:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        validate(Theory.read(path), RidgeRegression(), chosen, settings, workers=workers, progress=interrupt)
    with open_simulation(path) as data:
        assert data.sizes["point"] == 2
    asked = []
    again = validate(Theory.read(path), RidgeRegression(), chosen, settings, workers=workers, progress=lambda *n: asked.append(n))
    assert asked[0] == (0, 8)
    alone = validate(Theory.read(tmp_path / "alone.h5"), RidgeRegression(), chosen, settings, workers=workers)
    assert again == alone
    with open_simulation(path) as one, open_simulation(tmp_path / "alone.h5") as other:
        assert one.load().identical(other.load())


def test_finished_points_are_written_on_the_way(path, monkeypatch):
    monkeypatch.setattr(experiments, "WRITE_EVERY", 0.0)
    seen = []

    def look(done, total):
        found = open_simulation(path)
        seen.append(0 if found is None else found.sizes["point"])

    theory = Theory.read(path)
    validate(theory, RidgeRegression(), theory.spread(3), Settings((30,), 2, 0), workers=None, progress=look)
    assert seen == [0, 0, 1, 1, 2, 2, 3]


def test_points_are_spread_over_all_axes(path):
    theory = Theory.read(path)
    chosen = theory.spread(5)
    assert [i for i, _ in chosen] == [0, 1, 2, 3, 4]
    assert {j for _, j in chosen} == {0, 1, 2}
    assert len(theory.spread(100)) == 15 and len(theory.spread(1)) == 1


def test_other_settings_are_refused_and_replaced_when_asked(replica, path):
    at = ["validate", path, "--at", "alpha=1", "reg=0.3"]
    replica(*at, "--sizes", "30", "--repeats", "3")
    before = path.read_bytes()
    code, _, err = replica(*at, "--sizes", "30,60", "--repeats", "3")
    assert code == 2 and "sizes 30, repeats 3, seed 0" in err and len(err.strip().splitlines()) == 1
    assert path.read_bytes() == before
    replica(*at, "--sizes", "30,60", "--repeats", "3", "--overwrite")
    with open_simulation(path) as data:
        assert data["size"].values.tolist() == [30, 60]


def test_experiments_of_a_scan_are_those_of_validate(replica, path, tmp_path):
    """One size has the streams that simulations in a configuration have, so that validate adds to them."""
    config = tmp_path / "scan.toml"
    config.write_text(
        'model = "ridge"\nparameters = { noise = 0.2 }\n[grid]\nalpha = [1.0, 2.0]\nreg = [0.3]\n'
        "[simulation]\nsize = 30\nrepeats = 3\npoints = { alpha = [1.0] }\n"
    )
    output = tmp_path / "new.h5"
    assert replica("scan", config, "--output", output)[0] == 0
    before = output.read_bytes()
    assert replica("scan", config, "--output", output)[0] == 0
    assert output.read_bytes() == before
    replica("validate", output, "--at", "alpha=1,2", "--sizes", "30", "--repeats", "3")
    expected = simulate_points(RidgeRegression(), [{**POINT, "alpha": a} for a in (1.0, 2.0)], 30, 3, 0)
    with open_simulation(output) as data:
        np.testing.assert_allclose(data.m, [e["m"].mean for e in expected], rtol=1e-12)  # threads of BLAS may round
    assert replica("scan", config, "--output", output)[0] == 0  # those that validate added are no others


# ---------------------------------------------------------------- bad input

BAD = {
    "sizes = 5": ([*RIDGE, "--sizes", "5"], ["sizes[0] = 5", "[10, 20000]"]),
    "sizes of text": ([*RIDGE, "--sizes", "small"], ["--sizes 'small'"]),
    "sizes twice": ([*RIDGE, "--sizes", "30,30"], ["given twice"]),
    "repeats = 1": ([*RIDGE, "--repeats", "1"], ["repeats = 1", "[2, 100000]"]),
    "repeats of text": ([*RIDGE, "--repeats", "many"], ["'many'"]),
    "seed = -1": ([*RIDGE, "--seed", "-1"], ["seed = -1", "[0, "]),
    "seed too large": ([*RIDGE, "--seed", str(2**63)], ["seed = 9223372036854775808", "[0, "]),
    "sigmas = 0": ([*RIDGE, "--sigmas", "0"], ["--sigmas 0", "(0, inf)"]),
    "allowance": ([*RIDGE, "--allowance", "-1"], ["--allowance -1", "[0, inf)"]),
    "workers = 0": ([*RIDGE, "--workers", "0"], ["--workers"]),
    "no model": (["rigde", "alpha=1"], ["'rigde'", "ridge"]),
    "no parameters": (["ridge"], ["NAME=VALUE"]),
    "reg = -1": (["ridge", "alpha=1", "reg=-1"], ["reg = -1", "[0, inf)"]),
    "reg of text": (["ridge", "alpha=1", "reg=small"], ["reg = 'small'"]),
    "suffix": ([*RIDGE, "--output", "x.png"], [".h5"]),
    "points of a model": ([*RIDGE, "--points", "2"], ["--points"]),
    "infinite time": (["deep-mode", "depth=2", "s=1", "u0=0.1", "time=inf"], ["time"]),
    "infinite time of a formula": (
        ["line-network", "norm_u0=0.1", "norm_w0=0.1", "time=inf", "--repeats", "2"], ["size", "time=inf", "infinite time"]
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line(replica, case):
    arguments, words = BAD[case]
    code, out, err = replica("validate", *arguments)
    assert (code, out) == (2, "")
    assert len(err.strip().splitlines()) == 1, err
    for word in words:
        assert word in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["--at", "--points"]),
        (["--at", "alpha"], ["'alpha'", "name=value"]),
        (["--at", "alpha=1", "--at", "alpha=2"], ["alpha", "twice"]),
        (["--at", "alpha=one"], ["alpha = 'one'"]),
        (["--at", "alpha=1", "--points", "2"], ["either"]),
        (["--at", "beta=1"], ["'beta'", "alpha, reg"]),
        (["--at", "alpha=7"], ["alpha = 7", "[0.5, 2.5]"]),
        (["--points", "0"], ["points = 0", "[1, 1000]"]),
        (["--points", "2", "--option", "target=sin"], ["--option"]),
    ],
)
def test_bad_choices_of_points_are_one_line(replica, path, arguments, words):
    code, out, err = replica("validate", path, *arguments)
    assert (code, out) == (2, "")
    assert len(err.strip().splitlines()) == 1, err
    for word in words:
        assert word in err


def test_a_point_without_solution_is_not_simulated(replica, path):
    import h5py

    with h5py.File(path, "r+") as file:
        file["result"][1, 1] = 1
    code, _, err = replica("validate", path, "--at", "alpha=1", "reg=0.3")
    assert code == 3 and "no solution at alpha=1, reg=0.3" in err
    assert (1, 1) not in Theory.read(path).spread(15)


# ---------------------------------------------------------------- every model

#: options, parameters, sizes, repeats, and whether it is worth processes of its own
POINTS = {
    "ridge": ({}, {"alpha": 1.5, "reg": 0.3, "noise": 0.2}, (100, 200, 400), 40, False),
    "glm": ({"loss": "logistic", "labels": "sign"}, {"alpha": 2, "reg": 0.1, "noise": 0.2}, (100, 200, 400), 20, True),
    "bayes-optimal": ({}, {"alpha": 1.2, "noise": 0.1}, (200, 400, 800), 20, True),
    # the trained network remembers its batch, which only the exact bulk does too
    "srf": ({"bulk": "exact"}, {"alpha": 1.5, "alpha0": 4, "eta": 1, "reg": 0.3}, (100, 200, 400), 20, True),
    "line-network": ({}, {"norm_u0": 0.3, "norm_w0": 0.5, "cos_angle0": 0.2, "time": 1}, (20, 40, 80), 3, False),
    "wide-line-network": ({}, {"width": 100, "time": 1}, (20, 40, 80), 2, False),
    "line-descent": ({}, {"norm_u0": 0.3, "norm_w0": 0.5, "step": 0.05, "time": 30}, (20, 40, 80), 3, False),
    "decaying-line-network": ({}, {"norm_u0": 0.3, "norm_w0": 0.5, "decay": 0.1, "time": 1}, (20, 40, 80), 3, False),
    "deep-mode": ({}, {"depth": 3, "s": 1, "u0": 0.1, "time": 2}, (20, 40, 80), 2, False),
    "linear-student": ({}, {"alpha": 1.5, "noise": 0.3, "time": 3}, (100, 200, 400), 20, True),
    "two-layer-student": ({}, {"alpha": 2, "noise": 0.2, "time": 2}, (100, 200, 400), 20, True),
    "online-student": ({}, {"eta_w": 0.5, "noise": 0.1, "time": 2}, (100, 200, 400), 20, False),
    "giant-step": ({}, {"alpha": 2, "noise": 0.1, "time": 1}, (200, 400, 800), 20, True),
    "giant-leap": ({}, {"alpha": 1, "noise": 0.1}, (30, 45, 60), 20, True),
    "mixture": ({}, {"d": 30, "mean": 3, "batch": 300}, (100, 200), 20, True),
    "parity": ({"law": "sampled"}, {"D": 12, "k": 2}, (500, 1000), 20, False),
    "dictionary": ({}, {"D": 200, "k": 3, "rho": 0.5, "batch": 1000}, (50, 100), 10, True),
}


def test_every_model_is_validated_somewhere():
    assert POINTS.keys() == MODELS.keys()
    assert all(type(model()).simulate is not Model.simulate for model in MODELS.values())


@pytest.mark.slow
@pytest.mark.parametrize("name", POINTS)
def test_every_model_agrees_with_its_experiment(name, tmp_path):
    options, parameters, sizes, repeats, processes = POINTS[name]
    first = next(iter(parameters))
    fixed = {key: value for key, value in parameters.items() if key != first}
    model = MODELS[name](**options)
    Scan(model, Grid(**{first: [parameters[first]]}), fixed=fixed).run(tmp_path / "theory.h5", workers=1)
    theory = Theory.read(tmp_path / "theory.h5")
    settings = Settings(sizes, repeats, 0)
    (report,) = validate(theory, model, theory.every(), settings, workers=2 if processes else None)
    scores = {key: round(c.z, 2) for key, c in report.comparisons.items()}
    errors = {key: f"{c.line.error:.1e}" for key, c in report.comparisons.items()}
    print(f"\n{name}: z {scores}, standard errors {errors}")
    assert report.verdict == AGREE
    assert all(abs(z) < 4 for z in scores.values())
