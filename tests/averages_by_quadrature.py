"""Averages evaluated by brute force, independently of lowering and of the package's rules: for tests only."""

from __future__ import annotations

import numpy as np
import sympy as sp

from replica.averages import GaussianAverage, outermost

Z = np.linspace(-11, 11, 89)  # trapezoidal with spacing h: error exp(-2 pi a/h) from a pole at height a, 1e-17 for tanh
W = np.exp(-(Z**2) / 2) / np.sqrt(2 * np.pi) * (Z[1] - Z[0])


def numeric(expression, values=None):
    """Number an expression with (not nested) Gaussian averages stands for, by a tensor trapezoidal rule.

    `values` are put in by plain tree replacement, never by the `subs` of the nodes under test.
    """
    expression = sp.sympify(expression).xreplace({s: sp.Float(v, 30) for s, v in (values or {}).items()})
    return float(expression.xreplace({node: sp.Float(_integral(node), 17) for node in outermost(expression)}))


def _integral(node: GaussianAverage) -> float:
    n = len(node.variables)
    root = np.linalg.cholesky(np.array(node.covariance.tolist(), dtype=float))
    z = np.array([a.ravel() for a in np.meshgrid(*[Z] * n, indexing="ij")])
    w = np.prod([a.ravel() for a in np.meshgrid(*[W] * n, indexing="ij")], axis=0)
    f = sp.lambdify(tuple(node.variables), node.f, "numpy")
    return float(w @ np.broadcast_to(f(*(root @ z)), w.shape))


def slope(f, x, h=2e-3):
    """Central difference of fourth order: error about 1e-12 in size and as much from rounding."""
    return (8 * (f(x + h) - f(x - h)) - (f(x + 2 * h) - f(x - 2 * h))) / (12 * h)
