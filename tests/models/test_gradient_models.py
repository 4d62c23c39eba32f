"""Models mixture, parity and dictionary: solve, scan, files, figures, the command line, and bad input."""

import json
import math
import pickle

import numpy as np
import pytest

from replica.figures import draw
from replica.models import MODELS, Mixture, Parity, StructuredDictionary
from replica.results import open_results
from replica.show import as_markdown, as_text
from replica.validation import compare
from solvers import Evaluate, Grid, MethodError, Newton, ParameterError, Result, Scan, solve

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


@pytest.mark.parametrize(
    ("model", "axes", "fixed", "words"),
    [
        (Parity(), {"D": [3.0, 50.0], "k": [2.0, 5.0]}, {}, ["parity: k = 5", "[1, D]", "D = 3"]),
        (Parity(), {"k": [2.0, 3.0], "D": [50.0, math.inf], "batch": [1e4]}, {}, ["parity: at D = inf", "batch inf"]),
        (StructuredDictionary(), {"D": [20.0, 4.0], "gamma": [0.1, 0.2]}, {"k": 5}, ["dictionary: k = 5", "[1, 4]"]),
        (StructuredDictionary(), {"k": [3.0, 4.0]}, {"D": 20}, ["dictionary: k = 4", "odd"]),
        (Mixture(bias_law="normal"), {"bias": [1.0, -1.0]}, {"d": 9, "mean": 1}, ["mixture: scale = -1", "[0, inf)"]),
    ],
)
def test_a_scan_with_an_impossible_point_is_refused_before_any_work(model, axes, fixed, words, tmp_path):
    with pytest.raises(ParameterError) as error:
        Scan(model, Grid(**axes), fixed=fixed)
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)


def test_a_scan_file_with_an_impossible_point_leaves_nothing_behind(replica, tmp_path):
    config, output = tmp_path / "parity.toml", tmp_path / "parity.h5"
    config.write_text('model = "parity"\n[grid]\nD = [3, 50]\nk = [2, 5]\n')
    code, out, err = replica("scan", config, "--output", output)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert "k = 5 is outside its range [1, D] with D = 3" in err
    assert not output.exists()


@pytest.mark.parametrize("name", POINTS)
def test_every_result_carries_its_claim_and_regime(name, replica, tmp_path):
    model = MODELS[name]()
    stated = model.statement()
    assert stated["claim"].split(";")[0] in ("exact", "asymptotic", "conjectured")
    assert stated["regime"]
    answer = json.loads(replica("solve", name, *(f"{k}={v}" for k, v in POINTS[name].items()), "--json")[1])
    assert {key: answer[key] for key in stated} == stated
    assert stated["regime"] in replica("solve", name, *(f"{k}={v}" for k, v in POINTS[name].items()))[1]
    point = {key: float(value) for key, value in POINTS[name].items()}
    Scan(model, Grid(gamma=[0.2]), fixed=point).run(tmp_path / "scan.h5", workers=1)
    with open_results(tmp_path / "scan.h5") as data:
        assert {key: data.attrs[key] for key in stated} == stated


def test_lottery_tickets_of_the_model_are_binomial_and_win(replica):
    """m p winners, none of them with probability (1 - p)^m; the ticket beats as many random neurons."""
    model, point = Mixture(predict="tickets"), {"d": 60, "mean": 4, "batch": 4000, "neurons": 32}
    solution = solve(model, method=Evaluate(nodes=512, max_nodes=512, quadrature_rtol=0.1), **point)
    np.testing.assert_allclose(solution["winners"], 32 * solution["hit"], rtol=1e-12)
    np.testing.assert_allclose(solution["no_winner"], (1 - solution["hit"]) ** 32, rtol=1e-12)
    assert solution["ticket_accuracy"] > solution["pair_accuracy"] + 0.02


@pytest.mark.parametrize("kind", ["relu", "kernel"])
def test_measured_fixed_features_stand_beside_their_bound(kind):
    solution = solve(Parity(fixed=kind), D=9, k=3, features=30)
    assert 1 >= solution["fixed_error"] >= solution["error_bound"] == pytest.approx(1 - 30 / math.comb(9, 3))


def test_dictionary_bounds_the_loss_of_fixed_features():
    """rho (1 - B sqrt(N/C(D, k))); nothing is claimed without uniform elements."""
    value = solve(StructuredDictionary(), D=30, k=3, rho=0.4, features=20, readout=2.0)["loss_bound"]
    assert value == pytest.approx(0.4 * (1 - 2 * math.sqrt(20 / math.comb(30, 3))))
    assert solve(StructuredDictionary(labels="threshold"), D=30, k=3, features=20)["loss_bound"] == 0


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
    assert report["induced_accuracy"]["value"] + report["induced_accuracy"]["error"] > 0.9
    assert (report["claim"], report["batch"]) == ("exact", None)
    file.write_text(json.dumps({**text, "batch": 50}))
    small = json.loads(replica("solve", "mixture", "--input", file, "--json")[1])
    assert (small["claim"], small["batch"]) == ("asymptotic", 50)
    assert small["features"][0]["probability"] < report["features"][0]["probability"] + 0.1
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
        (["parity", "D=100", "k=3", "features=9", "--option", "fixed=relu"], ["D = 100", "[1, 14]"]),
        (["parity", "D=9", "k=3", "--option", "fixed=kernel"], ["features = 0", "at least 1"]),
        (["parity", "D=inf", "k=3", "--option", "law=sampled"], ["D = inf", "law = leading"]),
        (["parity", "D=inf", "k=3", "batch=100"], ["D = inf", "batch inf"]),
        (["mixture", "d=60", "mean=4", "bias=-1", "--option", "bias_law=normal"], ["scale = -1", "[0, inf)"]),
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
        ({"batch": 0}, ["batch = 0", "[1, inf]"]),
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
    assert all(path.stat().st_size > 10_000 for path in draw(name, tmp_path / "figure.png"))


@pytest.mark.slow
def test_ten_thousand_hit_probabilities_take_less_than_a_minute(tmp_path):
    import time

    grid = Grid(mean=np.linspace(0.5, 8, 100), gamma=np.linspace(0.02, 0.5, 100))
    start = time.process_time()
    report = Scan(Mixture(), grid, fixed={"d": 100}).run(tmp_path / "grid.h5", workers=2)
    print(f"{time.process_time() - start:.0f} s of processor, {report.seconds:.0f} s in all")
    assert report.counts == {Result.CONVERGED: 10_000}
    assert time.process_time() - start < 100  # processor time of two cores
