"""The command line: contracts, exit codes, and one clear line for every bad input."""

import json
import os
import sys
import time
from pathlib import Path

import h5py
import pytest

from replica import cli
from replica.models import RidgeRegression
from solvers import DampedIteration, Result, solve

POINT = ["srf", "alpha=2", "beta=1", "alpha0=20", "eta=3", "reg=0.1"]
CONFIG = """
model = "ridge"
[parameters]
noise = 0.1
[grid]
alpha = { linspace = [0.5, 2.0, 4] }
reg = [0.1, 1.0]
"""


@pytest.fixture
def config(tmp_path):
    def write(text):
        path = tmp_path / "config.toml"
        path.write_text(text)
        return path

    return write


def refused(outcome, *words):
    """Exit 2, nothing on stdout, one line on stderr that names what is wrong."""
    code, out, err = outcome
    assert code == 2
    assert out == ""
    assert len(err.strip().splitlines()) == 1, err
    assert "Traceback" not in err
    for word in words:
        assert word in err


def test_solve_prints_one_json_object(replica):
    code, out, _ = replica("solve", *POINT, "--option", "activation=tanh", "--option", "target=sin", "--json")
    answer = json.loads(out)
    assert code == 0
    assert answer["model"] == "srf"
    assert answer["result"] == "CONVERGED"
    assert {"residual", "error", "quadrature_error"} <= answer.keys()
    names = {"V1", "V2", "q1", "q2", "theta", "psi", "m", "V1_hat", "test_error", "train_error", "free_entropy"}
    assert names <= answer["values"].keys()


def test_a_point_that_does_not_converge_exits_3_and_still_prints(replica):
    code, out, err = replica("solve", *POINT, "--json", "--method-option", "max_steps=1")
    assert code == 3
    assert json.loads(out)["result"] == "MAX_STEPS"
    assert "raise max_steps" in err


def test_command_line_and_python_agree(replica, srf):
    _, out, _ = replica("solve", *POINT, "--json", "--method", "damped", "--method-option", "rtol=1e-8")
    same = solve(srf, alpha=2, beta=1, alpha0=20, eta=3, reg=0.1, method=DampedIteration(rtol=1e-8))
    assert json.loads(out)["values"] == same.values


def test_models_show_and_help(replica):
    assert "srf" in replica("models")[1]
    assert "V1, V2 (nonlinear)" in replica("show", "srf")[1]
    assert r"\mathbb{E}" in replica("show", "ridge", "--latex")[1]
    assert "penalty      of (reg, samples, weights): reg, or 1 in the ridgeless limit" in replica("show", "ridge")[1]
    assert "channel_g2   of (C, T, rho" in replica("show", "glm", "--option", "loss=huber")[1]
    assert "def update(" in replica("show", "ridge", "--kernel")[1]
    assert "Examples" in replica("solve", "--help")[1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["alpha=1", "reg=-1"], ["reg = -1", "[0, inf)"]),
        (["alpha=0", "reg=1"], ["alpha = 0", "(0, inf)"]),
        (["alpha=-1", "reg=1"], ["alpha = -1"]),
        (["alpha=nan", "reg=1"], ["alpha = nan"]),
        (["alpha=inf", "reg=1"], ["alpha = inf"]),
        (["alpha=one", "reg=1"], ["alpha", "'one'", "not a number"]),
        (["alpha=1"], ["reg", "not given"]),
        (["alpha=1", "reg=1", "lam=1"], ["'lam'", "alpha, reg, noise"]),
        (["alpha=1", "alpha=2", "reg=1"], ["alpha", "twice"]),
        (["alpha"], ["name=value"]),
        (["alpha=1", "reg=1", "--option", "teacher=sin"], ["'teacher'", "target"]),
        (["alpha=1", "reg=1", "--option", "loss=hubert"], ["hubert", "square"]),
        (["alpha=1", "reg=1", "--method", "bisection"], ["'bisection'", "newton"]),
        (["alpha=1", "reg=1", "--method-option", "rtol=0"], ["rtol = 0", "(0, 1)"]),
        (["alpha=1", "reg=1", "--method-option", "step=1"], ["'step'", "rtol"]),
        (["alpha=1", "reg=1", "--method-option", "max_steps=many"], ["max_steps = 'many'"]),
    ],
)
def test_bad_points_get_one_line(replica, arguments, words):
    refused(replica("solve", "ridge", *arguments), *words)


def test_a_model_of_a_name_that_is_taken_is_refused(monkeypatch, capsys):
    class Ridge(RidgeRegression):
        """Not the one of the package."""

    monkeypatch.setattr(sys, "argv", ["mine.py", "models"])
    with pytest.raises(SystemExit) as stop:
        cli.main(Ridge)
    refused((stop.value.code, *capsys.readouterr()), "Ridge", "'ridge'", "choose another name")


def test_unknown_model_names_the_known_ones(replica):
    refused(replica("solve", "perceptron"), "'perceptron'", "ridge, srf")
    refused(replica("nonsense"), "nonsense")


