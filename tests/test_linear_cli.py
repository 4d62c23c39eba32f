"""The command line for models that move in time: files, times, phases, figures, and one clear line for bad input."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from replica import cli
from replica.results import open_results

INPUT = {"u": [0.1, -0.2], "w": [0.3, 0.1], "gamma": 1, "eta_u": 1, "eta_w": 1, "A": 1, "B": 0.5, "C": None,
         "times": [0, 1, "inf"]}  # fmt: skip


@pytest.fixture
def run(monkeypatch, capsys):
    """Run a command in this process."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["replica", *arguments])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        out, err = capsys.readouterr()
        return SimpleNamespace(returncode=stop.value.code, stdout=out, stderr=err)

    return call


def write(tmp_path, content):
    path = tmp_path / "input.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def test_a_line_network_from_a_file_keeps_its_contract(run, tmp_path):
    outcome = run("solve", "line-network", "--input", write(tmp_path, INPUT), "--json")
    assert outcome.returncode == 0
    found = json.loads(outcome.stdout)
    assert found["times"] == [0, 1, "inf"]
    for name in ("output", "loss", "ntk", "cos_angle", "norm_u", "norm_w"):
        assert len(found["values"][name]) == 3
    assert found["values"]["output"][0] == pytest.approx(0.01)
    assert found["values"]["output"][2] == found["limit_output"] == 0.5
    assert found["values"]["ntk"][2] == found["limit_ntk"]
    assert found["stuck"] is False
    assert found["rate"] > 0
    assert found["mechanisms"] == ["alignment", "rescaling"]


def test_data_and_schemes_may_stand_in_for_moments_and_weights(run, tmp_path):
    content = {"scheme": "xavier", "width": 100, "seed": 3, "x": [1, 2, -1], "y": [1, 1, 0], "times": [1]}
    found = json.loads(run("solve", "line-network", "--input", write(tmp_path, content), "--json").stdout)
    assert found["parameters"]["A"] == pytest.approx(2)
    assert found["limit_output"] == pytest.approx(0.5)
    loss = {"u": [1], "w": [0.5], "x": [1, -1], "y": [1, -1], "times": [0, 1], "loss": "softplus(-y*f)"}
    found = json.loads(run("solve", "any-loss-line-network", "--input", write(tmp_path, loss), "--json").stdout)
    assert found["values"]["loss"][0] == pytest.approx(np.log1p(np.exp(-0.5)))
    balanced = {"W1": [[0.1]], "W2": [[0.1]], "Sigma": [[2]], "times": [0, "inf"]}
    found = json.loads(run("solve", "balanced-network", "--input", write(tmp_path, balanced), "--json").stdout)
    assert found["values"]["output"][1] == [[pytest.approx(2)]]


BAD = {
    "lengths": ({**INPUT, "w": [1.0]}, "lengths 2 and 1"),
    "empty": ({**INPUT, "u": [], "w": []}, "shape (0,)"),
    "nan": (json.dumps({**INPUT, "w": [float("nan"), 1.0]}), "w[0] = nan is not finite"),
    "negative time": ({**INPUT, "times": [-1]}, "time = -1 is outside its range [0, inf]"),
    "negative rate": ({**INPUT, "eta_u": -1}, "eta_u = -1 is outside its range"),
    "scheme": ({"scheme": "kaiming", "width": 3, "A": 1, "B": 1, "times": [0]}, "the schemes are kaiming-fan-in"),
    "no data": ({"u": [1], "w": [1], "times": [0]}, "data are missing"),
    "empty data": ({"u": [1], "w": [1], "x": [], "y": [], "times": [0]}, "non-empty"),
    "moments": ({**INPUT, "C": 0.1}, "is below B^2/A = 0.25"),
    "key": ({**INPUT, "eta": 1}, "unknown key 'eta'; the keys are"),
    "text": ({**INPUT, "u": ["a", "b"]}, "u.0"),
    "no times": ({k: v for k, v in INPUT.items() if k != "times"}, "times"),
    "not json": ("[1, 2", "not valid JSON"),
    "not an object": ("[1, 2]", "not a JSON object"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_clear_line(run, tmp_path, case):
    content, message = BAD[case]
    outcome = run("solve", "line-network", "--input", write(tmp_path, content), "--json")
    assert outcome.returncode == 2
    assert outcome.stdout == ""
    assert outcome.stderr.count("\n") == 1
    assert message in outcome.stderr


def test_times_on_the_command_line(run):
    outcome = run("solve", "deep-mode", "u0=0.1", "--times", "0,1,5", "--json")
    assert json.loads(outcome.stdout)["values"]["strength"][0] == pytest.approx(0.1)
    outcome = run("solve", "deep-mode", "u0=0.1", "--times", "0,inf")
    assert outcome.returncode == 2
    assert "time = inf is outside its range [0, inf)" in outcome.stderr
    assert "does not move in time" in run("solve", "ridge", "alpha=1", "reg=1", "--times", "0").stderr
    assert "use integrate" in run("solve", "deep-mode", "u0=0.1", "time=1", "--method", "newton").stderr


def test_time_is_an_axis_of_a_scan_like_any_other(run, tmp_path):
    config = tmp_path / "scan.toml"
    config.write_text(
        'model = "line-network"\n[parameters]\nB = 2.0\n[grid]\nnorm_u0 = [0.1, 1.0]\ntime = [0.0, 1.0, inf]\n'
    )
    path = tmp_path / "scan.h5"
    assert run("scan", str(config), "--output", str(path)).returncode == 0
    with open_results(path) as data:
        assert data.output.dims == ("norm_u0", "time")
        assert (data.result == 0).all()
        assert (abs(data.output.isel(time=2) - 2) < 1e-14).all()
    again = run("scan", str(config), "--output", str(path))
    assert "already complete" in again.stdout


def test_certificates_are_shown(run):
    text = run("show", "line-network").stdout
    assert text.count("holds ") >= 15
    assert "FAILS" not in text
    assert "P_t = P*(D + 2*Q + S + rho)/(D + 2*P - S + rho)" in text


def test_phases_are_printed_and_drawn(run, tmp_path):
    found = json.loads(run("phases", "--scheme", "ntk", "--json").stdout)
    assert (found["phase"], found["delta"]) == ("kernel", 0.5)
    path = tmp_path / "phases.png"
    assert run("phases", "--x", "c_u", "--y", "c_eta_w", "--output", str(path)).returncode == 0
    assert path.stat().st_size > 10_000
    assert "they are c_gamma" in run("phases", "c_q=1").stderr
