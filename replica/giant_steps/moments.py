"""Hermite numbers of an activation and a target, as one giant step needs them; exact where `hermite` and `targets` are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import sympy as sp

from ..activations import Activation, Z, make_activation
from ..hermite import coefficient, slope_moments
from ..targets import Target, make_target
from .forms import erf_scale

Array = np.ndarray

#: A Hermite tensor of a target is zero below this size, relative to sqrt(E g^2).
ZERO = 1e-9


class GiantStepError(ValueError):
    """A question the formulas do not answer; one line with the values and what is allowed."""


@dataclass(frozen=True)
class Moments:
    """What one step knows of activation and target.

    Attributes
    ----------
    c : sequence of float
        c_k = E[He_k(x) s(x)] (no 1/k!), k = 0, ..., l + 1.
    slope, square : float
        E[s'^2] and E[s^2].
    C : sequence of ndarray
        C_k = E[grad^k g], k = 0, ..., l.
    second : float
        E[g^2].
    error : float
        Largest error estimate of all of them; 0 if they are exact.
    """

    c: Sequence[float]
    slope: float
    square: float
    C: Sequence[Array]
    second: float
    error: float = 0.0

    @property
    def r(self) -> int:
        return len(self.C[1])

    @property
    def mean(self) -> float:
        return float(self.C[0])

    @property
    def linear(self) -> float:
        """|C_1|^2."""
        return float(np.sum(np.asarray(self.C[1], dtype=float) ** 2))

    def vanishes(self, k: int) -> bool:
        return float(np.linalg.norm(self.C[k])) <= ZERO * math.sqrt(self.second)


def step_moments(target: Target | str, activation: Activation | str, leap: int = 1) -> Moments:
    """The numbers that one step at n = alpha d^leap depends on, with their error estimates."""
    target, activation = make_target(target), as_activation(activation)
    tensors = [np.array(target.tensor(k), dtype=float) for k in range(leap + 1)]
    second = slope_moments(activation)[1]
    square = coefficient(Activation(f"square of {activation.name}", activation.expression**2), 0)
    c = [coefficient(activation, 0)]
    # Of the slope a network is trained with: for an activation with jumps it is not the derivative of s.
    trained = not has_jumps(activation)
    slope = Activation(f"slope of {activation.name}", activation.derivative(Z))
    for k in range(1, leap + 2):
        c.append(coefficient(activation, k) if trained else coefficient(slope, k - 1))
    energy = float(target.second_moment())
    errors = [x.error for x in (*c, square, second)] + [target.error, target.second_moment_error]
    return Moments([x.value for x in c], second.value, square.value, tensors, energy, max(errors))


def as_activation(activation: Activation | str) -> Activation:
    """The object a name or an expression stands for."""
    return activation if isinstance(activation, Activation) else make_activation(activation)


def has_jumps(activation: Activation) -> bool:
    """Whether the slope a network is trained with misses part of the derivative."""
    derivative, slope = coefficient(activation, 1), slope_moments(activation)[0]
    return abs(derivative.value - slope.value) > 1e-9 + 10 * (derivative.error + slope.error)


def lowest_order(target: Target, above: int = 0) -> int:
    """Lowest k > above with E[grad^k g] != 0."""
    size = math.sqrt(float(target.second_moment()))
    for k in range(above + 1, 9):
        if np.linalg.norm(np.array(target.tensor(k), dtype=float)) > 1e-9 * size:
            return k
    raise GiantStepError(f"target {str(target)!r}: E[grad^k g] = 0 for k from {above + 1} to 8; one step shows nothing of it")


def formula(target: Target | str, activation: Activation | str) -> sp.Expr | None:
    """cos^2 of the gradient with the teacher space at n = alpha d, in alpha and Delta; None unless it is known exactly."""
    target, activation = make_target(target), as_activation(activation)
    alpha, noise = sp.symbols("alpha Delta", positive=True)
    c1, c2 = (coefficient(activation, k).exact for k in (1, 2))
    slope = exact_slope(activation)
    if not target.exact or c1 is None or c2 is None or slope is None or has_jumps(activation):
        return None
    C0, C1, second = target.tensor(0).item(), target.tensor(1), sp.sympify(target.second_moment())
    signal = sp.simplify(c1**2 * sum(x**2 for x in C1))
    if signal == 0:
        return sp.S.Zero
    wasted, batch = sp.simplify((c2 * C0) ** 2 / signal), sp.simplify(slope / signal)
    return alpha / ((1 + wasted) * alpha + sp.simplify(second * batch) + batch * noise)


def exact_slope(activation: Activation) -> sp.Expr | None:
    """E[s'^2] exactly, for erf by its own formula."""
    exact = slope_moments(activation)[1].exact
    if exact is None and erf_scale(activation):
        slope = activation.derivative(Z)
        front = slope.subs(Z, 0)
        rate = -sp.log(slope.subs(Z, 1) / front).expand(force=True)
        rate = sp.nsimplify(rate, rational=True)
        return front**2 / sp.sqrt(1 + 4 * rate)
    return exact
