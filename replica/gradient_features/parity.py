"""Sparse parities of uniform signs over an orthonormal dictionary: gradient, batch noise, leading order at large D.

References
----------
.. [1] Z. Shi, J. Wei, Y. Liang, arXiv:2310.12408 (gradient features), arXiv:2206.01717 (dictionaries).
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any

import numpy as np
from scipy.special import eval_hermitenorm, ndtr

from solvers.half_spaces import dictionary_moments, parity_gradients

from .base import ProblemError, Value, check, neurons, orthonormal_columns, subset
from .half_sums import by_bit, products, reached, sums

#: Up to this many coordinates the exact sum is quicker than the integral.
EXACT_BELOW = 26
#: The exact sum needs 2^(D/2) patterns in memory.
EXACT_LIMIT = 44


class SparseParity:
    """``x = M phi`` with phi uniform on {-1, 1}^D, ``y = prod_A phi``.

    Parameters
    ----------
    D : int
        Number of coordinates.
    relevant : int or sequence of int
        The coordinates A, or how many (the first ones).
    dictionary : array_like, shape (D, D), optional
        M, with orthonormal columns; the identity if left out.

    Raises
    ------
    ProblemError
        If k > D, a coordinate does not exist, or the dictionary is not orthonormal.
    """

    def __init__(self, D: int, relevant: Any, dictionary: Any = None) -> None:
        self.D = check("D", D, 1, 10**6, whole=True, closed="[]")
        self.relevant = subset(relevant, self.D)
        self.M = orthonormal_columns(dictionary, self.D)

    @property
    def dimension(self) -> int:
        return self.D

    @property
    def k(self) -> int:
        return len(self.relevant)

    @cached_property
    def mask(self) -> np.ndarray:
        out = np.zeros(self.D, dtype=bool)
        out[self.relevant] = True
        return out

    @property
    def direction(self) -> np.ndarray:
        """The unit vector along the sum of the relevant dictionary elements."""
        return self.outward(self.mask / math.sqrt(self.k))

    @property
    def bayes_error(self) -> float:
        """The label is a function of the input."""
        return 0.0

    def inward(self, w: np.ndarray) -> np.ndarray:
        """M^T w by row."""
        return w if self.M is None else np.ascontiguousarray(w @ self.M)

    def outward(self, g: np.ndarray) -> np.ndarray:
        """M g by row."""
        return g if self.M is None else g @ self.M.T

    def gradient(
        self, w: Any, b: Any = 0.0, *, method: str = "auto", rtol: float = 1e-9, max_nodes: int = 2**17
    ) -> Value:
        """G(w, b): ``hhat(A xor {j})`` on every coordinate j, with hhat the Fourier coefficients of the half-space.

        Parameters
        ----------
        w : array_like, shape (neurons, D) or (D,)
        b : array_like, shape (neurons,), or float
        method : {"auto", "exact", "integral"}
            A sum over 2^(D/2) patterns (D <= 44), or the oscillatory integral at any D; ties w.x = b count one half.
        rtol, max_nodes : float, int
            The integral goes on until its error estimate is below rtol times |G|, or max_nodes are used: read the error.

        Returns
        -------
        Value
            Arrays of shape (neurons, D) and (neurons,).
        """
        rows, biases = neurons(w, b, self.D)
        q = self.inward(rows)
        exact = self.D < EXACT_BELOW if method == "auto" else method == "exact"
        if method not in ("auto", "exact", "integral"):
            raise ProblemError(f"unknown method {method!r}; they are auto, exact, integral")
        if exact:
            if self.D > EXACT_LIMIT:
                raise ProblemError(f"D = {self.D} is outside the range [1, {EXACT_LIMIT}] of method exact; use integral")
            g = np.array([self._exact(row, bias) for row, bias in zip(q, biases, strict=True)])
            return Value(self.outward(g), np.full(len(q), 2.0**-50))
        g, error = np.empty_like(q), np.empty(len(q))
        parity_gradients(q, self.mask, biases, rtol, max_nodes, g, error, np.empty(len(q), dtype=np.int64))
        return Value(self.outward(g), error)

    def _exact(self, q: np.ndarray, b: float) -> np.ndarray:
        halves = (np.arange(self.D // 2), np.arange(self.D // 2, self.D))
        # bit 0 stands for +1
        values = (sums(q[halves[0]], -q[halves[0]]), sums(q[halves[1]], -q[halves[1]]))
        flips = 1.0 - 2.0 * self.mask
        characters = (products(np.ones(len(halves[0])), flips[halves[0]]), products(np.ones(len(halves[1])), flips[halves[1]]))
        split = np.vstack([by_bit(part) for part in reached(b, values, characters)])
        return (split[:, 0] - split[:, 1]) / 2.0**self.D

    def second_moment(self, w: Any, b: Any = 0.0, *, rtol: float = 1e-9, max_nodes: int = 2**15) -> Value:
        """``E[x x^T 1(w.x > b)]``, shape (neurons, D, D), by the integral; O(D^2) per node."""
        rows, biases = neurons(w, b, self.D)
        q = self.inward(rows)
        first, second = np.empty_like(q), np.empty((len(q), self.D, self.D))
        error, none = np.empty(len(q)), np.zeros((1, 0))
        dictionary_moments(q, biases, none, np.ones(1), np.ones(1), -1.0, 1.0, 0.5, 0.0, rtol, max_nodes, True,
                           first, second, error, np.empty(len(q), dtype=np.int64))  # fmt: skip
        return Value(second if self.M is None else self.M @ second @ self.M.T, error)

    def sample(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Inputs (n, D) and labels (n,)."""
        phi = rng.integers(0, 2, size=(n, self.D), dtype=np.int8) * np.int8(2) - np.int8(1)
        return self.outward(phi.astype(float)), phi[:, self.relevant].prod(axis=1, dtype=np.int8).astype(float)


def leading_order(q: np.ndarray, length: np.ndarray, beta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """G on the relevant coordinates, and the norm of G on all others, to leading order in 1/D.

    ``hhat(S) = prod_S (q_l/s) He_{|S|-1}(beta) phi(beta)`` with s = |q| and beta = b/s; corrections are of relative order k^2/D.

    Parameters
    ----------
    q : ndarray, shape (points, k)
        Relevant coordinates of the weight.
    length : ndarray, shape (points,)
        Norm of the whole weight.
    beta : ndarray, shape (points,)
        Bias in units of that norm.
    """
    k = q.shape[1]
    z = q / length[:, None]
    density = np.exp(-(beta**2) / 2) / math.sqrt(2 * math.pi)
    others = np.stack([np.delete(z, j, axis=1).prod(axis=1) for j in range(k)], axis=1)
    # He_{-1} phi integrates to the upper tail: one coordinate sees the probability of being active
    inner = eval_hermitenorm(k - 2, beta) * density if k > 1 else ndtr(-beta)
    rest = np.sqrt(np.maximum(0.0, 1 - (z**2).sum(axis=1)))
    return others * inner[:, None], np.abs(z.prod(axis=1) * eval_hermitenorm(k, beta) * density) * rest

