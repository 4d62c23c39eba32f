"""Models mixture, parity and dictionary: solve, scan, files, figures, the command line, and bad input."""

import json
import math
import pickle
import sys

import numpy as np
import pytest

from replica import cli
from replica.figures import draw
from replica.models import MODELS, Mixture, Parity, StructuredDictionary
from replica.results import open_results
from replica.show import as_markdown, as_text
from replica.validation import compare
from solvers import Evaluate, Grid, MethodError, Newton, ParameterError, Result, Scan, solve


@pytest.fixture
def replica(monkeypatch, capsys):
    """Run a command in this process; returns (exit code, stdout, stderr)."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["replica", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        out, err = capsys.readouterr()
        return stop.value.code, out, err

    return run


POINTS = {
    "mixture": {"d": 60, "mean": 4},
    "parity": {"D": 100, "k": 3, "beta": 0.5},
    "dictionary": {"D": 100, "k": 5, "batch": 1e3},
}


@pytest.mark.parametrize("name", POINTS)
def test_a_point_has_status_error_and_values(name):
    solution = solve(MODELS[name](), **POINTS[name])
    assert solution.result is Result.CONVERGED
    assert 0 < solution.quadrature_error < 5e-3
    assert solution.nodes == 1024
    again = solve(MODELS[name](), **POINTS[name])
    assert all(np.array_equal(again[key], value) for key, value in solution.values.items())


def test_reported_error_covers_the_error():
    """Against 64 times the nodes, at 20 points."""
    model = Mixture()
    for k in range(20):
        point = {"d": 10 + 20 * k, "mean": 1 + 0.3 * k, "gamma": 0.05 + 0.02 * k, "bias": 0.1 * k}
        rough, fine = (solve(model, method=Evaluate(nodes=n, max_nodes=n), **point) for n in (64, 4096))
        assert np.abs(rough["hit"] - fine["hit"]).max() <= rough.quadrature_error + fine.quadrature_error


def test_an_unresolved_average_says_so():
    solution = solve(Mixture(), method=Evaluate(nodes=64, max_nodes=128, quadrature_rtol=1e-6), d=60, mean=4)
    assert solution.result is Result.QUADRATURE_UNRESOLVED
    assert solution.nodes == 128


def test_scan_resumes_and_opens(tmp_path):
    path, grid = tmp_path / "hits.h5", Grid(mean=[1.0, 4.0], gamma=[0.1, 0.3])
    first = Scan(Mixture(), grid, fixed={"d": 60}).run(path, workers=2)
    assert first.counts == {Result.CONVERGED: 4}
    assert Scan(Mixture(), grid, fixed={"d": 60}).run(path).computed == 0
    with open_results(path) as data:
        assert data.hit.dims == ("mean", "gamma", "direction")
        assert float(data.hit.sel(mean=4.0, gamma=0.1)[0]) == solve(Mixture(), d=60, mean=4.0, gamma=0.1)["hit"][0]


def test_impossible_points_of_a_scan_are_marked_and_the_others_solved(tmp_path):
    report = Scan(Parity(), Grid(D=[3.0, 50.0], k=[2.0, 5.0])).run(tmp_path / "parity.h5", workers=1)
    assert report.counts == {Result.CONVERGED: 3, Result.ERROR: 1}


def test_problems_travel_and_are_refused_other_methods():
    problem = Mixture(clusters="pair").compile()
    same = pickle.loads(pickle.dumps(problem))
    assert solve(same, d=5, mean=1.0).values["bayes_error"] == solve(problem, d=5, mean=1.0).values["bayes_error"]
    with pytest.raises(MethodError, match="use evaluate"):
        solve(problem, method=Newton(), d=5, mean=1.0)
    with pytest.raises(MethodError, match="newton, anderson or damped"):
        solve(MODELS["ridge"](), method=Evaluate(), alpha=1, reg=1)
    with pytest.raises(MethodError, match="power of two"):
        Evaluate(nodes=1000)


@pytest.mark.parametrize("model", [Mixture(), Mixture(predict="accuracy", clusters="pair"), Parity(), StructuredDictionary()])
def test_models_say_what_they_compute(model):
    text, page = as_text(model), as_markdown(model)
    for name in model.compile().values.names:
        assert f"  {name} = " in text
    assert page.count("$$") == 2 * len(model.compile().values.names)


@pytest.mark.parametrize(
    ("model", "point", "size"),
    [
        (Mixture(), {"d": 30, "mean": 3, "batch": 300}, 400),
        (Mixture(norm="gaussian", bias_law="normal"), {"d": 30, "mean": 3, "bias": 0.5}, 4000),
        (StructuredDictionary(), {"D": 60, "k": 3, "rho": 0.5, "batch": 1000}, 60),
        (StructuredDictionary(labels="threshold"), {"D": 60, "k": 4, "count": 2, "rate": 0.4, "batch": 1000}, 60),
    ],
)
def test_theory_meets_experiment(model, point, size):
    """4 sigma of 4 experiments, allowance 0.006 for the errors of both (0.01 of accuracies: fit on 4000 samples)."""
    problem = model.compile()
    full = dict(zip([q.name for q in problem.parameters], problem.point(point).tolist(), strict=True))
    report = compare(model, full, size=size, repeats=4, seed=1, theory=solve(problem, **point).values)
    report.check(sigmas=4, allowance=0.006)


def test_command_line(replica, tmp_path):
    code, out, _ = replica("solve", "mixture", "d=60", "mean=4", "--json")
    answer = json.loads(out)
    assert code == 0
    assert answer["result"] == "CONVERGED"
    assert answer["values"]["hit"] == pytest.approx([0.267, 0.267], abs=0.004)
    assert json.loads(replica("solve", "parity", "D=inf", "k=2", "--json")[1])["values"]["hit"] == pytest.approx(
        2 / math.pi * math.acos(0.9), abs=0.004
    )
    assert json.loads(replica("solve", "dictionary", "D=100", "k=5", "--json")[1])["values"]["cosine"][2] == pytest.approx(1)
    file = tmp_path / "clusters.json"
    text = {"means": [[4, 0, 0], [-4, 0, 0], [0, 4, 0]], "labels": [1, 1, -1], "weights": [0.25, 0.25, 0.5], "bias": 0.5}
    file.write_text(json.dumps(text))
    report = json.loads(replica("solve", "mixture", "--input", file, "--json")[1])
    assert report["features"][0]["probability"] > 0.2
    assert 0 < report["bayes_error"]["value"] < 0.05
    assert "probability" in replica("solve", "mixture", "--input", file)[1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["mixture", "d=60", "mean=4", "gamma=1"], ["gamma = 1", "(0, 1)"]),
        (["mixture", "d=60", "mean=4", "gamma=0"], ["gamma = 0", "(0, 1)"]),
        (["mixture", "d=1", "mean=4"], ["d = 1", "[2, 1e+06]"]),
        (["mixture", "d=60", "mean=4", "--option", "clusters=ring"], ["'ring'", "xor, pair"]),
        (["parity", "D=4", "k=5"], ["parity: k = 5", "[1, D]", "D = 4"]),
        (["parity", "D=4.5", "k=2"], ["D = 4.5", "whole"]),
        (["dictionary", "D=100", "k=4"], ["dictionary: k = 4", "odd"]),
        (["dictionary", "D=3", "k=5"], ["k = 5", "[1, 3]"]),
        (["dictionary", "D=9", "k=3", "background=1"], ["background = 1", "(0, 1)"]),
        (["mixture", "d=60", "mean=4", "--times", "1,2"], ["does not move in time"]),
        (["mixture", "d=60", "mean=4", "--method-option", "nodes=100"], ["nodes = 100", "power of two"]),
    ],
)
def test_bad_points_get_one_line(replica, arguments, words):
    code, out, err = replica("solve", *arguments)
    assert (code, out) == (2, "")
    assert len(err.strip().splitlines()) == 1
    for word in words:
        assert word in err


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"labels": [2, 1, -1]}, ["labels has 2", "1 or -1"]),
        ({"covariances": [[1, 2, 0], [2, 1, 0], [0, 0, 1]]}, ["cluster 0", "positive definite"]),
        ({"gamma": 1.5}, ["gamma = 1.5", "(0, 1)"]),
        ({"gama": 0.1}, ["'gama'", "gamma"]),
        ({"means": [[1, 0], [0], [1, 1]]}, ["means", "ragged"]),
        ({"bias_law": "cauchy"}, ["'cauchy'", "uniform"]),
        ({"p": 0}, ["p = 0", "(0, 1]"]),
    ],
)
def test_bad_files_get_one_line(replica, tmp_path, change, words):
    file = tmp_path / "clusters.json"
    file.write_text(json.dumps({"means": [[4, 0, 0], [-4, 0, 0], [0, 4, 0]], "labels": [1, 1, -1], **change}))
    code, out, err = replica("solve", "mixture", "--input", file, "--json")
    assert (code, out) == (2, "")
    assert len(err.strip().splitlines()) == 1
    for word in ["clusters.json", *words]:
        assert word in err


def test_there_are_no_derivatives_and_no_generated_code(replica):
    code, _, err = replica("optimise", "mixture", "--over", "mean", "--minimise", "bayes_error", "d=60")
    assert code == 2
    assert "closed integral" in err
    assert "no generated code" in replica("show", "mixture", "--kernel")[1]


def test_parameters_that_do_not_go_together_are_refused_before_any_work():
    with pytest.raises(ParameterError, match="k = 5"):
        Scan(Parity(), Grid(gamma=[0.1, 0.2]), fixed={"D": 4, "k": 5})


@pytest.mark.slow
@pytest.mark.parametrize("name", ["xor-width", "dictionary-steps", "lottery-ticket", "parity-cone", "fixed-features"])
def test_figures_are_drawn(name, tmp_path):
    assert draw(name, tmp_path / "figure.png").stat().st_size > 20_000


@pytest.mark.slow
def test_ten_thousand_hit_probabilities_take_less_than_a_minute(tmp_path):
    import time

    grid = Grid(mean=np.linspace(0.5, 8, 100), gamma=np.linspace(0.02, 0.5, 100))
    start = time.process_time()
    report = Scan(Mixture(), grid, fixed={"d": 100}).run(tmp_path / "grid.h5", workers=2)
    print(f"{time.process_time() - start:.0f} s of processor, {report.seconds:.0f} s in all")
    assert report.counts == {Result.CONVERGED: 10_000}
    assert time.process_time() - start < 100  # processor time of two cores
