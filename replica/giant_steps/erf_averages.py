"""Closed averages for erf networks without biases, and targets made of polynomials and erf of linear forms.

The slope of ``A erf(k lam)`` is a Gaussian function of lam, so multiplying by it tilts N(0, Omega) into another centred
Gaussian: ``E[F s'_i] = c_i E_tilted[F]`` with a rank-one change of Omega.  Two tilts and what is left are averages of products of
at most two error functions and polynomials, all elementary.  For a target of error functions these are the integrals I3 and I4
of Saad and Solla; nothing is inverted, so linearly dependent fields are no exception.

References
----------
.. [1] D. Saad, S. A. Solla, Phys. Rev. E 52, 4225 (1995).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from itertools import product

import numpy as np

from .averages import Averages, Rule, Student
from .forms import ErfForm, Polynomial, erf_scale

Array = np.ndarray


def erf_rule(student: Student, target: ErfForm, noise: float) -> Rule:
    """Closed averages; the activation must be ``A erf(k z)`` and the biases 0."""
    scale = erf_scale(student.activation)
    if scale is None or student.biases.any():
        raise ValueError("closed averages are for erf networks without biases")
    amplitude, k = scale
    p, r = student.width, target.r
    # Every error function of the residual as a linear form of X = (lam, z): the student's, then the target's.
    forms = np.zeros((p + len(target.weights), p + r))
    forms[:p, :p] = k * np.eye(p)
    forms[p:, p:] = target.directions
    network = np.concatenate([-amplitude * student.outer, np.zeros(len(target.weights))])
    labels = np.concatenate([np.zeros(p), target.weights])
    gap = network + labels
    rest = gap if student.loss == "square" else labels

    def rule(omega: Array) -> Averages:
        plain = _square(omega, target, gap, forms, p)
        single, change, first = _tilt(omega[None], p, k)  # axes: neuron i
        G = _drift(single, target, rest, forms, p)
        # Omega_tilted = Omega (1 - change e_i Omega_i^T), and the drift wants the factor behind Omega.
        pull = np.einsum("ik,ik->i", omega[:p], G)
        G[np.arange(p), np.arange(p)] -= change * pull
        N = np.empty((p, p))
        for i in range(p):  # one row at a time: p covariances, not p^2, are in memory
            double, _, second = _tilt(single[i][None], p, k)
            N[i] = first[i] * second * (_square(double, target, rest, forms, p) + noise)
        N *= (amplitude * 2 * k) ** 2 / math.pi
        return Averages((amplitude * 2 * k / math.sqrt(math.pi)) * first[:, None] * G, (N + N.T) / 2, float(plain))

    return rule


def _tilt(omega: Array, p: int, k: float) -> tuple[Array, Array, Array]:
    """Covariances under the weights ``exp(-k^2 lam_i^2)``, i along the last batch axis; the change, and E of the weights."""
    index = np.arange(p)
    omega = np.broadcast_to(omega, (*omega.shape[:-3], p, *omega.shape[-2:]))
    rows = omega[..., index, index, :]
    variance = rows[..., index, index]
    change = 2 * k**2 / (1 + 2 * k**2 * variance)
    return omega - change[..., None, None] * rows[..., :, None] * rows[..., None, :], change, 1 / np.sqrt(1 + 2 * k**2 * variance)


def _drift(omega: Array, target: ErfForm, weights: Array, forms: Array, p: int) -> Array:
    """V with E[res X] = omega V: gradients, by Stein's lemma."""
    S = omega[..., p:, p:]
    variance = np.sum((forms @ omega) * forms, axis=-1)
    V = (weights * 2 / math.sqrt(math.pi) / np.sqrt(1 + 2 * variance)) @ forms
    if target.polynomial:
        table = _moments(S, _degree(target.polynomial))
        for j in range(target.r):
            V[..., p + j] += _mean(_derivative(target.polynomial, _unit(j, target.r)), table)
    return V


