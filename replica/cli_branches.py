"""The commands `replica branches` and `replica boundary`: hysteresis loops and phase boundaries."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np

from .cli_files import FILES, IMAGES
from .cli_optimise import _axis


def _starts(uninformed: tuple[str, ...], informed: tuple[str, ...]) -> dict[str, dict[str, float]]:
    from .cli import _pairs

    out: dict[str, dict[str, float]] = {}
    for branch, items in (("uninformed", uninformed), ("informed", informed)):
        for name, text in _pairs(items, branch).items():
            try:
                out.setdefault(branch, {})[name] = float(text)
            except ValueError:
                raise click.UsageError(f"{branch} {name}={text!r} is not a number") from None
    return out


def _check_outputs(outputs: tuple[str, ...], overwrite: bool) -> None:
    """Everything that would fail at the end, before any work."""
    for output in outputs:
        if Path(output).suffix.lower() not in FILES + IMAGES:
            raise click.UsageError(f"cannot write {output}: its suffix must be one of {', '.join(FILES + IMAGES)}")
        if not Path(output).parent.is_dir():
            raise click.UsageError(f"cannot write {output}: there is no directory {Path(output).parent}")
        if os.path.exists(output) and not overwrite:
            raise click.UsageError(f"{output} exists; --overwrite replaces it")


def _write(result: Any, outputs: tuple[str, ...], overwrite: bool, draw: Callable[[Any, str], object]) -> None:
    """The files asked for; an image is drawn from a file, as `replica plot` would."""
    from .results import open_results

    for output in outputs:
        if Path(output).suffix.lower() in FILES:
            result.write(output, overwrite)
            continue
        with tempfile.TemporaryDirectory() as folder:
            result.write(Path(folder, "result.h5"))
            with open_results(Path(folder, "result.h5")) as data:
                draw(data, output)


def _method(name: str | None, tuning: tuple[str, ...]) -> Any:
    """The method asked for; None for the model's own."""
    from solvers import make_method

    from .cli import _number, _pairs

    if name is None and tuning:
        raise click.UsageError("--method-option needs --method")
    return make_method(name, **{k: _number(v) for k, v in _pairs(tuning, "method option").items()}) if name else None


_shared = [
    click.option("--option", "options", multiple=True, metavar="NAME=VALUE", help="A choice, such as channel=sign."),
    click.option("--uninformed", multiple=True, metavar="NAME=VALUE", help="Where the uninformed start begins."),
    click.option("--informed", multiple=True, metavar="NAME=VALUE", help="Where the informed start begins."),
    click.option("--method", help="newton, anderson or damped; the model's own if left out."),
    click.option("--method-option", "tuning", multiple=True, metavar="NAME=VALUE", help="Such as max_steps=100000."),
    click.option("--output", "outputs", multiple=True, type=click.Path(),
                 help="An HDF5 file (.h5, .hdf5, .nc) or a plot (.png, .svg, .pdf); may be repeated."),
    click.option("--overwrite", is_flag=True, help="Replace files that exist."),
    click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout."),
]  # fmt: skip


def _with_shared(command: Any) -> Any:
    for option in reversed(_shared):
        command = option(command)
    return command


@click.command()
@click.argument("model")
@click.argument("parameters", nargs=-1, metavar="[NAME=VALUE]...")
@click.option("--along", required=True, metavar="NAME=FIRST:LAST:COUNT", help="Parameter to follow, and its values.")
@click.option("--show", "shown", help="Variable in the table and the plot; the first order parameter if left out.")
@click.option("--resolution", default=1e-5, show_default=True, help="Jumps are located to this fraction of the range.")
@_with_shared
def branches(
    model: str, parameters: tuple[str, ...], along: str, shown: str | None, resolution: float, options: tuple[str, ...],
    uninformed: tuple[str, ...], informed: tuple[str, ...], method: str | None, tuning: tuple[str, ...],
    outputs: tuple[str, ...], overwrite: bool, as_json: bool,
) -> None:  # fmt: skip
    """Follow solutions along a parameter, forth from the uninformed start and back from the informed one.

    \b
    Examples
      replica branches bayes-optimal noise=0.003 --along alpha=0.8:1.8:51 --output loop.h5 --output loop.png
      replica branches bayes-optimal density=0.4 noise=1e-8 --along alpha=0.3:0.9:31 --option prior=sparse --option channel=linear
      replica plot loop.h5 --y zero_one --output loop.pdf
    """
    from solvers.branches import BRANCHES, follow

    from .branches_plot import plot_branches
    from .cli import NOT_CONVERGED, _finite, _model, _pairs

    name, equals, text = along.partition("=")
    values = _axis(text)
    if not equals or values is None:
        raise click.UsageError(f"--along {along!r} is not of the form name=first:last:count")
    _check_outputs(outputs, overwrite)
    given: dict[str, Any] = dict(_pairs(parameters, "parameter"))
    found = follow(_model(model, options), name, values, given, method=_method(method, tuning),
                   starts=_starts(uninformed, informed), resolution=resolution)  # fmt: skip
    scalars = [q.name for q in found.problem.values.quantities if not q.shape]
    shown = shown or scalars[0]
    if shown not in scalars:
        raise click.UsageError(f"unknown variable {shown!r}; {model} has {', '.join(scalars)}")
    _write(found, outputs, overwrite, lambda data, output: plot_branches(data, output, shown))
    columns = {what: found.values(what) for what in (shown, "free_entropy")}
    best = ["none" if b < 0 else (BRANCHES[b] if two else "one") for b, two in zip(found.best, found.distinct, strict=True)]
    if as_json:
        both = {branch: {what: _finite(v[k]) for what, v in columns.items()} for k, branch in enumerate(BRANCHES)}
        jumps = [{"branch": j.branch, name: j.at, "width": j.width} for j in found.jumps]
        click.echo(json.dumps({"model": model, "along": name, name: _finite(found.grid), "branches": both, "best": best,
                               "jumps": jumps}, allow_nan=False))  # fmt: skip
    else:
        click.echo("  ".join(f"{h:>16}" for h in [name, *(what for what in columns for _ in BRANCHES), "best"]))
        for i, value in enumerate(found.grid):
            numbers = [v[k, i] for v in columns.values() for k in range(len(BRANCHES))]
            click.echo("  ".join([f"{value:16.6g}", *(f"{x:16.8g}" for x in numbers), f"{best[i]:>16}"]))
        for j in found.jumps:
            click.echo(f"{j.branch} ends at {name} = {j.at:.8g} +- {j.width / 2:.1e}")
    failed = int(sum((b.result != 0).sum() for b in found.found.values()))
    if failed:
        total = 2 * len(found.grid)
        click.echo(f"replica: {model}: {failed} of {total} points did not converge; their result says why", err=True)
        sys.exit(NOT_CONVERGED)


