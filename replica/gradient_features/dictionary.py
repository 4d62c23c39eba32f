"""Inputs made of dictionary elements, the label decided by how many of a few relevant ones are present.

References
----------
.. [1] Z. Shi, J. Wei, Y. Liang, arXiv:2206.01717: "A theoretical analysis on feature learning in neural networks".
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from solvers.half_spaces import dictionary_moments

from .base import ProblemError, Value, check, neurons, orthonormal_columns
from .half_sums import by_bit, products, reached, sums

#: Patterns of the relevant elements are listed one by one.
LARGEST_GROUP = 14
EXACT_BELOW = 22
EXACT_LIMIT = 44


class Dictionary:
    """``x = M phi``, ``phi = (bits - E bits)/sig`` with ``sig^2`` the summed variance of the bits, so that E|x|^2 = 1.

    The first k bits are relevant: their number c has a given law, each set of c bits is equally likely, and ``y = 1`` if c is in
    `positive`, else -1.  The others are independent, 1 with probability `background`.

    Parameters
    ----------
    D, k : int
    counts : sequence of float
        Probability of 0, ..., k present relevant elements.
    positive : collection of int
        The counts labelled +1.
    background : float
        In (0, 1).
    dictionary : array_like, shape (D, D), optional
        M, with orthonormal columns; the identity if left out.

    Raises
    ------
    ProblemError
        If k > D, a probability is out of range, or a count does not exist.
    """

    def __init__(
        self, D: int, k: int, counts: Sequence[float] | np.ndarray, positive: Collection[int], background: float = 0.5,
        dictionary: Any = None,
    ) -> None:  # fmt: skip
        self.D = check("D", D, 1, 10**6, whole=True, closed="[]")
        self.k = check("k", k, 1, min(self.D, LARGEST_GROUP), whole=True, closed="[]")
        self.counts = np.asarray(counts, dtype=float)
        if self.counts.shape != (self.k + 1,) or not (self.counts >= 0).all() or abs(self.counts.sum() - 1) > 1e-9:
            raise ProblemError(f"counts = {self.counts.tolist()} are not {self.k + 1} probabilities that sum to 1")
        self.positive = frozenset(check("positive", c, 0, self.k, whole=True, closed="[]") for c in positive)
        self.background = check("background", background, 0, 1)
        self.M = orthonormal_columns(dictionary, self.D)
        if self.variance == 0:
            raise ProblemError("counts have no spread and there is no background: every input is the same")

    @classmethod
    def parity(cls, D: int, k: int, rho: float, background: float = 0.5, dictionary: Any = None) -> Dictionary:
        """Parity of k (odd) bits: uniform with probability `rho`, else all present or all absent; slope (1 - rho)/2.

        ``rho = 1`` is the control without structure.
        """
        k = check("k", k, 1, min(int(D), LARGEST_GROUP), whole=True, closed="[]")
        if k % 2 == 0:
            raise ProblemError(f"k = {k} must be odd: all present and all absent must have different parities")
        rho = check("rho", rho, 0, 1, closed="[]")
        from scipy.stats import binom  # slow to import
        counts = rho * binom.pmf(np.arange(k + 1), k, 0.5)
        counts[0] += (1 - rho) / 2
        counts[k] += (1 - rho) / 2
        return cls(D, k, counts, range(1, k + 1, 2), background, dictionary)

    @classmethod
    def threshold(
        cls, D: int, k: int, least: int, rate: float = 0.5, background: float = 0.5, dictionary: Any = None
    ) -> Dictionary:
        """At least `least` of k bits, each present with probability `rate`."""
        k = check("k", k, 1, min(int(D), LARGEST_GROUP), whole=True, closed="[]")
        least = check("least", least, 1, k, whole=True, closed="[]")
        rate = check("rate", rate, 0, 1)
        from scipy.stats import binom  # slow to import
        return cls(D, k, binom.pmf(np.arange(k + 1), k, rate), range(least, k + 1), background, dictionary)

    # ---------------------------------------------------------------- moments of the bits

    @property
    def dimension(self) -> int:
        return self.D

    @cached_property
    def labels(self) -> np.ndarray:
        """Label of every count."""
        return np.array([1.0 if c in self.positive else -1.0 for c in range(self.k + 1)])

    @property
    def rate(self) -> float:
        """Probability of a relevant bit."""
        return float(self.counts @ np.arange(self.k + 1)) / self.k

    @property
    def balance(self) -> float:
        """E y."""
        return float(self.counts @ self.labels)

    @property
    def slope(self) -> float:
        """``E[y bit] - E[y] E[bit]`` of a relevant bit: what a linear predictor sees."""
        c = np.arange(self.k + 1)
        return float(self.counts @ (self.labels * c)) / self.k - self.balance * self.rate

    @property
    def variance(self) -> float:
        """sig^2: the sum of the variances of all bits."""
        spare = self.background * (1 - self.background)
        return self.k * self.rate * (1 - self.rate) + (self.D - self.k) * spare

    @property
    def signal(self) -> float:
        """``S = k slope^2/sig^2``, the squared norm of ``E[y x]`` of balanced labels; a batch has noise 1/n."""
        return self.k * self.slope**2 / self.variance

    @property
    def direction(self) -> np.ndarray:
        """The unit vector along the sum of the relevant dictionary elements."""
        return self.outward((np.arange(self.D) < self.k) / math.sqrt(self.k))

    @property
    def variance_along(self) -> float:
        """Variance of an input along `direction`."""
        c = np.arange(self.k + 1)
        mean = self.counts @ c
        return float(self.counts @ (c - mean) ** 2) / self.k / self.variance

    @property
    def bayes_error(self) -> float:
        """The label is a function of the input."""
        return 0.0

    def outward(self, g: np.ndarray) -> np.ndarray:
        """M g by row."""
        return g if self.M is None else g @ self.M.T

    def inward(self, w: np.ndarray) -> np.ndarray:
        """M^T w by row."""
        return w if self.M is None else np.ascontiguousarray(w @ self.M)

    @cached_property
    def _group(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Patterns of the relevant bits as phi, their probabilities, and probabilities times labels."""
        bits = np.arange(2**self.k)[:, None] >> np.arange(self.k) & 1
        count = bits.sum(axis=1)
        weights = self.counts[count] / np.array([math.comb(self.k, c) for c in range(self.k + 1)])[count]
        return (bits - self.rate) / math.sqrt(self.variance), weights, weights * self.labels[count]

    @property
    def _ends(self) -> tuple[float, float]:
        """phi of an absent and of a present background bit."""
        sig = math.sqrt(self.variance)
        return -self.background / sig, (1 - self.background) / sig

    # ---------------------------------------------------------------- gradients

    def gradient(
        self, w: Any, b: Any = 0.0, *, smear: float = 0.0, method: str = "auto", rtol: float = 1e-9, max_nodes: int = 2**17
    ) -> Value:
        """``E[y x 1(w.x + smear g > b)]`` with g ~ N(0, 1), the noise injected into pre-activations.

        Parameters
        ----------
        w : array_like, shape (neurons, D) or (D,)
        b : array_like, shape (neurons,), or float
        smear : float
        method : {"auto", "exact", "integral"}
            A sum over 2^(D/2) patterns (D <= 44, smear = 0), or the oscillatory integral at any D.
        rtol, max_nodes : float, int
            The integral goes on until its error estimate is below rtol times |G|, or max_nodes are used: read the error.
            Without noise and at small D the integrand hardly decays.
        """
        rows, biases = neurons(w, b, self.D)
        smear = check("smear", smear, 0, math.inf, closed="[")
        q = self.inward(rows)
        if method not in ("auto", "exact", "integral"):
            raise ProblemError(f"unknown method {method!r}; they are auto, exact, integral")
        if method == "exact" or (method == "auto" and self.D < EXACT_BELOW and smear == 0):
            if self.D > EXACT_LIMIT or smear > 0:
                raise ProblemError(f"method exact needs D <= {EXACT_LIMIT} and smear = 0, not D = {self.D}, smear = {smear:g}")
            g = np.array([self._exact(row, bias) for row, bias in zip(q, biases, strict=True)])
            return Value(self.outward(g), np.full(len(q), 2.0**-46))
        first, _, error = self._integrals(q, biases, smear, rtol, max_nodes, second=False)
        return Value(self.outward(first), error)

    def second_moment(self, w: Any, b: Any = 0.0, *, smear: float = 0.0, rtol: float = 1e-9, max_nodes: int = 2**15) -> Value:
        """``E[x x^T 1(w.x + smear g > b)]``, shape (neurons, D, D), by the integral; O(D^2) per node."""
        rows, biases = neurons(w, b, self.D)
        smear = check("smear", smear, 0, math.inf, closed="[")
        _, second, error = self._integrals(self.inward(rows), biases, smear, rtol, max_nodes, second=True)
        return Value(second if self.M is None else self.M @ second @ self.M.T, error)

    def _integrals(
        self, q: np.ndarray, b: np.ndarray, smear: float, rtol: float, max_nodes: int, second: bool
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        patterns, weights, labelled = self._group
        first, error = np.empty_like(q), np.empty(len(q))
        moments = np.empty((len(q), self.D, self.D) if second else (1, 1, 1))
        dictionary_moments(q, b, np.ascontiguousarray(patterns), weights, labelled, *self._ends, self.background, smear, rtol,
                           max_nodes, second, first, moments, error, np.empty(len(q), dtype=np.int64))  # fmt: skip
        return first, moments, error

    def _exact(self, q: np.ndarray, b: float) -> np.ndarray:
        """Meet in the middle; the relevant bits are in the first half."""
        cut = max(self.k, self.D // 2)
        _, _, labelled = self._group
        sig = math.sqrt(self.variance)
        rates = np.where(np.arange(self.D) < self.k, self.rate, self.background)
        low, high = -rates / sig, (1 - rates) / sig
        values = (sums(q[:cut] * low[:cut], q[:cut] * high[:cut]), sums(q[cut:] * low[cut:], q[cut:] * high[cut:]))
        beside, right = (products(1 - part, part) for part in (rates[self.k : cut], rates[cut:]))
        split = np.vstack([by_bit(part) for part in reached(b, values, (np.outer(beside, labelled).ravel(), right))])
        return split[:, 0] * low + split[:, 1] * high

    # ---------------------------------------------------------------- data, and a network that fits them

    def sample(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Inputs (n, D) and labels (n,)."""
        count = rng.choice(self.k + 1, size=n, p=self.counts)
        # the c smallest of k random numbers are present
        rank = rng.random((n, self.k)).argsort(axis=1).argsort(axis=1)
        bits = np.empty((n, self.D))
        bits[:, : self.k] = rank < count[:, None]
        bits[:, self.k :] = rng.random((n, self.D - self.k)) < self.background
        phi = bits
        phi[:, : self.k] -= self.rate
        phi[:, self.k :] -= self.background
        phi /= math.sqrt(self.variance)
        return self.outward(phi), self.labels[count]

    def exact_network(self) -> tuple[np.ndarray, np.ndarray]:
        """Readout a and biases b of 3(k + 1) ReLUs of the number u of present relevant bits: ``sum a relu(u - b) = y`` exactly.

        u is ``sig sqrt(k) direction.x + k rate``, so they are neurons on the gradient feature.
        """
        counts = np.arange(self.k + 1)
        b = np.concatenate([counts - 0.5, counts, counts + 0.5])
        a = np.concatenate([2 * self.labels, -4 * self.labels, 2 * self.labels])
        return a, b
