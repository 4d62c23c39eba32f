"""Linear network on a line: from the loss to the closed form, every step with its certificate.

The chain: loss -> gradient flow (differentiated) -> one common scalar, so a linear flow in a clock -> invariants (linear
algebra) -> Riccati equation for P -> closed form in rho.  It is carried out for two neurons, where the invariants are those
of any number: pairs of neurons are all there is to a sum of squares.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import sympy as sp

from .dynamics import Derivation
from .flow import Certificate, Flow, certify

gamma, A, B, c, t = sp.symbols("gamma A B c_loss time", real=True)
kappa = sp.Symbol("kappa", positive=True)
P0, Q0, S, D, rho = sp.symbols("P Q S D rho", real=True)


@cache
def derive() -> Derivation:
    """Flow, invariants, closed form and certificates of the line network."""
    width = 2
    u, w = sp.symbols(f"u1:{width + 1}", real=True), sp.symbols(f"w1:{width + 1}", real=True)
    a, b = sp.symbols("sqrt_eta_u sqrt_eta_w", positive=True)  # roots of the rates, so that everything is rational
    F = gamma * sum(x * y for x, y in zip(u, w, strict=True))
    flow = Flow.gradient(c * (A * F**2 - 2 * B * F), {**dict.fromkeys(u, a**2), **dict.fromkeys(w, b**2)})
    invariants = flow.invariants(2)
    certificates = [flow.certify_invariant(str(e), e) for e in invariants]
    area = sp.expand((u[0] ** 2 + u[1] ** 2) * (w[0] ** 2 + w[1] ** 2) - (u[0] * w[0] + u[1] * w[1]) ** 2)
    certificates.append(flow.certify_invariant("|u|^2 |w|^2 - (u.w)^2", area))
    certificates += _clock(flow, u, w, a, b, F)
    certificates += _reduction(flow, u, w, a, b, F)
    closed, shown = _closed_form()
    note = "Two neurons stand for any number; D^2 = S^2 + 4 P Q and rho = 2 D/(exp(D t) - 1)."
    return Derivation(flow, invariants, closed, [*certificates, *shown], note)


def _clock(flow: Flow, u: Any, w: Any, a: Any, b: Any, F: Any) -> list[Certificate]:
    """In the clock s, s' = the common scalar, every neuron is a hyperbolic rotation."""
    s = sp.Symbol("s", real=True)
    scalar = 2 * c * gamma * (B - A * F)
    linear = Flow({x: sp.cancel(f / scalar) for x, f in flow.field.items()})
    turned = {}
    for x, y in zip(u, w, strict=True):
        turned[x] = x * sp.cosh(a * b * s) + a / b * y * sp.sinh(a * b * s)
        turned[y] = y * sp.cosh(a * b * s) + b / a * x * sp.sinh(a * b * s)
    residual = [sp.diff(e, s) - linear.field[x].subs(turned, simultaneous=True) for x, e in turned.items()]
    return [
        certify("the field is the scalar 2 c gamma (B - A F) times a linear one", sp.Matrix(
            [linear.field[x] - a**2 * y for x, y in zip(u, w, strict=True)])),
        certify("u(s) = u cosh(kappa s) + sqrt(eta_u/eta_w) w sinh(kappa s), and alike w(s)", sp.Matrix(
            [r.rewrite(sp.exp) for r in residual])),
    ]  # fmt: skip


def _reduction(flow: Flow, u: Any, w: Any, a: Any, b: Any, F: Any) -> list[Certificate]:
    """The whole network is one Riccati equation: P' = P (S - P + Q), PQ conserved, in the units of the code."""
    quarter = c * A * gamma**2
    P = quarter * sum((b * x + a * y) ** 2 for x, y in zip(u, w, strict=True))
    Q = quarter * sum((b * x - a * y) ** 2 for x, y in zip(u, w, strict=True))
    drive = 4 * c * gamma * a * b * B
    return [
        certify("P' = P (S - P + Q)", flow.derivative(P) - P * (drive - P + Q)),
        certify("Q' = -Q (S - P + Q)", flow.derivative(Q) + Q * (drive - P + Q)),
        certify("P - Q = 4 c A gamma kappa F", P - Q - 4 * c * A * gamma * a * b * F),
        certify(
            "kernel = (P + Q)/(2 c A)",
            (P + Q) / (2 * c * A) - gamma**2 * sum(a**2 * y**2 + b**2 * x**2 for x, y in zip(u, w, strict=True)),
        ),
    ]


def _closed_form() -> tuple[dict[Any, Any], list[Certificate]]:
    """P(t) = P (n + rho)/(m + rho), rho = 2 D/(exp(D t) - 1)."""
    p, q = sp.symbols("P_t Q_t", real=True)
    n, m = D + S + 2 * Q0, D - S + 2 * P0
    square = [D**2 - S**2 - 4 * P0 * Q0]
    ratio = (n + rho) / (m + rho)
    closed = {p: P0 * ratio, q: Q0 / ratio}
    riccati = Flow({p: p * (S - p + q), q: -q * (S - p + q)})
    pace = {rho: -rho * (rho + 2 * D) / 2}
    gap0, gap = P0 - Q0 - S, closed[p] - closed[q] - S
    left = rho * (rho + 2 * D) / ((n + rho) * (m + rho))
    done = (n * m + 2 * (P0 + Q0) * rho) / ((n + rho) * (m + rho))
    spelled = 2 * D / (sp.exp(D * t) - 1)
    f = sp.Symbol("f", real=True)
    root = ((1 - f) * rho**2 + (2 * D - f * (n + m)) * rho) - f * n * m
    return closed, [
        certify("rho = 2 D/(exp(D t) - 1) obeys rho' = -rho (rho + 2 D)/2",
                sp.diff(spelled, t) + spelled * (spelled + 2 * D) / 2),
        riccati.certify_solution("P(t) = P (n + rho)/(m + rho), Q(t) = Q (m + rho)/(n + rho)", closed, pace, square),
        certify("rho = inf at time 0: there P(t) = P", sp.limit(ratio, rho, sp.oo) - 1),
        certify("gap(t) = gap(0) rho (rho + 2 D)/((n + rho)(m + rho))", gap - gap0 * left, square),
        certify("F(t) = F(0) left + F* done, with left + done = 1", left + done - 1, square),
        certify("left = f is a quadratic equation for rho",
                (left - f) * (n + rho) * (m + rho) - root),
    ]  # fmt: skip
