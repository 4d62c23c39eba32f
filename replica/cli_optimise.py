"""The command `replica optimise`: one optimum, or a curve of optima, as a table, JSON, files and a plot."""

from __future__ import annotations

import csv
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .cli_files import FILES, IMAGES

if TYPE_CHECKING:
    from .optimise import Optima

TABLES = (".csv",)


def _axis(text: str) -> list[float] | None:
    """``first:last:count`` as equidistant values; None if the text is not of that form."""
    parts = text.split(":")
    if len(parts) == 1:
        return None
    try:
        first, last, count = float(parts[0]), float(parts[1]), int(parts[2])
    except (ValueError, IndexError):
        raise click.UsageError(f"{text!r} is neither a number nor first:last:count") from None
    if len(parts) != 3 or not 2 <= count <= 100_000:
        raise click.UsageError(f"{text!r} is not first:last:count with a count of 2 to 100000")
    return [first + (last - first) * k / (count - 1) for k in range(count)]


def _ranges(items: tuple[str, ...]) -> dict[str, tuple[float, float]]:
    from .cli import _pairs

    out = {}
    for name, text in _pairs(items, "range").items():
        low, colon, high = text.partition(":")
        try:
            out[name] = (float(low), float(high))
        except ValueError:
            raise click.UsageError(f"range {name}={text!r} is not of the form low:high") from None
        if not colon:
            raise click.UsageError(f"range {name}={text!r} is not of the form low:high")
    return out


@click.command()
@click.argument("model")
@click.argument("parameters", nargs=-1, metavar="[NAME=VALUE|NAME=FIRST:LAST:COUNT]...")
@click.option("--over", required=True, help="Comma-separated parameters to optimise, one to three.")
@click.option("--minimise", default="test_error", show_default=True, help="Observable or order parameter.")
@click.option("--range", "ranges", multiple=True, metavar="NAME=LOW:HIGH", help="Range of an optimised parameter.")
@click.option("--option", "options", multiple=True, metavar="NAME=VALUE", help="A choice, such as activation=relu.")
@click.option("--output", "outputs", multiple=True, type=click.Path(),
              help="A .csv table, an HDF5 file (.h5, .hdf5, .nc), or a plot (.png, .svg, .pdf); may be repeated.")
@click.option("--overwrite", is_flag=True, help="Replace files that exist.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def optimise(
    model: str,
    parameters: tuple[str, ...],
    over: str,
    minimise: str,
    ranges: tuple[str, ...],
    options: tuple[str, ...],
    outputs: tuple[str, ...],
    overwrite: bool,
    as_json: bool,
) -> None:
    """Optimal hyper-parameters, by exact derivatives; with FIRST:LAST:COUNT a curve of them.

    \b
    Examples
      replica optimise srf --over reg,eta --minimise test_error alpha=2 alpha0=4
      replica optimise ridge --over reg alpha=0.5:4:8 noise=0.3 --output best.csv
      replica optimise srf --over reg,eta alpha=0.5:4:8 alpha0=4 noise=0.1 --output best.h5 --output best.png
      replica plot best.h5 --output best.pdf
      replica optimise glm --over reg --minimise zero_one alpha=2 noise=0.2 --option loss=logistic --option labels=sign
    """
    from .cli import NOT_CONVERGED, _finite, _model, _pairs, _progress
    from .optimise import Optimiser

    given = _pairs(parameters, "parameter")
    axes = {name: values for name, text in given.items() if (values := _axis(text)) is not None}
    _check_outputs(outputs, overwrite, bool(axes))
    fixed: dict[str, Any] = {name: text for name, text in given.items() if name not in axes}
    optimiser = Optimiser(_model(model, options), [name.strip() for name in over.split(",")], minimise, _ranges(ranges))
    with _progress("optimising") as progress:
        optima = optimiser.curve(axes, progress, **fixed)
    for output in outputs:
        _write(optima, output, overwrite)
    rows = optima.rows
    if as_json:
        plain = [{k: _finite(v) for k, v in row.items()} for row in rows]
        click.echo(json.dumps({"model": model, "over": over.split(","), "minimise": minimise, "optima": plain}, allow_nan=False))
    else:
        click.echo(str(optima))
    failed = sum(not best.good for best in optima.found)
    if failed:
        click.echo(f"replica: {model}: {failed} of {len(rows)} optima were not found; their status says why", err=True)
        sys.exit(NOT_CONVERGED)


def _check_outputs(outputs: tuple[str, ...], overwrite: bool, curve: bool) -> None:
    """Everything that would fail at the end, before any work."""
    for output in outputs:
        suffix = Path(output).suffix.lower()
        if suffix not in TABLES + FILES + IMAGES:
            raise click.UsageError(f"cannot write {output}: its suffix must be one of {', '.join(TABLES + FILES + IMAGES)}")
        if suffix in IMAGES and not curve:
            raise click.UsageError(f"{output}: one optimum is no curve; give a parameter as first:last:count")
        if not Path(output).parent.is_dir():
            raise click.UsageError(f"cannot write {output}: there is no directory {Path(output).parent}")
        if os.path.exists(output) and not overwrite:
            raise click.UsageError(f"{output} exists; --overwrite replaces it")


def _write(optima: Optima, output: str, overwrite: bool) -> None:
    suffix = Path(output).suffix.lower()
    if suffix in TABLES:
        rows = optima.rows
        with open(output, "w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, list(rows[0]))
            table.writeheader()
            table.writerows(rows)
    elif suffix in FILES:
        optima.write(output, overwrite)
    else:
        from .optima_plot import plot_optima
        from .results import open_results

        with tempfile.TemporaryDirectory() as folder:
            optima.write(Path(folder, "optima.h5"))
            with open_results(Path(folder, "optima.h5")) as data:
                plot_optima(data, output)