@pytest.mark.parametrize(
    "text",
    ["__import__('os')", "z.__class__", "(lambda: z)()", "open('x')", "z if z else 1", "y + 1", "9**9**9", "z[0]", "1/z", ""],
)
def test_strange_expressions_are_not_evaluated(replica, text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused(replica("solve", "ridge", "alpha=1", "reg=1", "--option", f"target={text}"), "target")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (CONFIG.replace("linspace", "linspac"), ["'linspac'", "did you mean 'linspace'"]),
        (CONFIG.replace("[parameters]", "[parametres]"), ["'parametres'", "did you mean 'parameters'"]),
        (CONFIG.replace("noise", "nois"), ["'nois'", "alpha, reg, noise"]),
        (CONFIG + "alpha = [1.0]\n", ["alpha"]),  # an axis twice
        (CONFIG.replace("[grid]", "alpha = 1.0\n[grid]"), ["alpha", "twice"]),
        (CONFIG.replace('"ridge"', '"rigde"'), ["'rigde'", "ridge, srf"]),
        (CONFIG.replace("0.1, 1.0]", "0.1, -1.0]"), ["reg = -1"]),
        (CONFIG.replace("0.1, 1.0]", "0.1, nan]"), ["reg"]),
        (CONFIG.replace("0.1, 1.0]", "0.1, 0.1]"), ["reg", "more than once"]),
        (CONFIG.replace("0.5, 2.0, 4", "0.5, 2.0, 0"), ["alpha", "count"]),
        (CONFIG.replace("0.5, 2.0, 4", "0.5, 2.0"), ["alpha"]),
        (CONFIG + '[method]\nname = "newtn"\n', ["'newtn'", "newton"]),
        (CONFIG + '[method]\nname = "newton"\ndamping = 0.5\n', ["'damping'", "rtol"]),
        (CONFIG + "[simulation]\nsize = 50\n", ["repeats"]),
        (CONFIG + "[simulation]\nsize = 50\nrepeats = 2\npoints = { beta = [1.0] }\n", ["beta", "alpha, reg"]),
        ("model = ", ["not valid TOML"]),
        ('[grid]\nalpha = [1.0]\n', ["'model'", "missing"]),
        ("\x00\x01", ["not valid TOML"]),
    ],
)
def test_bad_configs_get_one_line_before_any_work(replica, config, tmp_path, text, words):
    output = tmp_path / "out.h5"
    refused(replica("scan", config(text), "--output", output), *words)
    assert not output.exists()


def test_scan_then_again_then_another_plan(replica, config, tmp_path):
    output = tmp_path / "scan.h5"
    code, out, _ = replica("scan", config(CONFIG), "--output", output, "--workers", 2)
    assert code == 0
    assert "8 CONVERGED" in out
    before = output.read_bytes()
    assert "left alone" in replica("scan", config(CONFIG), "--output", output)[1]
    other = config(CONFIG.replace("0.1, 1.0]", "0.1, 2.0]"))
    refused(replica("scan", other, "--output", output), "another scan", "reg axis differs")
    assert output.read_bytes() == before
    assert replica("scan", other, "--output", output, "--overwrite")[0] == 0
    assert "8 CONVERGED" in replica("status", output)[1]
    assert json.loads(replica("status", output, "--json")[1])["counts"] == {"CONVERGED": 8}


def test_failed_points_are_listed_and_retried(replica, config, tmp_path):
    output = tmp_path / "scan.h5"
    text = CONFIG.replace("linspace = [0.5, 2.0, 4]", "linspace = [0.5, 2.0, 12]") + "[method]\nmax_steps = 3\n"
    command = ["scan", config(text), "--output", output]
    code, out, _ = replica(*command)
    assert code == 0
    assert "24 MAX_STEPS" in out
    assert "failed at alpha=0.5, reg=0.1: MAX_STEPS (last tried: neighbour): residual still above rtol" in out
    assert "and 14 more: where result is not 0" in out
    before = output.read_bytes()
    for wrong, words in {
        ("--retry", "MAX_STEPS"): ["--method newton, anderson or damped"],
        ("--retry", "SLOW", "--method", "anderson"): ["'SLOW'", "MAX_STEPS, NONFINITE"],
        ("--retry", "CONVERGED", "--method", "anderson"): ["'CONVERGED'"],
        ("--retry", "MAX_STEPS", "--method", "ladder"): ["'ladder'"],
        ("--retry", "MAX_STEPS", "--method", "anderson", "--overwrite"): ["--overwrite"],
        ("--retry", "MAX_STEPS", "--method", "anderson", "--method-option", "damping=2"): ["damping = 2", "[0, 1)"],
        ("--method", "anderson"): ["go with --retry"],
        ("--scheduler", "tcp://127.0.0.1:1", "--workers", "2"): ["one of the two"],
    }.items():
        refused(replica(*command, *wrong), *words)
    refused(replica("scan", config(text), "--output", tmp_path / "no.h5", *"--retry MAX_STEPS --method damped".split()), "no.h5")
    assert output.read_bytes() == before
    again = [*command, "--retry", "MAX_STEPS,STALLED", "--method", "anderson"]
    assert "24 CONVERGED" in replica(*again)[1]
    assert "nothing left to retry" in replica(*again)[1]
    assert "already complete" in replica(*command)[1]


