"""Shared fixtures: compiled problems are made once per session, since compiling is what takes time here."""

import pytest

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
