"""The command `replica spectrum`."""

from __future__ import annotations

import json
from typing import Any

import click


@click.command()
@click.argument("parameters", nargs=-1, metavar="[NAME=VALUE]...")
@click.option("--option", "options", multiple=True, metavar="NAME=VALUE", help="A choice, such as activation=relu.")
@click.option("--points", default=400, show_default=True, help="Points per interval of the support.")
@click.option("--output", type=click.Path(), help="Image of the density.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout, density included.")
def spectrum(
    parameters: tuple[str, ...], options: tuple[str, ...], points: int, output: str | None, as_json: bool
) -> None:
    """Bulk and outliers of the feature covariance of spiked random features (srf).

    \b
    Examples
      replica spectrum alpha=2 alpha0=4 eta=2 --output spectrum.png
      replica spectrum alpha=0.5 beta=2 alpha0=inf eta=1 --option activation=relu --json
    """
    from .cli import _finite, _model, _pairs
    from .spectrum import SpikedRandomFeatures, draw
    from .spectrum import spectrum as find

    given: dict[str, Any] = dict(_pairs(parameters, "parameter"))
    model = _model("srf", options)
    assert isinstance(model, SpikedRandomFeatures)
    found = find(model, points=points, **given)
    if output is not None:
        draw(found, output)
    numbers = {
        "atom": found.atom, "mass": found.mass, "mean": found.mean, "residual": found.residual,
        "mean_outliers": found.mean_outliers, "spike_outliers": found.spike_outliers, "edges": [list(e) for e in found.edges],
    }  # fmt: skip
    if as_json:
        arrays = {"x": _finite(found.x), "density": _finite(found.density)}
        click.echo(json.dumps({"model": "srf", "parameters": {k: _finite(v) for k, v in found.parameters.items()},
                               **numbers, **arrays}, allow_nan=False))  # fmt: skip
        return
    for name, value in numbers.items():
        click.echo(f"{name:<15} {value}")