def test_a_large_scan_says_beforehand_what_it_will_cost(replica, config, tmp_path, monkeypatch):
    monkeypatch.setattr("replica.cli_scan.LARGE", 8)
    output = tmp_path / "scan.h5"
    _, out, err = replica("scan", config(CONFIG), "--output", output, "--workers", 2)
    assert "8 points: 0.00101 MB, about" in err
    assert "8 CONVERGED" in out
    assert replica("scan", config(CONFIG), "--output", output)[2] == ""


def test_simulations_are_stored_beside_the_theory_and_drawn(replica, config, tmp_path):
    output, figure = tmp_path / "scan.h5", tmp_path / "figure.png"
    text = CONFIG + "[simulation]\nsize = 60\nrepeats = 3\nseed = 1\npoints = { alpha = [1.5] }\n"
    assert replica("scan", config(text), "--output", output)[0] == 0
    assert "simulations at 2 points" in replica("status", output)[1]
    assert "left alone" in replica("scan", config(text), "--output", output)[1]
    refused(replica("scan", config(text.replace("seed = 1", "seed = 2")), "--output", output), "simulations")
    assert replica("plot", output, "--x", "alpha", "--y", "test_error", "--hue", "reg", "--output", figure)[0] == 0
    assert figure.read_bytes().startswith(b"\x89PNG")


def test_bad_plots_get_one_line(replica, config, tmp_path):
    output = tmp_path / "scan.h5"
    replica("scan", config(CONFIG), "--output", output)
    to = tmp_path / "figure.png"
    refused(replica("plot", output, "--x", "alpha", "--y", "nothing", "--output", to), "nothing", "test_error")
    refused(replica("plot", output, "--x", "beta", "--y", "test_error", "--output", to), "beta")
    refused(replica("plot", output, "--x", "alpha", "--y", "q", "--output", tmp_path / "figure.xyz"), "xyz", "png")
    refused(replica("plot", output, "--x", "alpha", "--y", "q", "--select", "reg=7", "--output", to), "reg")


def test_files_that_are_not_scans_get_one_line_and_are_not_touched(replica, config, tmp_path):
    foreign, broken, text = tmp_path / "foreign.h5", tmp_path / "broken.h5", tmp_path / "text.h5"
    with h5py.File(foreign, "w") as file:
        file["x"] = 1
    replica("scan", config(CONFIG), "--output", broken)
    broken.write_bytes(broken.read_bytes()[:3000])
    text.write_text("hello")
    for path in (foreign, broken, text):
        before = path.read_bytes()
        refused(replica("status", path), path.name)
        refused(replica("scan", config(CONFIG), "--output", path), path.name)
        refused(replica("plot", path, "--x", "alpha", "--y", "q", "--output", tmp_path / "f.png"), path.name)
        assert path.read_bytes() == before
    refused(replica("status", tmp_path / "absent.h5"), "absent.h5")
    refused(replica("scan", config(CONFIG), "--output", tmp_path / "scan.csv"), "scan.csv", ".h5")


def test_unwritable_places_get_one_line(replica, config, tmp_path):
    refused(replica("scan", config(CONFIG), "--output", tmp_path / "config.toml" / "out.h5"), "out.h5")
    refused(replica("scan", config(CONFIG), "--output", tmp_path / "no" / "out.h5"), "out.h5")
    refused(replica("scan", tmp_path / "absent.toml", "--output", tmp_path / "out.h5"), "absent.toml")
    if os.geteuid() != 0:  # root may write anywhere
        locked = tmp_path / "locked"
        locked.mkdir(mode=0o500)
        refused(replica("scan", config(CONFIG), "--output", locked / "out.h5"), "out.h5")


def test_import_and_help_load_nothing_heavy():
    import subprocess

    code = "import sys, replica, replica.cli; print([m for m in ('sympy', 'numba', 'matplotlib', 'xarray') if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parent.parent
    )
    assert done.stdout.strip() == "[]"


def test_result_messages_say_what_to_try():
    assert all(code.message for code in Result)


def test_a_slow_start_says_what_takes_so_long(monkeypatch, capsys):
    """On a terminal, after two seconds: here the timer is told to wait for none."""
    from threading import Timer

    monkeypatch.setattr(cli.threading, "Timer", lambda _, say: Timer(0.0, say))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with cli._deriving(RidgeRegression()):
        time.sleep(0.2)
    assert capsys.readouterr().err.startswith("deriving and compiling ridge")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False)
    with cli._deriving(RidgeRegression()):
        time.sleep(0.2)
    assert capsys.readouterr().err == ""