def _square(omega: Array, target: ErfForm, weights: Array, forms: Array, p: int) -> Array:
    """E[res^2] of polynomial plus weighted error functions."""
    covariance = forms @ omega @ forms.T
    variance = np.einsum("...kk->...k", covariance)
    norm = np.sqrt(1 + 2 * variance)
    # arcsin of a ratio that rounding may carry beyond 1
    ratio = np.clip(2 * covariance / (norm[..., :, None] * norm[..., None, :]), -1.0, 1.0)
    total = np.einsum("k,...kl,l->...", weights, 2 / math.pi * np.arcsin(ratio), weights)
    if not target.polynomial:
        return total
    degree = _degree(target.polynomial)
    table = _moments(omega[..., p:, p:], 2 * degree)
    total = total + _mean(_times(target.polynomial, target.polynomial), table)
    cross = forms @ omega[..., :, p:]  # covariance of every form with z
    for nu in product(range(degree + 1), repeat=target.r):
        order = sum(nu)
        if order % 2 == 0 or order > degree:
            continue
        derivative = _derivative(target.polynomial, nu)
        if derivative:
            power = np.prod(cross ** np.array(nu), axis=-1) / math.prod(math.factorial(n) for n in nu)
            total = total + 2 * _mean(derivative, table) * np.sum(weights * power * _erf_slope(order, variance), axis=-1)
    return total


def _erf_slope(order: int, variance: Array) -> Array:
    """E of the derivative of odd order of erf at a centred Gaussian."""
    m = (order - 1) // 2
    double_factorial = math.prod(range(order - 2, 0, -2))
    return 2 / math.sqrt(math.pi) * (-2.0) ** m * double_factorial * (1 + 2 * variance) ** (-m - 0.5)


def _unit(j: int, r: int) -> tuple[int, ...]:
    return tuple(int(i == j) for i in range(r))


def _degree(polynomial: Polynomial) -> int:
    return max((sum(nu) for nu in polynomial), default=0)


def _derivative(polynomial: Polynomial, orders: Sequence[int]) -> Polynomial:
    out: Polynomial = {}
    for nu, coefficient in polynomial.items():
        if all(n >= o for n, o in zip(nu, orders, strict=True)):
            for n, o in zip(nu, orders, strict=True):
                coefficient *= math.perm(n, o)
            key = tuple(n - o for n, o in zip(nu, orders, strict=True))
            out[key] = out.get(key, 0.0) + coefficient
    return out


def _times(a: Polynomial, b: Polynomial) -> Polynomial:
    out: Polynomial = {}
    for (nu, x), (mu, y) in product(a.items(), b.items()):
        key = tuple(n + m for n, m in zip(nu, mu, strict=True))
        out[key] = out.get(key, 0.0) + x * y
    return out


def _mean(polynomial: Polynomial, table: dict[tuple[int, ...], Array]) -> Array:
    return sum((c * table[nu] for nu, c in polynomial.items() if sum(nu) % 2 == 0), start=np.zeros(()))


def _moments(S: Array, degree: int) -> dict[tuple[int, ...], Array]:
    """E[z^nu] for N(0, S), all even |nu| <= degree: E[z_i z^mu] = sum_j S_ij mu_j E[z^(mu - e_j)]."""
    r = S.shape[-1]
    table: dict[tuple[int, ...], Array] = {}
    for nu in _indices(r, degree):
        if not any(nu):
            table[nu] = np.ones(S.shape[:-2])
            continue
        i = next(k for k in range(r) if nu[k])
        mu = [n - (k == i) for k, n in enumerate(nu)]
        total = np.zeros(S.shape[:-2])
        for j in range(r):
            if mu[j]:
                total = total + S[..., i, j] * mu[j] * table[tuple(n - (k == j) for k, n in enumerate(mu))]
        table[nu] = total
    return table


@cache
def _indices(r: int, degree: int) -> tuple[tuple[int, ...], ...]:
    """Multi-indices of even size up to a degree, small ones first."""
    found = [nu for nu in product(range(degree + 1), repeat=r) if sum(nu) <= degree and sum(nu) % 2 == 0]
    return tuple(sorted(found, key=sum))