@click.command()
@click.argument("model")
@click.argument("parameters", nargs=-1, metavar="[NAME=VALUE|NAME=FIRST:LAST:COUNT]...")
@click.option("--along", required=True, metavar="NAME=LOW:HIGH", help="Parameter to search, and its interval.")
@click.option("--of", metavar="NAME=LEVEL", help="Observable and level; equal free entropy of both starts if left out.")
@click.option("--start", default="uninformed", show_default=True, help="Start of the solution whose observable is meant.")
@click.option("--resolution", default=1e-6, show_default=True, help="Located to this fraction of the interval.")
@_with_shared
def boundary(
    model: str, parameters: tuple[str, ...], along: str, of: str | None, start: str, resolution: float, options: tuple[str, ...],
    uninformed: tuple[str, ...], informed: tuple[str, ...], method: str | None, tuning: tuple[str, ...],
    outputs: tuple[str, ...], overwrite: bool, as_json: bool,
) -> None:  # fmt: skip
    """Find a phase boundary by bisection; with FIRST:LAST:COUNT a curve of them.

    \b
    Examples
      replica boundary bayes-optimal noise=1e-12 --along alpha=1:1.6
      replica boundary bayes-optimal noise=1e-12 --along alpha=1:1.8 --of v=0.05
      replica boundary bayes-optimal noise=0:0.004:5 --along alpha=1:2 --of v=0.05 --output line.h5 --output line.png
    """
    from solvers.boundary import Boundary, boundary_curve

    from .branches_plot import plot_boundary
    from .cli import NOT_CONVERGED, _finite, _model, _pairs, _progress
    from .cli_optimise import _ranges

    ((name, ends),) = _ranges((along,)).items()
    given = _pairs(parameters, "parameter")
    axes = {key: values for key, text in given.items() if (values := _axis(text)) is not None}
    fixed: dict[str, Any] = {key: text for key, text in given.items() if key not in axes}
    _check_outputs(outputs, overwrite)
    if any(Path(output).suffix.lower() in IMAGES for output in outputs) and not 1 <= len(axes) <= 2:
        raise click.UsageError("a boundary is drawn over one or two axes; give a parameter as first:last:count")
    what, level = None, 0.0
    if of is not None:
        what, _, text = of.partition("=")
        try:
            level = float(text)
        except ValueError:
            raise click.UsageError(f"--of {of!r} is not of the form name=level") from None
    with _progress("searching") as progress:
        curve = boundary_curve(
            _model(model, options), name, ends, axes, fixed, progress, of=what, level=level, start=start, resolution=resolution,
            method=_method(method, tuning), starts=_starts(uninformed, informed),
        )  # fmt: skip
    _write(curve, outputs, overwrite, plot_boundary)
    rows = curve.rows
    if as_json:
        plain = [{k: _finite(v) for k, v in row.items()} for row in rows]
        click.echo(json.dumps({"model": model, "along": name, "of": of, "boundaries": plain}, allow_nan=False))
    else:
        click.echo("  ".join(f"{key:>18}" for key in rows[0]))
        for row in rows:
            click.echo("  ".join(f"{v:18.10g}" if isinstance(v, float | np.floating) else f"{v:>18}" for v in row.values()))
    reasons = [str(b) for b in curve.found if not isinstance(b, Boundary)]
    if reasons:
        click.echo(f"replica: {len(reasons)} of {len(rows)} boundaries were not found; the first: {reasons[0]}", err=True)
        sys.exit(NOT_CONVERGED)
