"""Expectations over independent bits inside a half-space, exactly: meet in the middle.

The bits are split in two halves of 2^(D/2) patterns each; one half is sorted by its share of u = q.phi, so that the patterns of
the other find their partners with u > b by bisection.  Ties count one half.  Bit j of the index of a pattern is its j-th bit.
"""

from __future__ import annotations

import numpy as np

#: Shares of u closer than this, relative to the largest |u|, are a tie.
TIE = 1e-13


def sums(zero: np.ndarray, one: np.ndarray) -> np.ndarray:
    """For all patterns of bits, the sum of `zero` or `one` over the bits."""
    out = np.zeros(1)
    for a, b in zip(zero, one, strict=True):
        out = np.concatenate([out + a, out + b])
    return out


def products(zero: np.ndarray, one: np.ndarray) -> np.ndarray:
    """For all patterns of bits, the product of `zero` or `one` over the bits."""
    out = np.ones(1)
    for a, b in zip(zero, one, strict=True):
        out = np.concatenate([out * a, out * b])
    return out


def by_bit(weights: np.ndarray) -> np.ndarray:
    """Summed weight of the patterns where bit j is 0 and where it is 1, shape (bits, 2)."""
    bits = len(weights).bit_length() - 1
    return np.array([weights.reshape(-1, 2, 2**j).sum(axis=(0, 2)) for j in range(bits)]).reshape(bits, 2)


def reached(
    b: float, values: tuple[np.ndarray, np.ndarray], weights: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Weight of every pattern of either half, times that of its partners with left + right > b.

    Parameters
    ----------
    b : float
    values, weights : two of ndarray, shape (patterns of the half,)
    """
    orders = [np.argsort(v, kind="stable") for v in values]
    left, right = (v[order] for v, order in zip(values, orders, strict=True))
    mass_left, mass_right = (m[order] for m, order in zip(weights, orders, strict=True))
    tie = TIE * (np.abs(left[[0, -1]]).max() + np.abs(right[[0, -1]]).max() + abs(b))
    # how many of the right are not above b, on either side of a tie
    sides = [np.searchsorted(right, b - left - tie, "left"), np.searchsorted(right, b - left + tie, "right")]
    above = np.concatenate([np.cumsum(mass_right[::-1])[::-1], [0.0]])
    below = np.cumsum(sum(np.bincount(s, mass_left, len(right) + 1) for s in sides))[:-1]
    out = np.empty(len(left)), np.empty(len(right))
    out[0][orders[0]] = mass_left * (above[sides[0]] + above[sides[1]]) / 2
    out[1][orders[1]] = mass_right * below / 2
    return out
