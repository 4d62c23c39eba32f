"""Averages that one step of a finite network needs, over the Gaussian fields it sees.

With ``X = (lam, z) ~ N(0, Omega)``, lam = W x (p student fields) and z = W* x (r teacher fields), and the residual
``res = y - f`` (square loss) or ``y`` (correlation loss):

    G_i = gradient form of the drift: E[res s'(lam_i + b_i) X] = Omega G_i        shape (p, p + r)
    N_ij = E[res^2 s'(lam_i + b_i) s'(lam_j + b_j)], label noise included           shape (p, p)
    risk = E[(g - f)^2]

Rules here work for any activation and target: a product rule in few dimensions, scrambled Sobol points in many.  Both act in
whitened coordinates of the rank of Omega, so fields that are linear combinations of others cost nothing.  Closed forms for erf
networks are in `erf_averages`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.special import ndtri

from ..activations import Activation
from .moments import GiantStepError

Array = np.ndarray

LOSSES = ("square", "correlation")
#: Eigenvalues of Omega below this, relative to the largest, are directions that do not exist.
RANK = 1e-11
#: Points evaluated together.
BLOCK = 1 << 15


@dataclass(frozen=True)
class Student:
    """A two-layer network ``f(x) = p^{-1/2} sum_i a_i s(<w_i, x> + b_i)`` and the loss its first layer is trained with.

    Attributes
    ----------
    activation : Activation
    readout, biases : ndarray, shape (p,)
    loss : str
        ``square``, (y - f)^2/2, or ``correlation``, -y f.
    """

    activation: Activation
    readout: Array
    biases: Array
    loss: str = "square"

    def __post_init__(self) -> None:
        if self.loss not in LOSSES:
            raise GiantStepError(f"student: unknown loss {self.loss!r}; it is one of {', '.join(LOSSES)}")
        if self.readout.ndim != 1 or not self.readout.size or self.biases.shape != self.readout.shape:
            raise GiantStepError(
                f"student: readout of shape {self.readout.shape} and biases of shape {self.biases.shape}; "
                "both need one number per neuron"
            )
        if not (np.isfinite(self.readout).all() and np.isfinite(self.biases).all()):
            raise GiantStepError("student: readout and biases must be finite")

    @property
    def width(self) -> int:
        return self.readout.size

    @property
    def outer(self) -> Array:
        """a_i / sqrt(p)."""
        return self.readout / math.sqrt(self.width)


class Teacher(Protocol):
    """What the rules need of a target."""

    @property
    def r(self) -> int: ...

    def numeric(self, z: Array) -> Array: ...


@dataclass(frozen=True)
class Averages:
    """G, N and the risk, as in the header of this file."""

    G: Array
    N: Array
    risk: float


Rule = Callable[[Array], Averages]
"""From Omega to averages."""


def factor(omega: Array) -> Array:
    """L with ``L L^T = omega`` and as many columns as omega has rank.

    Raises
    ------
    GiantStepError
        If omega is not finite, or has a negative eigenvalue beyond rounding.
    """
    if not np.isfinite(omega).all():
        raise GiantStepError("recursion: the overlaps are not finite")
    values, vectors = np.linalg.eigh(omega)
    if values[0] < -1e-8 * values[-1]:
        raise GiantStepError(
            f"recursion: M and Q are not overlaps of any vectors: their Gram matrix has the eigenvalue {values[0]:.3g}"
        )
    keep = values > RANK * values[-1]
    return vectors[:, keep] * np.sqrt(values[keep])


def by_points(student: Student, teacher: Teacher, noise: float, points: Callable[[int], Iterator[tuple[Array, Array]]]) -> Rule:
    """Averages from nodes and weights for N(0, I) in the dimension of the rank."""
    s, slope = student.activation.numeric(), student.activation.numeric_derivative()
    p, square = student.width, student.loss == "square"

    def rule(omega: Array) -> Averages:
        L = factor(omega)
        moment, N, risk = np.zeros((p, L.shape[1])), np.zeros((p, p)), 0.0
        for xi, weight in points(L.shape[1]):
            X = xi @ L.T
            g = np.asarray(teacher.numeric(X[:, p:]), dtype=float)
            field = X[:, :p] + student.biases
            gap = g - s(field) @ student.outer
            rest = gap if square else g
            tilt = slope(field)
            moment += np.einsum("n,ni,nk->ik", weight * rest, tilt, xi, optimize=True)
            N += (tilt * (weight * (rest**2 + noise))[:, None]).T @ tilt
            risk += float(weight @ gap**2)
        # E[res s' X] = L moment = Omega G
        return Averages(moment @ np.linalg.pinv(L), N, risk)

    return rule


def product_rule(student: Student, teacher: Teacher, noise: float, step: float, reach: float = 9.5) -> Rule:
    """Trapezoidal rule in every dimension; for smooth activations and targets, rank at most 4."""
    line = np.arange(-reach, reach + step / 2, step)
    weight = np.exp(-(line**2) / 2)
    weight = weight / weight.sum()

    def points(dimension: int) -> Iterator[tuple[Array, Array]]:
        total = line.size**dimension
        for first in range(0, total, BLOCK):
            index = np.unravel_index(np.arange(first, min(first + BLOCK, total)), (line.size,) * dimension)
            yield np.stack([line[i] for i in index], axis=1), np.prod([weight[i] for i in index], axis=0)

    return by_points(student, teacher, noise, points)


def sobol_rule(student: Student, teacher: Teacher, noise: float, power: int, seed: int) -> Rule:
    """2^power scrambled Sobol points; rules with different seeds are independent."""
    made: dict[int, Array] = {}

    def points(dimension: int) -> Iterator[tuple[Array, Array]]:
        if dimension not in made:
            from scipy.stats import qmc  # slow to import
            unit = qmc.Sobol(dimension, rng=np.random.default_rng([seed, dimension])).random_base2(power)
            made[dimension] = ndtri(np.clip(unit, 1e-16, 1 - 1e-16))
        normal = made[dimension]
        for first in range(0, len(normal), BLOCK):
            block = normal[first : first + BLOCK]
            yield block, np.full(len(block), 1 / len(normal))

    return by_points(student, teacher, noise, points)
