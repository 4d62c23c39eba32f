"""Every figure that ships with the package is drawn, and listed."""

import numpy as np
import pytest
import xarray
from click.testing import CliRunner

from replica.cli import cli
from replica.figures import FIGURES

#: A quarter of a minute to minutes, for the networks they train.
SLOW = {
    "batch-reuse", "lottery-ticket", "srf-spectrum", "xor-width", "dictionary-steps", "alignment", "srf-learning", "srf-features",
    "srf-parameters",
}  # fmt: skip


def run(*arguments):
    return CliRunner().invoke(cli, ["figure", *arguments])


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in FIGURES])
def test_a_figure_is_drawn_and_its_numbers_saved(name, tmp_path):
    path = tmp_path / f"{name}.png"
    assert run(name, "--output", str(path)).exit_code == 0
    assert path.stat().st_size > 10_000
    with xarray.open_dataset(path.with_suffix(".h5"), engine="h5netcdf") as table:
        assert table.attrs["figure"] == name
        assert np.isfinite(table.x).all() and table.sizes["row"] > 0


def test_a_file_that_is_no_table_is_not_replaced(tmp_path):
    other = tmp_path / "mechanisms.h5"
    other.write_text("mine")
    refused = run("mechanisms", "--output", str(tmp_path / "mechanisms.png"))
    assert "not the table of a figure" in str(refused.exception)
    assert other.read_text() == "mine" and not (tmp_path / "mechanisms.png").exists()


def test_figures_are_listed_with_what_they_show():
    listed = run("--list").stdout
    assert all(name in listed for name in FIGURES)
    unknown = run("nothing")
    assert "the figures are" in unknown.output + str(unknown.exception)
