"""Command line: builds the objects of the Python API, and nothing else.

Exit status: 0 done, 2 bad input (one line on stderr), 3 a point did not converge, 4 theory and experiments do not agree, 130
interrupted.  Heavy imports happen inside the commands, so ``--help`` is quick.
"""

from __future__ import annotations

import difflib
import json
import math
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from .cli_branches import boundary, branches
from .cli_explore import explore, export
from .cli_giant_steps import alignment, giant_steps
from .cli_mixture import print_mixture
from .cli_optimise import optimise
from .cli_refine import refine
from .cli_scan import scan, status
from .cli_spectrum import spectrum
from .cli_staircase import staircase
from .cli_validate import validate

if TYPE_CHECKING:
    from .model import Model

BAD_INPUT, NOT_CONVERGED, INTERRUPTED = 2, 3, 130


def _pairs(items: tuple[str, ...], what: str) -> dict[str, str]:
    """``("a=1", "b=2")`` as a dictionary."""
    out: dict[str, str] = {}
    for item in items:
        name, equals, value = item.partition("=")
        if not equals or not name:
            raise click.UsageError(f"{what} {item!r} is not of the form name=value")
        if name in out:
            raise click.UsageError(f"{what} {name} is given twice")
        out[name] = value
    return out


def _model(name: str, options: tuple[str, ...] | dict[str, str]) -> Model:
    from .models import MODELS

    if name not in MODELS:
        close = difflib.get_close_matches(name.lower(), MODELS, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise click.UsageError(f"unknown model {name!r}{hint} the models are {', '.join(MODELS)}".replace("' the", "'; the"))
    return MODELS[name](**(options if isinstance(options, dict) else _pairs(options, "option")))


def _number(text: str) -> Any:
    """A method option: whole number, number, or the text itself (which the method then refuses by name)."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


@contextmanager
def _progress(label: str) -> Iterator[Callable[[int, int], None]]:
    """A bar with ETA, on a terminal, once two seconds have passed."""
    from tqdm import tqdm

    with tqdm(desc=label, unit="point", delay=2, disable=None, file=sys.stderr) as bar:

        def update(done: int, total: int) -> None:
            if bar.total is None:
                bar.reset(total)
                bar.initial = done
            bar.update(done - bar.n)

        yield update


@contextmanager
def _deriving(model: Model) -> Iterator[None]:
    """Says on a terminal what is going on if it takes more than two seconds, before there is anything to count."""

    def say() -> None:
        if sys.stderr.isatty():
            click.echo(f"deriving and compiling {model.name}; later processes compile nothing ...", err=True)

    timer = threading.Timer(2.0, say)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="replica-solvers", prog_name="replica")
def cli() -> None:
    """From one symbolic free entropy to certified learning curves.

    \b
    Examples
      replica models
      replica show srf
      replica solve srf alpha=2 alpha0=20 eta=3 reg=0.1 --option target=sin
      replica scan curve.toml --output curve.h5
      replica plot curve.h5 --x alpha --y test_error --hue reg --output curve.png
    """


@cli.command()
def models() -> None:
    """List the models."""
    from .models import MODELS

    for name, model in MODELS.items():
        click.echo(f"{name:<22} {model.summary()}")


@cli.command()
@click.argument("model")
@click.option("--option", "options", multiple=True, metavar="NAME=VALUE", help="A choice that changes a formula.")
@click.option("--latex", is_flag=True, help="Markdown with LaTeX equations instead of plain text.")
@click.option("--kernel", is_flag=True, help="The generated code instead of the equations.")
def show(model: str, options: tuple[str, ...], latex: bool, kernel: bool) -> None:
    """Print a model's free entropy and the equations derived from it.

    \b
    Examples
      replica show srf
      replica show ridge --latex
      replica show srf --kernel --option activation=relu
    """
    chosen = _model(model, options)
    if kernel:
        texts = [text for name, text in chosen.compile().sources.items() if name.endswith("_source")]
        click.echo("\n\n".join(texts) or f"{model}: closed integrals, no generated code")
        return
    from .show import as_markdown, as_text

    click.echo(as_markdown(chosen) if latex else as_text(chosen), nl=False)


@cli.command()
@click.argument("model")
@click.argument("parameters", nargs=-1, metavar="[NAME=VALUE]...")
@click.option("--option", "options", multiple=True, metavar="NAME=VALUE", help="A choice, such as activation=relu.")
@click.option("--method", help="newton (default), anderson or damped; integrate for models in time; evaluate for integrals.")
@click.option("--method-option", "tuning", multiple=True, metavar="NAME=VALUE", help="Such as rtol=1e-12 or damping=0.9.")
@click.option("--times", help="Comma-separated times of a trajectory, such as 0,0.5,1,inf.")
@click.option("--input", "file", type=click.Path(), help="JSON file with arrays: initial weights, data, matrices.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def solve(
    model: str,
    parameters: tuple[str, ...],
    options: tuple[str, ...],
    method: str | None,
    tuning: tuple[str, ...],
    times: str | None,
    file: str | None,
    as_json: bool,
) -> None:
    """Solve one point, or one trajectory.

    \b
    Examples
      replica solve ridge alpha=1.5 reg=0.1 noise=0.25
      replica solve srf alpha=2 beta=1 alpha0=20 eta=3 reg=0.1 --option activation=tanh --option target=sin --json
      replica solve srf alpha=2 alpha0=inf eta=1 reg=0.01 --option "target=z + 0.5*z**2" --method damped
      replica solve line-network norm_u0=0.01 norm_w0=0.02 --times 0,1,2,inf
      replica solve line-network --input weights.json --json
      replica solve mixture --input clusters.json --json
      replica solve dictionary D=100 k=5 rho=0.5 batch=1000
    \b
    weights.json
      {"u": [0.1, -0.2], "w": [0.3, 0.1], "gamma": 1, "eta_u": 1, "eta_w": 1,
       "A": 1, "B": 0.5, "C": null, "times": [0, 1, 2, "inf"]}
    \b
    clusters.json
      {"means": [[4, 0], [-4, 0], [0, 4]], "labels": [1, 1, -1], "weights": [0.3, 0.3, 0.4], "bias": 0.5}
    """
    from solvers import solve as solve_point
    from solvers.solve import describe

    values = _pairs(parameters, "parameter")
    if file is not None:
        if values or options or times:
            raise click.UsageError("everything comes from the file: leave out parameters, options and times")
        _solve_file(model, file, as_json)
        return
    chosen = _model(model, options)
    method_options = {name: _number(text) for name, text in _pairs(tuning, "method option").items()}
    chosen_method = _method(chosen, method, method_options)
    if times is not None:
        _solve_trajectory(chosen, [_number(text.strip()) for text in times.split(",")], values, chosen_method, as_json)
        return
    with _deriving(chosen):
        solution = solve_point(chosen, method=chosen_method, **values)  # type: ignore[arg-type]
    if as_json:
        click.echo(
            json.dumps(
                {
                    "model": solution.model,
                    "options": chosen.options,
                    **chosen.statement(),
                    "parameters": {k: _finite(v) for k, v in solution.parameters.items()},
                    "result": solution.result.name,
                    "residual": _finite(solution.residual),
                    "error": _finite(solution.error),
                    "quadrature_error": _finite(solution.quadrature_error),
                    "contraction": _finite(solution.contraction),
                    "steps": solution.steps,
                    "nodes": solution.nodes,
                    "values": {k: _finite(v) for k, v in solution.values.items()},
                },
                allow_nan=False,
            )
        )
    else:
        if stated := chosen.statement():
            click.echo(f"{stated['claim']}: {stated['regime']}")
        click.echo(str(solution))
    if not solution.converged:
        click.echo(f"replica: {describe(solution)}", err=True)
        sys.exit(NOT_CONVERGED)


def _method(chosen: Any, name: str | None, options: dict[str, Any]) -> Any:
    """The method asked for, or the model's own."""
    from solvers import make_method

    return make_method(name or chosen.method, **options)


def _solve_file(model: str, file: str, as_json: bool) -> None:
    from .inputs import READERS, read_balanced

    if model not in READERS:
        raise click.UsageError(f"{model} takes no --input; those that do are {', '.join(READERS)}")
    if model == "balanced-network":
        network, times = read_balanced(file)
        _print_trajectory(network.solve(times), {}, as_json, {})
        return
    problem: Any = READERS[model](file)
    if model == "mixture":
        return print_mixture(problem, as_json)
    _solve_trajectory(problem.model, problem.times, problem.parameters, None, as_json)


def _solve_trajectory(chosen: Any, times: Any, parameters: Any, method: Any, as_json: bool) -> None:
    from solvers import solve_trajectory

    from .models.line_network import ClosedForm, mechanisms

    trajectory = solve_trajectory(chosen, times, method=method, **parameters)
    scalars: dict[str, Any] = {}
    if isinstance(chosen, ClosedForm):  # what the initial condition decides is the same at all times
        scalars = {name: trajectory.values.pop(name)[0] for name in ClosedForm.timeless()}
        scalars["mechanisms"] = mechanisms(scalars)
        scalars["stuck"] = bool(scalars["stuck"])
    _print_trajectory(trajectory, scalars, as_json, chosen.statement())


def _print_trajectory(trajectory: Any, scalars: dict[str, Any], as_json: bool, about: dict[str, str]) -> None:
    """`scalars` are values that are the same at all times, `about` is text."""
    from solvers import Result

    codes = [Result(int(code)) for code in trajectory.result]
    if as_json:
        plain = {name: _finite(value) for name, value in scalars.items()}
        fields = ("residual", "error", "quadrature_error")
        click.echo(
            json.dumps(
                {
                    "model": trajectory.model,
                    "parameters": {k: _finite(v) for k, v in trajectory.parameters.items()},
                    "times": _finite(trajectory.times),
                    "result": [code.name for code in codes],
                    **{name: _finite(getattr(trajectory, name)) for name in fields},
                    "values": {k: _finite(v) for k, v in trajectory.values.items()} | plain,
                    **plain,
                    **about,
                },
                allow_nan=False,
            )
        )
    else:
        if about:
            click.echo("; ".join(f"{name}: {text}" for name, text in about.items()))
        names = [name for name, v in trajectory.values.items() if v.ndim == 1]
        click.echo("  ".join(f"{name:>14}" for name in ["time", *names]))
        for i, t in enumerate(trajectory.times):
            click.echo("  ".join(f"{x:14.8g}" for x in [t, *(trajectory.values[name][i] for name in names)]))
        for name, value in scalars.items():
            click.echo(f"{name:<14} {', '.join(value) if isinstance(value, list) else value}")
        click.echo(f"largest error {max(trajectory.error):.1e}, quadrature error {max(trajectory.quadrature_error):.1e}")
    failed = [f"time {t:g}: {c.name}: {c.message}" for t, c in zip(trajectory.times, codes, strict=True) if c != 0]
    if failed:
        click.echo(f"replica: {trajectory.model}: {failed[0]}", err=True)
        sys.exit(NOT_CONVERGED)


def _finite(value: Any) -> Any:
    """JSON has no nan and no inf: null and a word."""
    if hasattr(value, "tolist"):
        return _finite(value.tolist())
    if isinstance(value, list):
        return [_finite(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else ("inf" if value > 0 else "-inf")
    return value


@cli.command()
@click.argument("file", type=click.Path())
@click.option("--x", help="Axis along x.")
@click.option("--y", help="Variable along y; with --z, the axis along y.")
@click.option("--hue", help="Axis told apart by colour.")
@click.option("--z", help="Variable shown as colour: a phase diagram over the axes x and y.")
@click.option("--select", "choices", multiple=True, metavar="AXIS=VALUE", help="Fix an axis that is neither x nor hue.")
@click.option("--title", help="Title of the figure.")
@click.option("--output", required=True, type=click.Path(), help="png, svg or pdf.")
def plot(file: str, x: str | None, y: str | None, hue: str | None, z: str | None, choices: tuple[str, ...],
         title: str | None, output: str) -> None:
    """Plot a scan file: curves with simulations beside them, a phase diagram; without --x what other commands wrote.

    \b
    Examples
      replica plot curve.h5 --x alpha --y test_error --hue reg --output curve.png
      replica plot curve.h5 --x alpha --y test_error --select reg=0.1 --output curve.pdf
      replica plot diagram.h5 --x alpha --y reg --z test_error --output diagram.png
      replica plot best.h5 --output best.png
      replica plot loop.h5 --y zero_one --output loop.png
    """
    from .branches_plot import plot_boundary, plot_branches
    from .optima_plot import plot_optima
    from .plotting import plot_curve, plot_heatmap
    from .refine_plot import plot_refined
    from .results import open_results, open_simulation

    select = {}
    for name, text in _pairs(choices, "select").items():
        number = _number(text)
        if not isinstance(number, int | float):
            raise click.UsageError(f"--select {name} = {text!r} is not a number")
        select[name] = float(number)
    with open_results(file) as data:
        if y is None and z is None and "optimise" in data.attrs:
            plot_optima(data, output, x=x, hue=hue, select=select, title=title)
        elif x is None and "branches" in data.attrs:
            plot_branches(data, output, y, title=title)
        elif x is None and "refine" in data.attrs:
            plot_refined(data, output, y, title=title)
        elif x is None and "boundary" in data.attrs:
            plot_boundary(data, output, title=title)
        elif x is None or y is None:
            raise click.UsageError("a plot needs --x and --y; only files of optimise, branches, boundary and refine do without")
        elif z is not None:
            plot_heatmap(data, x, y, z, output=output, select=select, title=title)
        else:
            simulation = open_simulation(file)
            plot_curve(data, x, y, hue=hue, output=output, select=select, simulation=simulation, title=title)
    click.echo(output)


@cli.command()
@click.argument("name", required=False)
@click.option("--list", "listing", is_flag=True, help="Say what the figures show.")
@click.option("--output", type=click.Path(), help="png, svg or pdf; NAME.png if left out.")
def figure(name: str | None, listing: bool, output: str | None) -> None:
    """Draw one of the figures that ship with the package; an HDF5 table of its numbers is put beside it.

    \b
    Examples
      replica figure --list
      replica figure mechanisms --output mechanisms.pdf
    """
    from .figures import FIGURES, draw

    if listing or name is None:
        for known, function in FIGURES.items():
            click.echo(f"{known:<16} {(function.__doc__ or '').splitlines()[0]}")
        return
    for path in draw(name, output or f"{name}.png"):
        click.echo(path)


@cli.command()
@click.argument("exponents", nargs=-1, metavar="[NAME=VALUE]...")
@click.option("--scheme", default="xavier", show_default=True, help="Standard parametrisation to start from.")
@click.option("--x", help="Exponent along x of a phase diagram.")
@click.option("--y", help="Exponent along y.")
@click.option("--output", type=click.Path(), help="png, svg or pdf of the phase diagram.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def phases(
    exponents: tuple[str, ...], scheme: str, x: str | None, y: str | None, output: str | None, as_json: bool
) -> None:
    """Phase of a wide linear network whose scales are powers of its width; a diagram in any two exponents.

    \b
    Examples
      replica phases --scheme ntk
      replica phases c_gamma=-0.5 c_u=0 c_w=0 c_eta_u=0.5 --json
      replica phases --scheme xavier --x c_u --y c_w --output phases.png
    """
    from .phases import NAMES, Exponents, PhaseError, classify

    given = {name: _number(text) for name, text in _pairs(exponents, "exponent").items()}
    for name in given:
        if name not in NAMES:
            raise PhaseError(f"unknown exponent {name!r}; they are {', '.join(NAMES)}")
    chosen = Exponents(**{**vars(Exponents.of_scheme(scheme)), **given})
    if x or y or output:
        from .figures import phase_diagram

        if not (x and y and output):
            raise click.UsageError("a phase diagram needs --x, --y and --output")
        click.echo(phase_diagram(x, y, chosen, output))
        return
    phase = classify(chosen)
    fields = {**vars(chosen), "phase": phase.name, **vars(phase)}
    if as_json:
        click.echo(json.dumps(fields))
        return
    for name, value in fields.items():
        click.echo(f"{name:<16} {value}")


cli.add_command(alignment)
cli.add_command(boundary)
cli.add_command(branches)
cli.add_command(explore)
cli.add_command(export)
cli.add_command(giant_steps)
cli.add_command(optimise)
cli.add_command(scan)
cli.add_command(refine)
cli.add_command(spectrum)
cli.add_command(staircase)
cli.add_command(status)
cli.add_command(validate)


def main(*models: type[Model]) -> None:
    """Entry point: errors of the user in one line, never a traceback.

    Parameters
    ----------
    *models
        Models that are not in the package; every command knows them by name.  A file that ends in
        ``if __name__ == "__main__": main(MyModel)`` is a command line of its own.
    """
    try:
        _register(models)
        code = cli.main(standalone_mode=False)
    except (click.exceptions.Abort, KeyboardInterrupt):  # click turns the latter into the former, while a command runs
        click.echo("replica: interrupted; run the same command again to go on", err=True)
        code = INTERRUPTED
    except click.ClickException as error:
        click.echo(f"replica: {' '.join(error.format_message().split())}", err=True)
        code = BAD_INPUT
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except (ValueError, OSError, RuntimeError) as error:
        if not _is_ours(error):
            raise
        click.echo(f"replica: {' '.join(str(error).split())}", err=True)
        code = BAD_INPUT
    sys.exit(code if isinstance(code, int) else 0)


def _register(models: tuple[type[Model], ...]) -> None:
    if not models:  # the table of models takes seconds to import
        return
    from .models import MODELS

    for model in models:
        if MODELS.setdefault(model.name, model) is not model:
            raise click.UsageError(f"{model.__name__}: there is a model of the name {model.name!r} already; choose another name")


def _is_ours(error: BaseException) -> bool:
    """Errors this package raises about input; anything else is a bug and deserves its traceback."""
    return type(error).__module__.split(".")[0] in ("replica", "solvers") or isinstance(error, OSError)
