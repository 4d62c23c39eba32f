"""Shared fixtures: compiled problems are made once per session, since compiling is what takes time here."""

import os
import shutil
import sys

import pytest

from replica.workers import THREADS

if "PYTEST_XDIST_WORKER" in os.environ:  # threads of several processes would wait for each other; read when numpy is loaded
    for name in THREADS:
        os.environ.setdefault(name, "1")

from replica.models import RidgeRegression, SpikedRandomFeatures


def pytest_addoption(parser):
    parser.addoption("--run-slow", action="store_true", default=False, help="also run tests marked slow")


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: minutes of simulation; run with --run-slow")


def pytest_collection_modifyitems(config, items):
    if config.getoption("--run-slow"):
        return
    skip = pytest.mark.skip(reason="slow: run with --run-slow")
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(skip)


@pytest.fixture(scope="session")
def ridge():
    """Ridge regression with a linear teacher."""
    return RidgeRegression().compile()


@pytest.fixture(scope="session")
def srf():
    """Spiked random features, tanh student and sin target."""
    return SpikedRandomFeatures().compile()


@pytest.fixture
def replica(monkeypatch, capsys):
    """Run a command in this process; returns (exit code, stdout, stderr)."""
    from replica import cli

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["replica", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        out, err = capsys.readouterr()
        return stop.value.code, out, err

    return run


@pytest.fixture
def browser():
    """A headless browser."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    names = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
    executable = next(filter(None, map(shutil.which, names)), None)
    if executable is None:
        pytest.skip(f"no headless browser on the path: {', '.join(names)}")
    with playwright.sync_playwright() as play:
        opened = play.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        try:
            yield opened
        finally:
            opened.close()
