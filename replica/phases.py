"""Phases of wide line networks: which power of the width each thing scales with, and what follows.

Every scale is a power of the width d.  Exponents of sums, products and roots of positive terms follow max-plus rules, so the
exponents of the exact expressions are derived from them, not tabulated.

References
----------
.. [1] Y. Xu, L. Ziyin, arXiv:2401.07085; docs/theory/linear_network.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from typing import Any

import numpy as np
import sympy as sp

from .models.schemes import make_scheme

PHASES = ("kernel", "imbalanced kernel", "critical", "rich")
#: Exponents closer to a boundary than this are on it.
ON_THE_BOUNDARY = 1e-9


class PhaseError(ValueError):
    """Exponents that cannot be used, or an expression without a leading power; one line."""


def leading_exponent(expression: Any, exponents: Mapping[Any, Any]) -> Any:
    """Exponent of d of an expression in positive symbols that are powers of d: sums become maxima, products sums.

    Raises
    ------
    PhaseError
        If terms of a sum have negative sign (they could cancel), or something is not a sum, product or rational power.
    """
    e = sp.sympify(expression, strict=True)
    if e in exponents:
        return sp.sympify(exponents[e], strict=True)
    if e.is_number:
        if not e.is_positive:
            raise PhaseError(f"the factor {e} is not positive: terms could cancel, and no exponent is known")
        return sp.S.Zero
    if e.is_Add:
        return sp.Max(*[leading_exponent(term, exponents) for term in e.args])
    if e.is_Mul:
        return sp.Add(*[leading_exponent(factor, exponents) for factor in e.args])
    if e.is_Pow and e.exp.is_Rational:
        return e.exp * leading_exponent(e.base, exponents)
    raise PhaseError(f"{e} has no exponent: only sums, products and rational powers of {', '.join(map(str, exponents))} do")


@dataclass(frozen=True)
class Exponents:
    """Exponents of the width: multiplier, variances of both layers, learning rates of both layers."""

    c_gamma: float
    c_u: float
    c_w: float
    c_eta_u: float = 0.0
    c_eta_w: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not math.isfinite(value):
                raise PhaseError(f"exponent {field.name} = {value!r} is not a finite number")

    @classmethod
    def of_scheme(cls, name: str) -> Exponents:
        """Exponents of a standard parametrisation, learning rates of order one; WeightError for an unknown name."""
        scheme = make_scheme(name)
        return cls(scheme.c_gamma, scheme.c_u, scheme.c_w)


NAMES = tuple(f.name for f in fields(Exponents))


@cache
def derived() -> dict[str, Any]:
    """Exponents of target, kernel, rate, area and output at the start, as max-plus functions of those given.

    ``delta`` is that of the kernel at the start over what the target demands of it.
    """
    d, gamma, var_u, var_w, eta_u, eta_w = sp.symbols("d gamma var_u var_w eta_u eta_w", positive=True)
    given = [sp.Symbol(name, real=True) for name in NAMES]
    powers = {d: sp.S.One, **dict(zip((gamma, var_u, var_w, eta_u, eta_w), given, strict=True))}
    norm_u2, norm_w2 = d * var_u, d * var_w
    kernel = gamma**2 * (eta_u * norm_w2 + eta_w * norm_u2)
    target = 2 * gamma * sp.sqrt(eta_u * eta_w)
    # Weights drawn independently have P = Q to leading order, so the least kernel is the first one.
    rate = sp.sqrt(target**2 + kernel**2)
    found = {
        "target": target,
        "ntk": kernel,
        "rate": rate,
        "area": gamma * sp.sqrt(norm_u2 * norm_w2),
        "out0": gamma * sp.sqrt(d * var_u * var_w),
    }
    out = {name: leading_exponent(e, powers) for name, e in found.items()}
    return {**out, "delta": out["ntk"] - out["target"]}


@dataclass(frozen=True)
class Phase:
    """What a parametrisation does at large width.

    Attributes
    ----------
    regime : str
        "kernel" (the kernel stays), "rich" (it grows without bound) or "critical" (it changes by a factor).
    speed : str
        Relaxation in times of order one: "frozen", "order one" or "unstable".
    imbalanced : bool
        The kernel stays although the smaller layer is rewritten.
    output_diverges : bool
        At the start.
    eta_exponent : float
        What to add to the exponents of both learning rates for a relaxation in times of order one.
    delta, target, ntk, rate, area, out0 : float
        Exponents, see `derived`.
    """

    regime: str
    speed: str
    imbalanced: bool
    output_diverges: bool
    eta_exponent: float
    delta: float
    target: float
    ntk: float
    rate: float
    area: float
    out0: float

    @property
    def name(self) -> str:
        return "imbalanced kernel" if self.imbalanced else self.regime


def classify(exponents: Exponents, tol: float = ON_THE_BOUNDARY) -> Phase:
    """The phase of a parametrisation."""
    at = {sp.Symbol(name, real=True): sp.Float(getattr(exponents, name), 30) for name in NAMES}
    value = {name: float(e.xreplace(at)) for name, e in derived().items()}

    def side(x: float, below: str, on: str, above: str) -> str:
        return on if abs(x) <= tol else (above if x > 0 else below)

    return Phase(
        regime=side(value["delta"], "rich", "critical", "kernel"),
        speed=side(value["rate"], "frozen", "order one", "unstable"),
        imbalanced=value["delta"] > tol and value["area"] <= tol,
        output_diverges=value["out0"] > tol,
        eta_exponent=-value["rate"],
        **value,
    )


def phase_map(
    x: str, y: str, xs: Sequence[float] | np.ndarray, ys: Sequence[float] | np.ndarray, base: Exponents
) -> np.ndarray:
    """Phases over two exponents, the others as in `base`.

    Returns
    -------
    ndarray of int, shape (len(ys), len(xs))
        Indices into `PHASES`.

    Raises
    ------
    PhaseError
        For an unknown or repeated exponent name.
    """
    for name in (x, y):
        if name not in NAMES:
            raise PhaseError(f"unknown exponent {name!r}; they are {', '.join(NAMES)}")
    if x == y:
        raise PhaseError(f"a phase diagram needs two different exponents, not {x} twice")
    grid_x, grid_y = np.meshgrid(np.asarray(xs, dtype=float), np.asarray(ys, dtype=float))
    values = {**{name: np.full(grid_x.shape, float(getattr(base, name))) for name in NAMES}, x: grid_x, y: grid_y}
    arguments = [sp.Symbol(name, real=True) for name in NAMES]
    evaluate = sp.lambdify(arguments, [derived()["delta"], derived()["area"]], "numpy")
    delta, area = (np.broadcast_to(a, grid_x.shape) for a in evaluate(*[values[name] for name in NAMES]))
    kernel = np.where(area <= ON_THE_BOUNDARY, 1, 0)
    return np.where(np.abs(delta) <= ON_THE_BOUNDARY, 2, np.where(delta > 0, kernel, 3))
