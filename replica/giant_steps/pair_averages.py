"""Drift of any network on a polynomial target from pairs of neurons: population gradient descent without sampling.

``G_i`` needs the target through one neuron at a time, a terminating sum over its Hermite tensors, and the network through
two: ``E[s_i s_j]``, ``E[s'_i s'_j]`` and ``E[s_j s'_i lam_i]``, two-dimensional averages; closed for ReLU without biases.
The covariance N of the batch noise involves four fields at once and is not made here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np

from ..activations import Z
from ..functions import relu
from .averages import Averages, Rule, Student

Array = np.ndarray

REACH = 9.0
#: Half widths, in units of the conditional width, of the panels around a kink seen through the other neuron.
GRADES = (0.5, 2.0, 6.0)


def pair_rule(student: Student, tensors: Sequence[Array], second: float, nodes: int) -> Rule:
    """G and risk; N is nan, since it is not known.

    Parameters
    ----------
    student : Student
    tensors : sequence of ndarray
        C_k = E[grad^k g] for k = 0, ..., degree of the target.
    second : float
        E[g^2].
    nodes : int
        Gauss-Legendre nodes per panel; compare with more for an error.
    """
    s, slope, kinks = student.activation.numeric(), student.activation.numeric_derivative(), student.activation.kinks
    p, r = student.width, len(tensors[1])
    plain_relu = student.activation.expression == relu(Z) and not student.biases.any()

    def rule(omega: Array) -> Averages:
        Q, M = omega[:p, :p], omega[:p, p:]
        G, agreement = np.zeros((p, p + r)), np.zeros(p)
        for i in range(p):
            c = _shifted_coefficients(s, kinks, Q[i, i], student.biases[i], len(tensors) + 1, nodes)
            agreement[i] = sum(c[k] / math.factorial(k) * _contract(C, M[i], k) for k, C in enumerate(tensors))
            for k, C in enumerate(tensors):
                G[i, i] += c[k + 2] / math.factorial(k) * _contract(C, M[i], k)
                if k:
                    G[i, p:] += c[k] / math.factorial(k - 1) * _contract(C, M[i], k - 1)
        values, slopes, mixed = _all_pairs(s, slope, kinks, Q, student.biases, nodes, plain_relu)
        if student.loss == "square":
            G[:, :p] -= slopes * student.outer
            # E[s_j s''_i] by Stein's lemma from E[s_j s'_i lam_i], so that no kink is differentiated twice
            diagonal = np.diag(Q)
            G[np.arange(p), np.arange(p)] -= ((mixed - Q * slopes) / diagonal[:, None]) @ student.outer
        risk = second - 2 * float(student.outer @ agreement) + float(student.outer @ values @ student.outer)
        return Averages(G, np.full((p, p), np.nan), risk)

    return rule


def _contract(tensor: Array, direction: Array, times: int) -> Array:
    value = np.asarray(tensor, dtype=float)
    for _ in range(times):
        value = value @ direction
    return value


def _shifted_coefficients(
    s: Callable[[Array], Array], kinks: Sequence[float], variance: float, bias: float, count: int, nodes: int
) -> list[float]:
    """E[s^(k)(lam + b)] = E[He_k(x) s(sqrt(Q) x + b)] / Q^(k/2), k = 0, ..., count."""
    width = math.sqrt(variance)
    x, w = _panels([(kink - bias) / width for kink in kinks], nodes)
    value = w * s(width * x + bias)
    hermite = [np.ones_like(x), x]
    for k in range(1, count):
        hermite.append(x * hermite[k] - k * hermite[k - 1])
    return [float(value @ h) / width**k for k, h in enumerate(hermite)]


@cache
def gauss_legendre(nodes: int) -> tuple[Array, Array]:
    """Nodes and weights on [-1, 1]."""
    return np.polynomial.legendre.leggauss(nodes)


def _panels(breaks: Sequence[float], nodes: int) -> tuple[Array, Array]:
    """Nodes and weights of N(0, 1) on panels of width at most 1.5, split at the breaks."""
    edges = np.unique(np.clip([*np.arange(-REACH, REACH + 0.1, 1.5), *breaks], -REACH, REACH))
    t, w = gauss_legendre(nodes)
    left, half = edges[:-1], np.diff(edges) / 2
    x = (left[:, None] + half[:, None] * (t + 1)).ravel()
    weight = (half[:, None] * w).ravel() * np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)
    return x, weight


def _all_pairs(
    s: Callable[[Array], Array], slope: Callable[[Array], Array], kinks: Sequence[float], Q: Array, biases: Array, nodes: int,
    plain_relu: bool,
) -> tuple[Array, Array, Array]:  # fmt: skip
    """E[s_i s_j], E[s'_i s'_j] and, not symmetric, E[s_j s'_i lam_i] as [i, j]."""
    if plain_relu:
        return relu_pairs(Q)
    p = len(Q)
    values, slopes, mixed = np.zeros((p, p)), np.zeros((p, p)), np.zeros((p, p))
    for i in range(p):
        for j in range(i, p):
            lam_i, lam_j, weight = _pair_nodes(Q[i, i], Q[i, j], Q[j, j], biases[i], biases[j], kinks, nodes)
            s_i, s_j, d_i, d_j = s(lam_i + biases[i]), s(lam_j + biases[j]), slope(lam_i + biases[i]), slope(lam_j + biases[j])
            values[i, j] = values[j, i] = float(np.sum(weight * s_i * s_j))
            slopes[i, j] = slopes[j, i] = float(np.sum(weight * d_i * d_j))
            mixed[i, j] = float(np.sum(weight * s_j * d_i * lam_i))
            mixed[j, i] = float(np.sum(weight * s_i * d_j * lam_j))
    return values, slopes, mixed


def _pair_nodes(
    q_i: float, q_ij: float, q_j: float, b_i: float, b_j: float, kinks: Sequence[float], nodes: int
) -> tuple[Array, Array, Array]:
    """Nodes for two fields: the first one outside, split at its kinks and where it brings the second to one."""
    width_i, width_j = math.sqrt(q_i), math.sqrt(q_j)
    rho = max(-1.0, min(1.0, q_ij / (width_i * width_j)))
    rest = math.sqrt(max(0.0, 1 - rho**2))
    own, other = [(k - b_i) / width_i for k in kinks], [(k - b_j) / width_j for k in kinks]
    seen = [k / rho + sign * g * rest / abs(rho) for k in other for g in (0.0, *GRADES) for sign in (-1, 1)] if rho else []
    x, w = _panels([*own, *seen], nodes)
    if rest < 1e-9:
        return width_i * x, width_j * rho * x, w
    # Panels of the second field move with the first: edges by outer node, sorted; empty ones weigh nothing.
    fixed = np.broadcast_to(np.arange(-REACH, REACH + 0.1, 1.5), (x.size, 13))
    moving = np.stack([(k - rho * x) / rest for k in other], axis=1) if other else np.empty((x.size, 0))
    edges = np.sort(np.concatenate([fixed, np.clip(moving, -REACH, REACH)], axis=1), axis=1)
    t, gauss = gauss_legendre(nodes)
    half = np.diff(edges, axis=1)[:, :, None] / 2
    xi = (edges[:, :-1, None] + half * (t + 1)).reshape(x.size, -1)
    inner = (half * gauss).reshape(x.size, -1) * np.exp(-(xi**2) / 2) / math.sqrt(2 * math.pi)
    lam_j = width_j * (rho * x[:, None] + rest * xi)
    return np.broadcast_to(width_i * x[:, None], lam_j.shape), lam_j, w[:, None] * inner


def relu_pairs(Q: Array) -> tuple[Array, Array, Array]:
    """The three averages for ReLU without biases: arc-cosine kernels (Cho and Saul, NeurIPS 2009)."""
    width = np.sqrt(np.diag(Q))
    cosine = np.clip(Q / np.outer(width, width), -1.0, 1.0)
    angle, sine = np.arccos(cosine), np.sqrt(1 - cosine**2)
    both = (math.pi - angle) / (2 * math.pi)  # E[step_i step_j]
    values = np.outer(width, width) * (sine / (2 * math.pi) + both * cosine)
    return values, both, values  # s'_i lam_i = s_i, so the mixed average is E[s_i s_j]

