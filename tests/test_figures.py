"""Every figure that ships with the package is drawn, and listed."""

import pytest
from click.testing import CliRunner

from replica.cli import cli
from replica.figures import FIGURES


def run(*arguments):
    return CliRunner().invoke(cli, ["figure", *arguments])


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_drawn(name, tmp_path):
    path = tmp_path / f"{name}.png"
    assert run(name, "--output", str(path)).exit_code == 0
    assert path.stat().st_size > 10_000


def test_figures_are_listed_with_what_they_show():
    listed = run("--list").stdout
    assert all(name in listed for name in FIGURES)
    unknown = run("nothing")
    assert "the figures are" in unknown.output + str(unknown.exception)
