"""The commands `replica alignment` and `replica giant-steps`."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from .cli_files import Hdf5


@click.command()
@click.argument("target")
@click.argument("parameters", nargs=-1, metavar="NAME=VALUE...")
@click.option("--activation", default="relu", show_default=True, help="A name or an expression in z; write biases into it.")
@click.option("--leap", type=click.IntRange(1, 8), help="l of n = alpha d^l; the lowest order of the target if left out.")
@click.option("--removal", default="none", show_default=True,
              help="What is removed from the labels on the same batch: none, mean, moments, least-squares.")  # fmt: skip
@click.option("--reuse", is_flag=True, help="Also the second step (of the same size), on the same batch and on a fresh one.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def alignment(
    target: str, parameters: tuple[str, ...], activation: str, leap: int | None, removal: str, reuse: bool, as_json: bool
) -> None:
    """Alignment of a neuron with the teacher space after one giant step; TARGET is an expression in z1, z2, ...

    Parameters: alpha (n = alpha d^l; FIRST:LAST:COUNT for a curve), noise, step (t of w + t u, default inf), d (for finite-size
    batch noise), width, and readout_square, readout_mean of a network that is not 0 at the start.

    \b
    Examples
      replica alignment "z1+z1*z2" alpha=2 noise=0.1
      replica alignment "z1+z1*z2" --activation "erf(z/sqrt(2))" alpha=0.5:8:16 step=2 d=1000 --json
      replica alignment "z1*z2" --leap 2 alpha=1
      replica alignment "z1+z1*z2" --leap 2 --removal least-squares alpha=2
      replica alignment "he3(z1)/sqrt(6)" --activation "erf(z/sqrt(2))" --leap 3 --reuse alpha=2 step=2
    """
    from .cli import NOT_CONVERGED, _finite, _pairs
    from .cli_optimise import _axis
    from .giant_steps import problem
    from .giant_steps.alignment import Readout
    from .giant_steps.moments import GiantStepError, formula
    from .targets import make_target

    known = ("alpha", "noise", "step", "d", "width", "readout_square", "readout_mean")
    given: dict[str, Any] = dict(_pairs(parameters, "parameter"))
    for name in given:
        if name not in known:
            raise GiantStepError(f"alignment: unknown parameter {name!r}; its parameters are {', '.join(known)}")
    if "alpha" not in given:
        raise GiantStepError("alignment: parameter alpha (samples per d^leap, in (0, inf]) was not given")
    alphas = _axis(given["alpha"]) or [_real("alpha", given["alpha"])]
    numbers = {name: _real(name, text) for name, text in given.items() if name != "alpha"}
    readout = Readout(numbers.pop("readout_square", 0.0), numbers.pop("readout_mean", 0.0))
    shared = make_target(target)
    second = {}
    if reuse:
        if len(alphas) > 1 or "step" not in numbers:
            raise GiantStepError("alignment: --reuse needs one alpha and a step")
        both = [problem.reuse(shared, activation, alpha=alphas[0], step=numbers["step"], noise=numbers.get("noise", 0.0),
                              reused=reused) for reused in (True, False)]  # fmt: skip
        second = {"reused": both[0], "fresh": both[1]}
        if leap is not None and leap > 1:
            numbers.pop("step")  # of the second step only: at this leap one step is the gradient itself
    shared_options: dict[str, Any] = {"leap": leap, "removal": removal, "readout": readout, **numbers}
    found = [problem.alignment(shared, activation, alpha=a, **shared_options) for a in alphas]
    first = found[0]
    exact = formula(shared, activation) if first.leap == 1 and removal == "none" and readout == Readout() else None
    rows = [
        {
            "alpha": a, "result": _result(x), "cos2": x.cos2, "cos": x.cos, "top_cos2": x.top, "norm": x.norm, "share": x.share,
            "quantiles": {f"{q:g}": value for q, value in x.quantiles.items()}, "error": x.error,
        }
        for a, x in zip(alphas, found, strict=True)
    ]  # fmt: skip
    if as_json:
        out: dict[str, Any] = {
            "target": target, "activation": activation, "leap": first.leap, "removal": removal,
            "parameters": {k: _finite(v) for k, v in numbers.items()}, "claim": first.claim, "regime": first.regime,
            "formula": None if exact is None else str(exact),
        }  # fmt: skip
        plain = [{k: _finite(v) if k != "quantiles" else v for k, v in row.items()} for row in rows]
        out |= plain[0] if len(plain) == 1 else {"points": plain}
        out |= {"second_step": {k: {"overlap": _finite(s.overlap), "error": s.error, "claim": s.claim, "regime": s.regime}
                                for k, s in second.items()}} if second else {}  # fmt: skip
        click.echo(json.dumps(out, allow_nan=False))
    else:
        click.echo(f"{first.claim}: {first.regime}" + ("" if exact is None else f"; gradient: cos2 = {exact}"))
        for a, x in zip(alphas, found, strict=True):
            shown = " ".join(f"{c:.6g}" for c in x.cos)
            more = "".join(f"  {100 * q:g}%: {v:.4g}" for q, v in x.quantiles.items()) or f"  top {x.top:.8g}"
            click.echo(f"alpha {a:<8g} cos2 {x.cos2:.10g}  cos [{shown}]{more}  |u| {x.norm:.6g}")
        click.echo(f"{rows[0]['result']}: largest error {max(x.error for x in found):.1e}")
        for name, step in second.items():
            click.echo(f"second step, {name} batch: overlaps {step.overlap}, error {step.error:.1e}; {step.claim}: {step.regime}")
    if any(row["result"] != "CONVERGED" for row in rows):
        click.echo("replica: alignment: a point did not converge", err=True)
        sys.exit(NOT_CONVERGED)


@click.command("giant-steps")
@click.argument("target")
@click.argument("parameters", nargs=-1, metavar="NAME=VALUE...")
@click.option("--activation", default="relu", show_default=True, help="A name or an expression in z.")
@click.option("--readout", default="1", show_default=True, help="Comma-separated readout weights a_i, one per neuron.")
@click.option("--bias", help="Comma-separated biases, one per neuron.")
@click.option("--loss", default="square", show_default=True, help="square or correlation.")
@click.option("--steps", default=3, show_default=True, help="Giant steps, each on a fresh batch.")
@click.option("--flow", metavar="TIMES", help="One-pass SGD instead, at comma-separated samples per dimension.")
@click.option("--rule", default="auto", show_default=True, help="auto, closed, pairs, product or sobol.")
@click.option("--power", default=15, show_default=True, help="Sobol points are 2^power in each of 8 sets.")
@click.option("--tolerance", default=5e-3, show_default=True, help="Largest quadrature error that counts as converged.")
@click.option("--output", type=Hdf5(), help="HDF5 file for the trajectory, in the layout of scans.")
@click.option("--overwrite", is_flag=True, help="Replace the file if it exists.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def giant_steps(
    target: str, parameters: tuple[str, ...], activation: str, readout: str, bias: str | None, loss: str, steps: int,
    flow: str | None, rule: str, power: int, tolerance: float, output: str | None, overwrite: bool, as_json: bool,
) -> None:  # fmt: skip
    """Order parameters of a small network over several giant steps, or under one-pass SGD; TARGET is an expression in z1, z2, ...

    Parameters: alpha (samples per dimension of every batch, or inf), eta (neuron i moves by eta a_i/sqrt(p)), noise.
    Weights start random: orthonormal, without overlap with the teacher.

    \b
    Examples
      replica giant-steps "z1+z1*z2" alpha=4 eta=1 --steps 3
      replica giant-steps "z1+z1*z2" alpha=4 eta=3 noise=0.1 --activation "erf(z/sqrt(2))" --readout 1,-1,0.5 --json
      replica giant-steps "z1+z1*z2+z1*z2*z3" alpha=inf eta=2 --readout 1,1 --bias 0.5,-0.5 --steps 6 --output steps.h5
      replica giant-steps "erf(z1/sqrt(2))" eta=1 --activation "erf(z/sqrt(2))" --flow 0,1,10
    """
    from .cli import _finite, _pairs, _print_trajectory
    from .giant_steps import problem
    from .giant_steps.files import save
    from .giant_steps.moments import GiantStepError

    given = _pairs(parameters, "parameter")
    for name in given:
        if name not in ("alpha", "eta", "noise"):
            raise GiantStepError(f"giant-steps: unknown parameter {name!r}; its parameters are alpha, eta, noise")
    if flow is not None:
        given.setdefault("alpha", "inf")  # plays no part
    for name in ("alpha", "eta"):
        if name not in given:
            raise GiantStepError(f"giant-steps: parameter {name} was not given")
    numbers = {name: _real(name, text) for name, text in given.items()}
    network = problem.giant_steps(
        target, activation, readout=_list("readout", readout), biases=None if bias is None else _list("bias", bias), loss=loss,
        rule=rule, power=power, **numbers,
    )  # fmt: skip
    times = None if flow is None else _list("flow", flow)
    found = network.run(steps, tolerance) if times is None else network.flow(times, tolerance=tolerance)
    if output is not None:
        save(network, found, output, {"target": target, "activation": activation}, flow=times is not None, overwrite=overwrite)
    claim, regime = network.statement(flow=times is not None)
    about = {"rule": network.rule, "claim": claim, "regime": regime}
    if as_json:
        _print_trajectory(found, {}, True, about)
        return
    for i, t in enumerate(found.times):
        shown = " ".join("-" if x is None else f"{x:.6g}" for x in _finite(found["cos2"][i]))
        click.echo(f"time {t:<8g} cos2 [{shown}]")
    _print_trajectory(found, {}, False, about)


def _result(x: Any) -> str:
    from solvers.result import Result

    if x.cos2 != x.cos2:
        return Result.NONFINITE.name
    return (Result.CONVERGED if x.error <= 1e-3 else Result.QUADRATURE_UNRESOLVED).name


def _real(name: str, text: str) -> float:
    from .giant_steps.moments import GiantStepError

    try:
        return float(text)
    except ValueError:
        raise GiantStepError(f"{name} = {text!r} is not a number") from None


def _list(name: str, text: str) -> list[float]:
    return [_real(name, part.strip()) for part in text.split(",")]
