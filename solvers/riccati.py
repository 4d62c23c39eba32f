"""The symmetric matrix Riccati flow S' = F S + S F - S^2 from S(0) = Q0 Q0^T, by its closed form.

With D(t) = int_0^t exp(2 F s) ds the solution is S = exp(F t) Q0 [1 + Q0^T D Q0]^-1 Q0^T exp(F t).  Nothing is inverted
but a matrix that is at least 1, so no rank, shape or invertibility is asked for; yet evaluated as written it overflows, and
loses the directions that have not grown yet.  This module owns the stable evaluation, its limit t = inf, and a measured
error.  What F and Q0 mean is left to the caller.

Notes
-----
In the eigenbasis of F, with eigenvalues f, D is diagonal and S = K Z Z^T K, where K = exp(f t) D^(-1/2) is bounded and Z
holds the upper rows of the orthonormal factor of [D^(1/2) Q0; 1].  The rows of that matrix differ by any number of orders of
magnitude.  Householder QR with sorted rows and column pivoting is stable row by row [1]_, which is what keeps a direction of
size 1e-20 right beside one of size 1.

References
----------
.. [1] A. J. Cox, N. J. Higham, in Numerical Analysis 1997 (Longman, 1998), 57: row-wise stability of Householder QR.
.. [2] K. Fukumizu, GMD Report 43 (1998): the Riccati form of linear networks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import qr

#: Largest |f| t of one step: exp(2 |f| t) and the squares that a QR forms of exp(|f| t) stay inside double precision.
LARGEST_EXPONENT = 150.0
#: Steps allowed for one evaluation; beyond it t = inf is what is meant.
MOST_STEPS = 20_000
#: A start vector with less than this share of the initial norm in a direction may be rounding: no limit is claimed.
SMALLEST_OVERLAP = 1e-10
#: The error estimate is one sample of what rounding does; the factor makes it a bound in the tests.
SAFETY = 8.0


@dataclass(frozen=True)
class RiccatiTrajectory:
    """S at the times asked for.

    Attributes
    ----------
    times : ndarray, shape (T,)
    S : ndarray, shape (T, n, n)
        Symmetric, positive semidefinite.
    error : ndarray, shape (T,)
        Estimate of the largest absolute error of an entry of S: how far a second evaluation lands that is made in
        randomly rotated coordinates and, for 0 < t < inf, through S(t/2).  It contains what rounding of the input does, which
        near an unstable state is amplified by exp(f t).
    """

    times: np.ndarray
    S: np.ndarray
    error: np.ndarray


def riccati_trajectory(Q0: np.ndarray, F: np.ndarray, times: np.ndarray) -> RiccatiTrajectory:
    """S(t) of S' = F S + S F - S^2, S(0) = Q0 Q0^T, at any times.

    Parameters
    ----------
    Q0 : array, shape (n, h)
        Any rank; zero rows or columns are fine.
    F : array, shape (n, n)
        Symmetric within 1e-14 of its norm.
    times : array, shape (T,)
        Non-negative, in any order; ``inf`` gives the limit.

    Returns
    -------
    RiccatiTrajectory

    Raises
    ------
    ValueError
        For wrong shapes, non-finite input, F not symmetric, negative times; for a finite time so late that it takes more
        than `MOST_STEPS` steps of |f| t = `LARGEST_EXPONENT`; and at t = inf if rounding decides which directions grow.

    Notes
    -----
    The limit sums 2 f v v^T over the growing directions v (f > 0) that the start can reach, the fastest first, until its rank
    is used up: the best fit of that rank.  Among eigenvalues equal within rounding the start decides which combination is
    learned if not all can be; the limit is then still defined, and returned.  A direction absent from the start (below
    64 n eps of its norm) stays absent: the limit is a saddle, as it is in exact arithmetic.
    """
    Q0, F, times = _checked(Q0, F, times)
    n = len(F)
    first = _Flow(Q0, F)
    rotation = np.linalg.qr(np.random.default_rng(20).standard_normal((n, n)))[0]
    rotated = rotation @ F @ rotation.T
    second = _Flow(rotation @ Q0, (rotated + rotated.T) / 2.0)
    S = np.empty((len(times), n, n))
    error = np.empty(len(times))
    for k, t in enumerate(times):
        S[k] = _gram(first.factor(t))
        other = _gram(rotation.T @ second.factor(t, halves=True))
        error[k] = SAFETY * np.abs(S[k] - other).max() + n * np.finfo(float).eps * np.abs(S[k]).max()
    return RiccatiTrajectory(times, S, error)


def _checked(Q0: np.ndarray, F: np.ndarray, times: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    Q0, F = np.asarray(Q0, dtype=float), np.asarray(F, dtype=float)
    times = np.atleast_1d(np.asarray(times, dtype=float))
    if F.ndim != 2 or F.shape[0] != F.shape[1] or F.shape[0] == 0:
        raise ValueError(f"F must be a square matrix; its shape is {F.shape}")
    if Q0.ndim != 2 or Q0.shape[0] != F.shape[0] or Q0.shape[1] == 0:
        raise ValueError(f"Q0 must have shape ({F.shape[0]}, h), h >= 1, to go with F; its shape is {Q0.shape}")
    if times.ndim != 1:
        raise ValueError(f"times must be a number or one-dimensional; its shape is {times.shape}")
    for name, value in (("Q0", Q0), ("F", F)):
        if not np.isfinite(value).all():
            raise ValueError(f"{name} has {np.sum(~np.isfinite(value))} entries that are not finite")
    if not (times >= 0.0).all():
        raise ValueError(f"times must be >= 0; got {times[~(times >= 0.0)][0]:g}")
    skew, size = np.abs(F - F.T).max(), np.abs(F).max()
    if skew > 1e-14 * size:
        raise ValueError(f"F must be symmetric; |F - F^T| = {skew:.1e} where |F| = {size:.1e}")
    return Q0, (F + F.T) / 2.0, times


def _gram(P: np.ndarray) -> np.ndarray:
    """P P^T, exactly symmetric."""
    S = P @ P.T
    return (S + S.T) / 2.0


class _Flow:
    """The flow of one start, in the eigenbasis of F; remembers the factor at the last whole step."""

    def __init__(self, Q0: np.ndarray, F: np.ndarray) -> None:
        self.f, self.V = np.linalg.eigh(F)
        A = self.V.T @ Q0
        if A.shape[1] > A.shape[0]:  # a rotation of the columns, which S does not see; keeps each row's relative accuracy
            A = np.asarray(np.linalg.qr(A.T, mode="r")).T
        self.start = A
        self.fastest = np.abs(self.f).max()
        self.anchors = {0: A}

    def factor(self, t: float, halves: bool = False) -> np.ndarray:
        """P with S(t) = P P^T; through t/2 if `halves`."""
        if t == np.inf:
            return self.V @ self._limit()
        A, rest = self._anchor(t)
        if halves:
            A, rest = self._step(A, rest / 2.0), rest - rest / 2.0
        return self.V @ self._step(A, rest)

    def _anchor(self, t: float) -> tuple[np.ndarray, float]:
        """The factor at the last whole number of longest steps before t, and the time left."""
        if self.fastest * t <= LARGEST_EXPONENT:
            return self.start, t
        longest = LARGEST_EXPONENT / self.fastest
        steps = int(min(t / longest, 2.0 * MOST_STEPS))
        if steps > MOST_STEPS:
            raise ValueError(
                f"t = {t:g} is {t / longest:.1e} steps of |f| t = {LARGEST_EXPONENT:g}, more than {MOST_STEPS}; "
                "t = inf gives the limit"
            )
        known = max(k for k in self.anchors if k <= steps)
        A = self.anchors[known]
        for _ in range(known, steps):
            A = self._step(A, longest)
        self.anchors[steps] = A
        return A, max(t - steps * longest, 0.0)

    def _step(self, A: np.ndarray, t: float) -> np.ndarray:
        """The factor a time t <= `LARGEST_EXPONENT` / |f| after the factor A."""
        if t == 0.0:
            return A
        x = 2.0 * self.f * t
        still = np.abs(x) < 1e-300
        growth = np.expm1(x)
        D = np.where(still, t, growth / np.where(still, 1.0, 2.0 * self.f))
        # exp(x)/D without forming the overflow-prone quotient of large numbers
        K = np.sqrt(np.where(still, 1.0 / t, 2.0 * self.f / np.where(still, 1.0, -np.expm1(-x))))
        rows = np.vstack([np.sqrt(D)[:, None] * A, np.eye(A.shape[1])])
        order = np.argsort(-np.abs(rows).max(axis=1), kind="stable")
        Z = np.empty_like(rows)
        Z[order] = qr(rows[order], mode="economic", pivoting=True, check_finite=False)[0]
        return K[:, None] * Z[: len(A)]

    def _limit(self) -> np.ndarray:
        """The factor at t = inf: clusters of equal f > 0, the largest first, each takes what rank the others left."""
        n, h = self.start.shape
        P = np.zeros((n, n))
        rounding = 64.0 * n * np.finfo(float).eps
        size = np.linalg.norm(self.start, 2)
        free = np.eye(h)
        stop = n
        while stop > 0 and free.shape[1] > 0 and size > 0.0 and self.f[stop - 1] > rounding * self.fastest:
            begin = stop - 1
            while begin > 0 and self.f[stop - 1] - self.f[begin - 1] <= rounding * self.fastest:
                begin -= 1
            left, overlaps, right = np.linalg.svd(self.start[begin:stop] @ free)
            overlaps = overlaps / size
            rank = int(np.sum(overlaps > SMALLEST_OVERLAP))
            if (doubtful := overlaps[(overlaps > rounding) & (overlaps <= SMALLEST_OVERLAP)]).size:
                raise ValueError(
                    f"the limit t = inf is not decided in double precision: the start has a share {doubtful[0]:.1e} in the "
                    f"growing direction f = {self.f[begin]:g}, between rounding ({rounding:.0e}) and "
                    f"{SMALLEST_OVERLAP:.0e}; ask for a finite time"
                )
            P[begin:stop, begin : begin + rank] = left[:, :rank] * np.sqrt(2.0 * self.f[begin:stop, None])
            free = free @ right[rank:].T
            stop = begin
        return P
