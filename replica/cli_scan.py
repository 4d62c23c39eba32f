"""The commands `replica scan` and `replica status`."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import click

from .cli_files import Hdf5

if TYPE_CHECKING:
    from solvers import Result, Scan

#: Failed points listed at the end, and points from which on a scan says beforehand what it will cost.
LISTED, LARGE = 10, 10_000


@click.command()
@click.argument("config", type=click.Path())
@click.option("--output", required=True, type=Hdf5(), help="HDF5 file to write, or to resume.")
@click.option("--workers", type=click.IntRange(min=1), help="Threads; one per core by default.")
@click.option("--scheduler", metavar="ADDRESS", help="dask.distributed scheduler whose workers solve, such as tcp://host:8786.")
@click.option("--overwrite", is_flag=True, help="Start afresh even if the file exists.")
@click.option("--retry", metavar="RESULT[,RESULT]", help="Solve points with these results once more, such as MAX_STEPS,STALLED.")
@click.option("--method", help="With --retry: newton, anderson or damped.")
@click.option("--method-option", "tuning", multiple=True, metavar="NAME=VALUE", help="With --retry: such as damping=0.9.")
def scan(config: str, output: str, workers: int | None, scheduler: str | None, overwrite: bool, retry: str | None,
         method: str | None, tuning: tuple[str, ...]) -> None:
    """Solve a grid of points described in a TOML file; run again to resume.

    \b
    Examples
      replica scan curve.toml --output curve.h5
      replica scan curve.toml --output curve.h5 --workers 4 --overwrite
      replica scan curve.toml --output curve.h5 --retry MAX_STEPS,STALLED --method anderson
      replica scan curve.toml --output curve.h5 --scheduler tcp://node17:8786
    \b
    curve.toml
      model = "srf"
      options = { activation = "tanh", target = "sin" }
      parameters = { alpha0 = 20.0, eta = 3.0 }
      [grid]
      alpha = { linspace = [0.2, 3.0, 15] }
      reg = { logspace = [-4, 1, 6] }
    """
    from solvers import Grid, Result, Scan
    from solvers.outcomes import failures
    from solvers.scan import processors

    from .cli import _deriving, _method, _model, _number, _pairs, _progress
    from .config import read_config
    from .experiments import Experiments

    if scheduler is not None and workers is not None:
        raise click.UsageError("--workers are threads here, a scheduler has its own workers: give one of the two")
    codes = _codes(retry, method, tuning, overwrite)
    settings = read_config(config)
    chosen = _model(settings.model, settings.options)
    options = dict(settings.method)
    name = str(options.pop("name")) if "name" in options else None
    if name is None and chosen.method == "newton":
        name = "ladder"
    with _deriving(chosen):
        task = Scan(chosen, Grid(**settings.axes()), fixed=settings.parameters, method=_method(chosen, name, options))
    wanted = settings.simulation
    experiments = (
        Experiments(chosen, task, wanted.size, wanted.repeats, wanted.seed, {**settings.axes(), **wanted.points})
        if wanted
        else None
    )
    if codes:
        again = _method(chosen, method, {key: _number(text) for key, text in _pairs(tuning, "method option").items()})
        with _progress("retrying") as progress:
            report = task.retry(output, codes, again, workers=workers, progress=progress, scheduler=scheduler)
    else:
        if overwrite or not os.path.exists(output):
            _announce(task, workers, scheduler)
        with _progress("solving") as progress:
            report = task.run(output, workers, overwrite, progress, scheduler)
    if experiments:
        with _progress("simulating") as progress:
            experiments.run(output, overwrite, progress, workers or processors())
    if not (report.computed or report.continued):
        click.echo(f"{output}: {'nothing left to retry' if codes else 'already complete'}, left alone")
    for code, count in report.counts.items():
        click.echo(f"{count:>9} {code.name}" + ("" if code is Result.CONVERGED else f": {code.message}"))
    if report.computed:
        click.echo(f"{output}: {report.computed} points in {report.seconds:.1f} s")
    failed = sum(n for code, n in report.counts.items() if code is not Result.CONVERGED)
    for point in failures(output, LISTED):
        click.echo(f"failed at {', '.join(f'{k}={v:g}' for k, v in point.parameters.items())}: {point.reason}")
    if failed > LISTED:
        click.echo(f"and {failed - LISTED} more: where result is not 0 in {output}")


def _codes(retry: str | None, method: str | None, tuning: tuple[str, ...], overwrite: bool) -> list[Result]:
    """The results to try again, none without ``--retry``."""
    from solvers import Result

    if retry is None:
        if method is not None or tuning:
            raise click.UsageError("--method and --method-option go with --retry; the method of a scan is in its config")
        return []
    known = {code.name: code for code in Result if code not in (Result.CONVERGED, Result.PENDING)}
    names = [name.strip() for name in retry.split(",")]
    for name in names:
        if name not in known:
            raise click.UsageError(f"--retry: {name!r} is not a result that can be retried; they are {', '.join(known)}")
    if method not in ("newton", "anderson", "damped"):
        raise click.UsageError(f"--retry needs --method newton, anderson or damped (got {method!r})")
    if overwrite:
        raise click.UsageError("--retry works on the file that exists: leave out --overwrite")
    return [known[name] for name in names]


def _announce(task: Scan, workers: int | None, scheduler: str | None) -> None:
    """Size and time of a large scan, before it starts."""
    if task.grid.size < LARGE:
        return
    from solvers.estimate import estimate
    from solvers.scan import processors

    cost = estimate(task)
    seconds = cost.processor_seconds
    if scheduler is None:
        threads = workers or processors()
        when = f"about {_duration(seconds / threads)} with {threads} worker{'s' if threads > 1 else ''}"
    else:
        when = f"about {_duration(seconds)} of processor time like this machine's"
    click.echo(f"{cost.points} points: {cost.bytes / 1e6:.3g} MB, {when}", err=True)


def _duration(seconds: float) -> str:
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.2g} {unit}"
    return f"{seconds:.2g} s"


@click.command()
@click.argument("file", type=click.Path())
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def status(file: str, as_json: bool) -> None:
    """Say what a scan file holds and how far it is.

    \b
    Example
      replica status curve.h5
    """
    from solvers.outcomes import status as read_status

    s = read_status(file)
    if as_json:
        fields = {**vars(s), "path": str(s.path), "counts": {c.name: n for c, n in s.counts.items()}}
        click.echo(json.dumps(fields))
        return
    click.echo(f"{s.path}: {s.model} ({s.title}), {s.bytes / 1e6:.1f} MB, created {s.created}")
    click.echo("axes     " + ", ".join(f"{name} ({n})" for name, n in s.axes.items()))
    click.echo(f"method   {', '.join(f'{k} {v}' for k, v in s.method.items())}")
    for code, count in s.counts.items():
        click.echo(f"{count:>9} {code.name}: {code.message}")
    if s.worst_error is not None:
        click.echo(
            f"worst    residual {s.worst_residual:.1e}, error {s.worst_error:.1e}, "
            f"quadrature error {s.worst_quadrature_error:.1e} over the converged points"
        )
    if s.simulation_points:
        click.echo(f"simulations at {s.simulation_points} points")
