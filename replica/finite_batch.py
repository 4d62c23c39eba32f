"""The layer between weights and data when its rows keep the memory of a finite batch.

After the step, given the batch X with residuals e, rows are Gaussian around the spike with covariance H/d,

    H = (1 + a M)^2 + b N,   M = X^T diag(e) X/n0,   N = X^T diag(e^2) X/n0 .

Everything the layer contributes is a function of ``s = ratio V2 V1_hat``: log det(1 + s H)/d, and the resolvent 1/(1 + s H)
between the spike and the teacher.  Both are blocks of the inverse of

    [[1 + s b N,  i root (1 + a M)],  [i root (1 + a M),  1]],   root = sqrt(s),

whose deterministic equivalent ``[[G1, -i G12], [-i G12, G2]]`` is the stationary point of

    log((1 + Gh1)(1 + Gh2) + (root + Gh12)^2) - G1 Gh1 - 2 G12 Gh12 - G2 Gh2 + E log(1 + D/alpha0) alpha0,
    D = s (b G1 + (a^2/alpha0) (G1 G2 + G12^2)) e^2 + 2 a root G12 e .

G and the derivative R of it along the forces are order parameters like others: nothing is solved by hand.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import sympy as sp


@dataclass(frozen=True)
class Batch:
    """What the layer needs to know of the step.

    Attributes
    ----------
    average : callable
        E over teacher field and labels of an expression in `field` and `residual`.
    field, residual : symbols
    a, b : expressions
        Of the covariance H.
    inverse : expression
        1/alpha0.
    gamma : expression
        Overlap of the spike with the teacher; rho below is ``sqrt(1 - gamma^2)``.
    length : expression
        Norm of the spike before scaling, |X^T e/n0|.
    inverse_rho : expression
        1/rho; 0 without batch or step, when the rest of the teacher is just one more direction.
    idle : expression
        1 in that case, otherwise 0.
    """

    average: Callable[[Any], Any]
    field: Any
    residual: Any
    a: Any
    b: Any
    inverse: Any
    gamma: Any
    length: Any
    inverse_rho: Any
    idle: Any


def trace_term(batch: Batch, s: Any, change: Any, g: Any, g_change: Any, g_hat: Any, g_hat_change: Any) -> Any:
    """Twice the layer's trace part: the derivative of the functional along `change` of s, and of G and its conjugates.

    Couplings of G and conjugates are not included.

    Parameters
    ----------
    s, change : expression
    g, g_change, g_hat, g_hat_change : sequence of 3 expressions
        (G1, G12, G2), their derivatives along the forces, and the conjugates of both.
    """
    names = sp.symbols("s G1 G12 G2 Gh1 Gh12 Gh2", positive=True)
    moves = dict(zip(names, (change, *g_change, *g_hat_change), strict=True))
    at = dict(zip(names, (s, *g, *g_hat), strict=True))
    t, *xs = names
    hats = xs[3:]
    determinant = (1 + hats[0]) * (1 + hats[2]) + (sp.sqrt(t) + hats[1]) ** 2
    energy = _energy(batch, t, *xs[:3])
    traced = sp.Add(*[sp.diff(sp.log(determinant), n) * dn for n, dn in moves.items()])
    sampled = sp.Add(*[sp.diff(energy, n) * dn for n, dn in moves.items()]) / (1 + batch.inverse * energy)
    return traced.xreplace(at) + batch.average(sampled.xreplace(at))


def _energy(batch: Batch, s: Any, g1: Any, g12: Any, g2: Any) -> Any:
    """D of the module's docstring."""
    e = batch.residual
    square = batch.b * g1 + batch.a**2 * batch.inverse * (g1 * g2 + g12**2)
    return s * square * e**2 + 2 * batch.a * sp.sqrt(s) * g12 * e


def response(batch: Batch, s: Any, g: Any) -> Any:
    """Response, per V2 ratio, of overlaps: rows with the spike, rows with the rest of the teacher, initial rows with the spike.

    Returns
    -------
    Matrix, shape (3, 3)
        Symmetric; the pull of the data on the direction of the spike is taken out.
    """
    g1, g12, g2 = g
    a, b, inverse, e, field, root = batch.a, batch.b, batch.inverse, batch.residual, batch.field, sp.sqrt(s)
    weight = 1 / (1 + inverse * _energy(batch, s, g1, g12, g2))

    def mean(f: Any) -> Any:
        return batch.average(f * weight)

    # (1 + C G/alpha0)^-1, averaged with e*field, and with e^2 G/alpha0.  In real form: off-diagonal entries are -i times these.
    along, across = s * b * e**2, root * a * e
    left = sp.Matrix([
        [mean(e * field * (1 + inverse * across * g12)), inverse * mean(e * field * (across * g2 - along * g12))],
        [inverse * mean(e * field * across * g1), mean(e * field * (1 + inverse * (along * g1 + across * g12)))],
    ])  # fmt: skip
    own = _times(_real(g1, g12, g2), sp.Matrix([
        [inverse * mean(e**2 * (1 + inverse * across * g12)), inverse**2 * mean(e**2 * (across * g2 - along * g12))],
        [inverse**2 * mean(e**2 * across * g1), inverse * mean(e**2 * (1 + inverse * (along * g1 + across * g12)))],
    ]))  # fmt: skip
    # The same as G along the teacher, whose field weighs the samples.
    h1 = mean(field**2 * s * e**2 * (b + a**2 * inverse * g2))
    h12 = mean(field**2 * (across + s * a**2 * e**2 * inverse * g12))
    h2 = mean(field**2 * s * a**2 * e**2 * inverse * g1)
    determinant = (1 + h1) * (1 + h2) + (root + h12) ** 2
    teacher = _real(1 + h2, root + h12, 1 + h1) / determinant
    mixed = _times(teacher, left)
    spike = own + _times(left.T, mixed)
    gamma, across_rho = batch.gamma, batch.inverse_rho
    ww, wv, vv = teacher, mixed / batch.length, spike / batch.length**2
    j_vv = vv[0, 0]
    j_vz = (wv[0, 0] - gamma * j_vv) * across_rho
    j_zz = (ww[0, 0] - 2 * gamma * wv[0, 0] + gamma**2 * j_vv) * across_rho**2 + batch.idle * g1
    # (1 + a M)/(1 + s H) between the spike and itself, and the rest of the teacher.
    k_vv = vv[1, 0] / root
    k_vz = (wv[1, 0] - gamma * vv[1, 0]) * across_rho / root
    full = sp.Matrix([
        [(1 - j_vv) / s, -j_vz / s, k_vv],
        [-j_vz / s, (1 - j_zz) / s, k_vz],
        [k_vv, k_vz, vv[1, 1]],
    ])  # fmt: skip
    through = full[:, 0]
    return full + through * through.T * s / j_vv


def _real(first: Any, off: Any, second: Any) -> Any:
    """A symmetric matrix with imaginary off-diagonal entries -i off, as the real matrix of the moduli."""
    return sp.Matrix([[first, off], [off, second]])


def _times(a: Any, b: Any) -> Any:
    """Product of two such matrices, in the same form: two off-diagonal factors make -1."""
    return sp.Matrix([
        [a[0, 0] * b[0, 0] - a[0, 1] * b[1, 0], a[0, 0] * b[0, 1] + a[0, 1] * b[1, 1]],
        [a[1, 0] * b[0, 0] + a[1, 1] * b[1, 0], a[1, 1] * b[1, 1] - a[1, 0] * b[0, 1]],
    ])  # fmt: skip
