"""The kernel cache: compiled once, by content; and the same text without a compiler."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from replica.models import RidgeRegression
from solvers.kernels import digest

ROOT = Path(__file__).parent.parent
COMMAND = [sys.executable, "-m", "replica", "solve"]
POINT = ["ridge", "alpha=1.5", "reg=0.1", "noise=0.2", "--option", "target=tanh", "--json"]
SRF = ["srf", "alpha=2", "alpha0=20", "eta=3", "reg=0.1", "--option", "activation=relu", "--json"]


def run(arguments, **environment):
    done = subprocess.run(
        COMMAND + arguments, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


def compiled_files(folder):
    """Name and modification time of every kernel and every compiled function."""
    return {p.name: p.stat().st_mtime_ns for p in folder.rglob("*") if p.suffix in (".py", ".nbc")}


def test_a_second_process_compiles_nothing(tmp_path):
    first, _ = run(POINT, REPLICA_CACHE_DIR=str(tmp_path))
    files = compiled_files(tmp_path)
    assert len([f for f in files if f.endswith(".py")]) == 2
    second, _ = run(POINT, REPLICA_CACHE_DIR=str(tmp_path))
    assert compiled_files(tmp_path) == files
    assert second == first


def test_parameters_and_choices_reach_the_digest_as_they_should():
    tanh, tanh2, sin = (RidgeRegression(target=t).compile() for t in ("tanh", "tanh", "sin"))
    assert tanh.tabulate_source == tanh2.tabulate_source
    assert digest(tanh.tabulate_source) != digest(sin.tabulate_source)
    assert digest(tanh.kernel_source) == digest(sin.kernel_source)


def test_the_text_does_not_depend_on_hash_randomisation():
    code = (
        "from replica.models import *; p = SpikedRandomFeatures(activation='relu').compile();"
        "from solvers.kernels import digest; print(digest(p.tabulate_source), digest(p.kernel_source))"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True, text=True, check=True,
        ).stdout
        for seed in "123"
    }  # fmt: skip
    assert len(seen) == 1


def test_an_unwritable_cache_costs_one_warning_not_the_result(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    answer, warning = run(POINT, REPLICA_CACHE_DIR=str(blocked))
    assert answer["result"] == "CONVERGED"
    assert len(warning.strip().splitlines()) == 1
    assert "REPLICA_CACHE_DIR" in warning


@pytest.mark.parametrize("point", [POINT, SRF], ids=["ridge", "srf"])
def test_uncompiled_kernels_give_the_same_numbers(point):
    compiled, _ = run(point)
    plain, _ = run(point, NUMBA_DISABLE_JIT="1")
    for name, value in compiled["values"].items():
        assert plain["values"][name] == pytest.approx(value, rel=1e-11, abs=1e-13), name  # other order of roundings
