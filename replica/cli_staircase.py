"""The command `replica staircase`."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from .plateaux import Plateaux
    from .staircase import Staircase


@click.command()
@click.argument("target")
@click.option("--activation", help="Name or expression in z: what this network cannot see is left out.")
@click.option("--bias", is_flag=True, help="The network has generic non-zero biases.")
@click.option("--noise", default=0.0, show_default=True, help="Variance of the label noise, added to the plateaux.")
@click.option("--order", type=int, help="Hermite tensors up to here, for a target that is no polynomial.")
@click.option("--threshold", type=float, help="Squared couplings below this share of E[g^2] are zero (floating arithmetic).")
@click.option("--exact", is_flag=True, help="Refuse a target whose Hermite tensors are not exact.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def staircase(
    target: str,
    activation: str | None,
    bias: bool,
    noise: float,
    order: int | None,
    threshold: float | None,
    exact: bool,
    as_json: bool,
) -> None:
    """Directions of a target in z1, z2, .. that large gradient steps learn, in order, and the plateaux of the error.

    \b
    Examples
      replica staircase "z1 + z1*z2 + z1*z2*z3"
      replica staircase "z1 + z1*z2 + z1*z2*z3" --activation relu --json
      replica staircase "z1 + z1*z2 + z1*z2*z3" --activation relu --bias
      replica staircase "sign(z1*z2) + tanh(z3)" --order 6
      replica staircase "sqrt(2)/2*z1 + sign(z2*z3)" --exact
    """
    from .activations import make_activation
    from .plateaux import plateaux
    from .staircase import staircase as find
    from .targets import make_target

    if bias and activation is None:
        raise click.UsageError("--bias says something about a network: give its --activation too")
    chosen = None if activation is None else make_activation(activation)
    wanted = make_target(target, exact=exact)
    free = find(wanted, order=order, threshold=threshold)
    errors = plateaux(free, noise=noise)
    network = None if chosen is None else find(wanted, chosen, bias=bias, order=order, threshold=threshold)
    filtered = None if network is None else plateaux(network, noise=noise)
    if as_json:
        click.echo(json.dumps(_plain(free, errors, network, filtered), allow_nan=False))
        return
    click.echo(f"target          {wanted}, r = {wanted.r}; {free.arithmetic}, {_scope(free)}")
    if free.limits:
        click.echo(f"limits          {free.limits}")
    for k, directions in free.direction_leaps:
        click.echo(f"leap index {k}    {_vectors(directions)}")
    _print(free, errors)
    if network is not None and filtered is not None:
        name = f"{network.activation} {'with' if bias else 'without'} biases"
        click.echo(f"\nthrough {name}: invisible degrees {', '.join(map(str, network.invisible)) or 'none'}")
        _print(network, filtered)
        click.echo(f"never learned   {_vectors(network.unreached) if network.unreached else 'nothing'}")


def _scope(found: Staircase) -> str:
    return "all degrees" if found.complete else f"degrees up to {found.order}"


def _vectors(directions: Any) -> str:
    return "  ".join("(" + ", ".join(f"{x:.6g}" if x.is_Float else str(x) for x in v) + ")" for v in directions)


def _print(found: Staircase, errors: Plateaux) -> None:
    for number, stage in enumerate(found.stages, 1):
        click.echo(f"stage {number:<9} leap {stage.leap}, dim {stage.dim} [{stage.claim}]: {_vectors(stage.directions)}")
        click.echo(f"                {stage.samples}")
    longest = max(found.stages, key=lambda stage: stage.leap, default=None)
    click.echo(f"regime          {'nothing is learned' if longest is None else longest.regime}")
    click.echo(f"leap complexity {found.leap_complexity}")
    if not math.isnan(found.threshold):
        click.echo(f"threshold       {found.threshold:.1e}; smallest coupling kept {_extreme(found, 'kept')}, "
                   f"largest dropped {_extreme(found, 'dropped')}")  # fmt: skip
    click.echo(f"plateaux        {errors.claim}: {errors.regime}")
    click.echo("                rows: dimension learned, columns: kappa")
    click.echo("           dim  " + "".join(f"{kappa:>14}" for kappa in errors.degrees))
    for i, dim in enumerate(errors.dims):
        click.echo(f"{dim:>14}  " + "".join(f"{_entry(errors, i, j):>14}" for j in range(len(errors.degrees))))


def _entry(errors: Plateaux, i: int, j: int) -> str:
    if errors.exact is not None and errors.exact[i][j].is_Rational:
        return str(errors.exact[i][j])
    bound = "<=" if errors.remainder[i, j] > 1e-6 * abs(errors.values[i, j]) else ""
    return f"{bound}{errors.values[i, j]:.6g}"


def _extreme(found: Staircase, name: str) -> str:
    values = [getattr(stage, name) for stage in found.stages]
    return f"{(min if name == 'kept' else max)(values):.1e}" if values else "none"


def _plain(free: Staircase, errors: Plateaux, network: Staircase | None, filtered: Plateaux | None) -> dict[str, Any]:
    out = {
        "target": str(free.target),
        "r": free.target.r,
        **_sequence(free),
        "leap_index": free.leap_index,
        "direction_leaps": [{"leap": k, **_directions(new)} for k, new in free.direction_leaps],
        "arithmetic": free.arithmetic,
        "order": free.order,
        "complete": free.complete,
        "threshold": _number(free.threshold),
        "limits": free.limits,
        "plateaux": _errors(errors),
    }
    if network is not None and filtered is not None:
        out["network"] = {
            "activation": network.activation,
            "bias": network.bias,
            "invisible_degrees": list(network.invisible),
            **_sequence(network),
            "blocked": _directions(network.unreached),
            "plateaux": _errors(filtered),
        }
    return out


def _sequence(found: Staircase) -> dict[str, Any]:
    bases = [found.basis(i + 1) for i in range(len(found.stages))]
    return {
        "dims": found.dims,
        "leaps": found.leaps,
        "leap_complexity": found.leap_complexity,
        "subspaces": [_directions(basis)["directions"] for basis in bases],
        "subspaces_exact": [_directions(basis)["exact"] for basis in bases],
        "claims": [stage.claim for stage in found.stages],
        "regimes": [stage.regime for stage in found.stages],
        "samples": [stage.samples for stage in found.stages],
        "kept": [_number(stage.kept) for stage in found.stages],
        "dropped": [_number(stage.dropped) for stage in found.stages],
    }


def _directions(vectors: Any) -> dict[str, Any]:
    """Floats, and the exact numbers as text (null in floating arithmetic)."""
    exact = not any(x.is_Float for v in vectors for x in v)
    return {
        "directions": [[float(x) for x in v] for v in vectors],
        "exact": [[str(x) for x in v] for v in vectors] if exact else None,
    }


def _errors(errors: Plateaux) -> dict[str, Any]:
    exact = None if errors.exact is None else [[str(x) for x in row] for row in errors.exact]
    return {
        "dims": list(errors.dims),
        "degrees": list(errors.degrees),
        "values": errors.values.tolist(),
        "exact": exact,
        "remainder": errors.remainder.tolist(),
        "error": errors.error,
        "claim": errors.claim,
        "regime": errors.regime,
    }


def _number(x: float) -> float | None:
    return None if math.isnan(x) else x
