"""The command `replica refine`: an adaptive scan, its file and its figure."""

from __future__ import annotations

import json
from typing import Any

import click

from .cli_files import Hdf5


@click.command()
@click.argument("model")
@click.argument("parameters", nargs=-1, metavar="[NAME=VALUE|NAME=[log:]LOW:HIGH]...")
@click.option("--observable", required=True, help="Scalar value to resolve, such as test_error.")
@click.option("--points", default=100, show_default=True, help="Points, rounded up to whole batches.")
@click.option("--batch", default=8, show_default=True, help="Points chosen together; which ones depends on it.")
@click.option("--option", "options", multiple=True, metavar="NAME=VALUE", help="A choice, such as activation=relu.")
@click.option("--method", help="As for replica solve.")
@click.option("--method-option", "tuning", multiple=True, metavar="NAME=VALUE", help="Such as rtol=1e-12.")
@click.option("--output", required=True, type=Hdf5(), help="HDF5 file to write, or to go on with.")
@click.option("--overwrite", is_flag=True, help="Start afresh even if the file exists.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def refine(
    model: str, parameters: tuple[str, ...], observable: str, points: int, batch: int, options: tuple[str, ...],
    method: str | None, tuning: tuple[str, ...], output: str, overwrite: bool, as_json: bool,
) -> None:  # fmt: skip
    """Solve points where an observable bends, over one or two parameters; run again, also with more points, to go on.

    \b
    Examples
      replica refine bayes-optimal noise=0.003 alpha=0.8:1.8 --observable v --points 80 --output fine.h5
      replica refine ridge alpha=0.2:4 reg=log:1e-4:10 noise=0.3 --observable test_error --points 400 --output fine.h5
      replica plot fine.h5 --output fine.png
    """
    from solvers import Result
    from solvers.refine import Refinement

    from .cli import _model, _pairs, _progress
    from .cli_branches import _method
    from .cli_optimise import _ranges

    given = _pairs(parameters, "parameter")
    moving = {name: text for name, text in given.items() if ":" in text}
    logarithmic = tuple(name for name, text in moving.items() if text.startswith("log:"))
    ranges = _ranges(tuple(f"{name}={text.removeprefix('log:')}" for name, text in moving.items()))
    fixed: dict[str, Any] = {name: text for name, text in given.items() if name not in moving}
    task = Refinement(_model(model, options), observable, ranges, fixed, logarithmic=logarithmic, batch=batch,
                      method=_method(method, tuning))  # fmt: skip
    with _progress("refining") as progress:
        report = task.run(output, points, overwrite, progress)
    if as_json:
        counts = {code.name: count for code, count in report.counts.items()}
        click.echo(json.dumps({"path": output, "computed": report.computed, "skipped": report.skipped, "counts": counts}))
        return
    for code, count in report.counts.items():
        click.echo(f"{count:>9} {code.name}" + ("" if code is Result.CONVERGED else f": {code.message}"))
    click.echo(f"{output}: {report.computed} points in {report.seconds:.1f} s, {report.skipped} were there")
