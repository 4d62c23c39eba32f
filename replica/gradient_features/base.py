"""What the problems of gradient features share: the shape of weights and biases, a value with its error, the error of a user."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np


class ProblemError(ValueError):
    """A problem, direction or cone that does not exist; one line naming the parameter, its value and its range."""


class Value(NamedTuple):
    """A number or array, and an estimate of its largest absolute error."""

    value: Any
    error: Any


class Problem(Protocol):
    """Labelled inputs: y = +-1, x in R^dimension.

    The simplified gradient is ``G(w, b) = E[y x 1(w.x > b)]``: at a network that is zero, the first gradient of the weights of
    ``a relu(w.x - b)`` is ``-a G`` for hinge, correlation and (halved) logistic loss.
    """

    @property
    def dimension(self) -> int: ...

    def gradient(self, w: Any, b: Any = 0.0) -> Value:
        """G for every row of `w`, shape (neurons, d), and the largest error of a component by row."""
        ...

    def second_moment(self, w: Any, b: Any = 0.0) -> Value:
        """``E[x x^T 1(w.x > b)]``, shape (neurons, d, d): a batch of n has noise of covariance (this - G G^T)/n."""
        ...

    def sample(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Inputs of shape (n, d) and labels of shape (n,)."""
        ...


def neurons(w: Any, b: Any, dimension: int) -> tuple[np.ndarray, np.ndarray]:
    """Weights of shape (neurons, d) and biases of shape (neurons,); ProblemError if they do not fit."""
    rows = np.ascontiguousarray(np.atleast_2d(np.asarray(w, dtype=float)))
    if rows.ndim != 2 or rows.shape[1] != dimension:
        raise ProblemError(f"w has shape {np.shape(w)}; it needs {dimension} components per neuron")
    biases = np.ascontiguousarray(np.broadcast_to(np.asarray(b, dtype=float), rows.shape[:1]))
    if not (np.isfinite(rows).all() and np.isfinite(biases).all()):
        raise ProblemError("w and b must be finite")
    if not rows.any(axis=1).all():
        raise ProblemError("w = 0 has no direction: every row of w needs a component that is not 0")
    return rows, biases


def check(name: str, value: Any, low: float, high: float, *, whole: bool = False, closed: str = "") -> Any:
    """A number in a range, or ProblemError; `closed` holds the ends that belong to it, ``"["`` and ``"]"``."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ProblemError(f"{name} = {value!r} is not a number") from None
    above = number >= low if "[" in closed else number > low
    below = number <= high if "]" in closed else number < high
    if not (above and below):
        left, right = "[" if "[" in closed else "(", "]" if "]" in closed else ")"
        raise ProblemError(f"{name} = {number:g} is outside its range {left}{low:g}, {high:g}{right}")
    if whole and number != math.floor(number):
        raise ProblemError(f"{name} = {number:g} is not a whole number")
    return int(number) if whole else number


def orthonormal_columns(dictionary: Any, dimension: int) -> np.ndarray | None:
    """A checked dictionary of shape (d, d) with orthonormal columns; None stands for the identity."""
    if dictionary is None:
        return None
    M = np.asarray(dictionary, dtype=float)
    if M.shape != (dimension, dimension):
        raise ProblemError(f"dictionary has shape {M.shape}; it needs ({dimension}, {dimension})")
    if not np.isfinite(M).all() or np.abs(M.T @ M - np.eye(dimension)).max() > 1e-8:
        raise ProblemError("the columns of dictionary are not orthonormal to 1e-8")
    return M


def subset(relevant: Any, dimension: int) -> np.ndarray:
    """Distinct positions in [0, dimension), or the first k if a number k is given."""
    if isinstance(relevant, Sequence | np.ndarray):
        positions = np.array([check("relevant", i, 0, dimension - 1, whole=True, closed="[]") for i in relevant], dtype=int)
        if len(set(positions.tolist())) < len(positions):
            raise ProblemError(f"relevant = {positions.tolist()} names a coordinate twice")
    else:
        positions = np.arange(check("k", relevant, 1, dimension, whole=True, closed="[]"))
    if not 1 <= len(positions) <= dimension:
        raise ProblemError(f"k = {len(positions)} is outside its range [1, {dimension}] of relevant coordinates")
    return positions
