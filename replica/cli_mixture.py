"""Printing what `replica solve mixture --input FILE.json` finds."""

from __future__ import annotations

import json
from typing import Any

import click


def print_mixture(report: Any, as_json: bool) -> None:
    """One JSON object, or a line per direction, then coverage and Bayes error."""
    if as_json:
        click.echo(json.dumps(report, allow_nan=False))
        return
    click.echo(f"{report['claim']}: {report['regime']}")
    for feature in report["features"]:
        direction = ", ".join(f"{x:.3f}" for x in feature["direction"][:8]) + (", ..." if len(feature["direction"]) > 8 else "")
        sign = {-1: "bias < 0", 0: "any bias", 1: "bias > 0"}[feature["bias_sign"]]
        click.echo(f"probability {feature['probability']:.4f} +- {feature['error']:.4f}  {sign}  direction ({direction})")
    if not report["features"]:
        click.echo(f"no direction is hit with probability {report['p']:g} at gamma = {report['gamma']:g}")
    for name in ("coverage", "induced_accuracy", "bayes_error"):
        if report[name]["value"] is not None:
            click.echo(f"{name:<16} {report[name]['value']:.6g} +- {report[name]['error']:.1e}")
