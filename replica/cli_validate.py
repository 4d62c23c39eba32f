"""The command `replica validate`: the theory beside experiments on the original problem."""

from __future__ import annotations

import inspect
import json
import math
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .cli_files import Hdf5

if TYPE_CHECKING:
    from .model import Model
    from .scan_validation import PointReport, Theory
    from .validation import Settings

#: Exit status if theory and experiments do not agree.
NOT_VALIDATED = 4


@click.command()
@click.argument("what", metavar="MODEL|FILE")
@click.argument("parameters", nargs=-1, metavar="[NAME=VALUE[,VALUE]...]...")
@click.option("--sizes", default="200,400,800", show_default=True, help="Sizes d of the experiments, from 10 to 20000.")
@click.option("--repeats", default=20, show_default=True, help="Independent experiments per point and size, at least 2.")
@click.option("--seed", default=0, show_default=True, help="Experiment j of point i has the stream (seed, i, j, size).")
@click.option("--option", "options", multiple=True, metavar="NAME=VALUE", help="A choice, such as activation=relu.")
@click.option("--at", multiple=True, metavar="AXIS=VALUE[,VALUE]...", help="FILE: the points of the grid nearest to these.")
@click.option("--points", type=int, help="FILE: so many points of the grid, spread evenly.")
@click.option("--sigmas", default=4.0, show_default=True, help="Largest |z| that is agreement (more, for few repeats).")
@click.option("--allowance", default=0.0, show_default=True, help="Known error of the theory, added to the standard error.")
@click.option("--workers", type=click.IntRange(min=1), help="Processes; one per processor by default.")
@click.option("--device", type=click.Choice(["cpu", "gpu"]), help="Of large products and solves; REPLICA_DEVICE, or cpu.")
@click.option("--output", type=Hdf5(), help="MODEL: HDF5 file for theory and experiments.")
@click.option("--overwrite", is_flag=True, help="Replace experiments of other sizes, repeats or seed.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def validate(
    what: str, parameters: tuple[str, ...], sizes: str, repeats: int, seed: int, options: tuple[str, ...],
    at: tuple[str, ...], points: int | None, sigmas: float, allowance: float, workers: int | None, device: str | None,
    output: str | None, overwrite: bool, as_json: bool,
) -> None:  # fmt: skip
    """Check the theory against experiments at several sizes, extrapolated in 1/d.

    MODEL is solved at the parameters given; a parameter with several values makes several points.  FILE is a scan file, to
    which the experiments are added: `replica plot` draws them.  The original problem is simulated (what its size d is, the first
    line says), and convex training is solved to machine precision.  Results do not depend on the number of workers.

    The verdict is `agree`, `disagree`, or `unclear` if the sizes do not lie on a line in 1/d (use larger ones).  One size is
    not extrapolated: it disagrees by 1/d too.  Exit status: 0 agree, 4 disagree or unclear, 2 bad input, 3 no solution.

    \b
    Examples
      replica validate glm alpha=2 reg=0.1 noise=0.2 --option loss=logistic --option labels=sign --json
      replica validate srf alpha=2 alpha0=20 eta=3 reg=0.1 --option bulk=exact --sizes 200,400,800 --repeats 20
      replica validate linear-student alpha=1.5 noise=0.3 time=1,3,10 --output student.h5
      replica plot student.h5 --x time --y test_error --output student.png
      replica validate curve.h5 --at alpha=1,2 --at reg=0.1 --sizes 400,800,1600 --repeats 10
      replica validate curve.h5 --points 6
    """
    from .cli import NOT_CONVERGED, _model, _pairs, _progress
    from .dense import DEVICE
    from .models import MODELS
    from .scan_validation import Theory
    from .scan_validation import validate as run
    from .validation import Settings

    if device:
        os.environ[DEVICE] = device  # processes inherit it
    settings = Settings(_sizes(sizes), repeats, seed)
    if not 0 < sigmas < math.inf:
        raise click.UsageError(f"--sigmas {sigmas:g} is outside its range (0, inf)")
    if not 0 <= allowance < math.inf:
        raise click.UsageError(f"--allowance {allowance:g} is outside its range [0, inf)")
    given = _pairs((*parameters, *at), "parameter")
    with tempfile.TemporaryDirectory() as folder:
        if what in MODELS:
            if at or points is not None:
                raise click.UsageError("--at and --points choose from a scan file; a model takes NAME=VALUE,VALUE")
            model, path = _model(what, options), Path(output or Path(folder, "theory.h5"))
            _solve(model, given, path)
            theory = Theory.read(path)
            chosen = theory.every()
        else:
            theory, model, chosen = _of_file(what, given, options, points, output)
        if unsolved := theory.unsolved(chosen):
            click.echo(f"replica: {theory.model}: no solution at {unsolved}", err=True)
            sys.exit(NOT_CONVERGED)
        with _progress("simulating") as progress:
            reports = run(theory, model, chosen, settings, workers=workers or _processors(), overwrite=overwrite,
                          sigmas=sigmas, allowance=allowance, progress=progress)  # fmt: skip
    _print(model, settings, sigmas, allowance, reports, as_json)


def _sizes(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise click.UsageError(f"--sizes {text!r} is not a list of whole numbers such as 200,400,800") from None


def _values(name: str, text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise click.UsageError(f"{name} = {text!r} is not a number, or several with commas") from None


def _processors() -> int:
    from solvers.scan import processors

    return processors()


def _solve(model: Model, given: dict[str, str], path: Path) -> None:
    """The theory at all combinations, as a scan file; its axes are the parameters with several values, or the first one."""
    from solvers import Grid, Scan

    values = {name: _values(name, text) for name, text in given.items()}
    axes = {name: v for name, v in values.items() if len(v) > 1} or dict(list(values.items())[:1])
    if not axes:
        raise click.UsageError(f"{model.name}: give its parameters as NAME=VALUE")
    fixed = {name: v[0] for name, v in values.items() if name not in axes}
    Scan(model, Grid(**axes), fixed=fixed).run(path, workers=1)


def _of_file(
    path: str, given: dict[str, str], options: tuple[str, ...], points: int | None, output: str | None
) -> tuple[Theory, Model, list[Any]]:
    from .cli import _model
    from .models import MODELS
    from .scan_validation import Theory

    if not Path(path).exists():
        raise click.UsageError(f"{path!r} is neither a file nor a model; the models are {', '.join(MODELS)}")
    if options or output is not None:
        raise click.UsageError("options and the file are those of the scan: leave out --option and --output")
    if (points is None) == (not given):
        raise click.UsageError("choose points of the scan: either --at AXIS=VALUE[,VALUE]..., or --points NUMBER")
    theory = Theory.read(path)
    wanted = {name: _values(name, text) for name, text in given.items()}
    chosen = theory.nearest(wanted) if points is None else theory.spread(points)
    return theory, _model(theory.model, theory.options), chosen


def _print(
    model: Model, settings: Settings, sigmas: float, allowance: float, reports: list[PointReport], as_json: bool
) -> None:
    from .cli import _finite
    from .extrapolation import AGREE, worst

    verdict = worst([report.verdict for report in reports])
    about = (inspect.getdoc(model.simulate) or "").splitlines()[0]
    if as_json:
        plain = {
            "model": model.name, "options": model.options, "experiment": about, "sizes": list(settings.sizes),
            "repeats": settings.repeats, "seed": settings.seed, "sigmas": sigmas, "allowance": allowance,
            "extrapolated": len(settings.sizes) > 1, "points": [_plain(report) for report in reports], "verdict": verdict,
        }  # fmt: skip
        click.echo(json.dumps({name: _finite(value) for name, value in plain.items()}, allow_nan=False))
    else:
        click.echo(f"{model.name}: {about}")
        many = len(settings.sizes) > 1
        how = "extrapolated in 1/d" if many else "not extrapolated: effects of finite size count as disagreement"
        sizes = ",".join(map(str, settings.sizes))
        click.echo(f"d = {sizes}, {how}; {settings.repeats} repeats each, seed {settings.seed}")
        for report in reports:
            click.echo(f"\n{report}")
        click.echo(verdict)
    if verdict != AGREE:
        sys.exit(NOT_VALIDATED)


def _plain(report: PointReport) -> dict[str, Any]:
    from .cli import _finite

    observables = {}
    for name, c in report.comparisons.items():
        numbers = {
            "theory": c.theory, "theory_error": c.theory_error, "simulation": c.line.value, "standard_error": c.line.error,
            "z": c.z, "limit": c.limit, "slope": c.line.slope, "chi2": c.line.chi2, "chance": c.line.chance,
            "means": list(c.means), "standard_errors": list(c.sems),
        }  # fmt: skip
        observables[name] = {**{key: _finite(value) for key, value in numbers.items()}, "verdict": c.verdict}
    parameters = {name: _finite(value) for name, value in report.parameters.items()}
    return {"parameters": parameters, "observables": observables, "verdict": report.verdict}
