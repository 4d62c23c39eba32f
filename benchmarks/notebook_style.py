"""Ridge regression on spiked random features the way a notebook does it.

The common practice that generated kernels are compared with: `scipy.integrate.quad` for every average, those over the
spike field kappa around those over the other Gaussians; spectral averages over one random first layer; damped
simultaneous iteration until the increments are below 1e-4.  Nothing is slowed down on purpose.  The inner averages
depend on kappa alone, and ``memoise`` keeps them from one iteration to the next as a careful author would; a speed-up
is fairly quoted against that, and `main` prints the time without it beside it.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable

import numpy as np
from hand_written import REFERENCE
from scipy.integrate import quad

Scalar = Callable[[float], float]


def average(f: Scalar) -> float:
    """E[f(z)], z ~ N(0, 1)."""
    value: float = quad(lambda z: f(z) * math.exp(-z * z / 2) / math.sqrt(2 * math.pi), -10, 10)[0]
    return value


class FirstLayer:
    """One random first layer, its spectrum and the overlaps of its eigenvectors with the spike and the teacher.

    Attributes
    ----------
    D : ndarray, shape (p,)
        Eigenvalues of ``W W^T``, W the rows with the spike direction projected out.
    F, H : ndarray, shape (p,)
        ``d (W v)_i^2`` and ``d (W zhat)_i^2`` in the eigenbasis; 1 and D on average.
    """

    def __init__(self, beta: float = 1.0, size: int = 2000, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        W = rng.standard_normal((round(beta * size), size))
        W /= np.linalg.norm(W, axis=1, keepdims=True)
        # By isotropy the spike and the rest of the teacher may be the first two coordinates.
        along_spike, along_teacher = W[:, 0].copy(), W[:, 1].copy()
        W[:, 0] = 0
        self.D, U = np.linalg.eigh(W @ W.T)
        self.F = size * (U.T @ along_spike) ** 2
        self.H = size * (U.T @ along_teacher) ** 2


def tanh_derivative(x: float) -> float:
    return 1 - math.tanh(x) ** 2


def solve(
    alpha: float,
    beta: float,
    alpha0: float,
    eta: float,
    reg: float,
    layer: FirstLayer,
    activation: Scalar = math.tanh,
    derivative: Scalar = tanh_derivative,
    target: Scalar = math.sin,
    increment: float = 1e-4,
    memoise: bool = True,
) -> dict[str, float]:
    """Order parameters and test error at one point, for an odd activation and noiseless labels.

    Parameters
    ----------
    alpha, beta, alpha0, eta, reg : float
        Samples and neurons per dimension, samples per dimension of the gradient step (> 0), its learning rate over the
        width, ridge penalty.
    layer : FirstLayer
        At the same beta.
    activation, derivative, target : callable
        Functions of one number.
    increment : float
        Stop when no order parameter moves by more than this in one step.
    memoise : bool
        Keep the averages at fixed kappa for the iterations to come, instead of integrating again.

    Returns
    -------
    dict
        Test error, order parameters and the iterations taken.  The fluctuation of one layer of size 2000 leaves
        relative deviations of some 1e-3 from the limit, the stopping rule up to some 1e-4.
    """
    slope = average(derivative)
    variance = average(lambda z: derivative(z) ** 2) - slope**2
    teacher_slope = average(lambda z: z * target(z))
    power = average(lambda z: target(z) ** 2)
    spike = math.sqrt(teacher_slope**2 + power / alpha0)
    r, gamma = eta * slope * spike, teacher_slope / spike
    c = 1 + eta**2 * variance * power / alpha0
    rho, root_c = math.sqrt(max(0.0, 1 - gamma**2)), math.sqrt(c)

    def student(k: float) -> tuple[float, float, float]:
        mu0 = average(lambda g: activation(r * k + root_c * g))
        mu1 = average(lambda g: g * activation(r * k + root_c * g)) / root_c
        second_moment = average(lambda g: activation(r * k + root_c * g) ** 2)
        return mu0, mu1, second_moment - mu0**2 - c * mu1**2

    def h(k: float) -> float:
        return average(lambda z: target(gamma * k + rho * z))

    def h1(k: float) -> float:
        return average(lambda z: z * target(gamma * k + rho * z))

    def hh(k: float) -> float:
        return average(lambda z: target(gamma * k + rho * z) ** 2)

    if memoise:
        student = functools.cache(student)
        h, h1, hh = functools.cache(h), functools.cache(h1), functools.cache(hh)

    delta, p, D, F, H = alpha / beta, len(layer.D), layer.D, layer.F, layer.H
    V1 = V2 = 1.0
    q1 = q2 = m = theta = psi = 0.1
    iterations = 0

    def V1_integrand(k: float) -> float:
        _, mu1, mu2_squared = student(k)
        return mu1**2 / (1 + mu1**2 * V1 + mu2_squared * V2)

    def V2_integrand(k: float) -> float:
        _, mu1, mu2_squared = student(k)
        return mu2_squared / (1 + mu1**2 * V1 + mu2_squared * V2)

    def residual(k: float) -> tuple[float, float, float, float]:
        mu0, mu1, mu2_squared = student(k)
        C = mu0 * m + k * mu1 * theta
        error = hh(k) - 2 * C * h(k) + C**2 - 2 * mu1 * psi * h1(k) + mu1**2 * q1 + mu2_squared * q2
        return error, 1 + mu1**2 * V1 + mu2_squared * V2, mu1, mu2_squared

    def q1_integrand(k: float) -> float:
        error, width, mu1, _ = residual(k)
        return mu1**2 * error / width**2

    def q2_integrand(k: float) -> float:
        error, width, _, mu2_squared = residual(k)
        return mu2_squared * error / width**2

    def theta_integrand(k: float) -> float:
        mu0, mu1, mu2_squared = student(k)
        return k * mu1 * (h(k) - mu0 * m - k * mu1 * theta) / (1 + mu1**2 * V1 + mu2_squared * V2)

    def psi_integrand(k: float) -> float:
        _, mu1, mu2_squared = student(k)
        return mu1 * h1(k) / (1 + mu1**2 * V1 + mu2_squared * V2)

    def m_numerator(k: float) -> float:
        mu0, mu1, mu2_squared = student(k)
        return mu0 * (h(k) - k * mu1 * theta) / (1 + mu1**2 * V1 + mu2_squared * V2)

    def m_denominator(k: float) -> float:
        mu0, mu1, mu2_squared = student(k)
        return mu0**2 / (1 + mu1**2 * V1 + mu2_squared * V2)

    while True:
        V1_hat = delta * average(V1_integrand)
        V2_hat = delta * average(V2_integrand)
        q1_hat = delta * average(q1_integrand)
        q2_hat = delta * average(q2_integrand)
        theta_hat = delta * average(theta_integrand)
        psi_hat = delta * average(psi_integrand)

        S = reg + V2_hat + c * V1_hat * D
        source = c * D * q1_hat + q2_hat + beta * c * (F * theta_hat**2 + H * psi_hat**2)
        old = np.array([V1, V2, q1, q2, m, theta, psi])
        image = np.array(
            [
                np.sum(c * D / S) / p,
                np.sum(1 / S) / p,
                np.sum(c * D * source / S**2) / p,
                np.sum(source / S**2) / p,
                average(m_numerator) / average(m_denominator),
                beta * c * np.sum(F / S) / p * theta_hat,
                beta * c * np.sum(H / S) / p * psi_hat,
            ]
        )
        new = (old + image) / 2
        V1, V2, q1, q2, m, theta, psi = map(float, new)
        iterations += 1
        if np.abs(new - old).max() < increment:
            break
        if iterations == 1000:
            raise RuntimeError(
                f"no convergence in 1000 iterations at alpha = {alpha:g}, reg = {reg:g}: try a larger reg"
            )

    names = ("V1", "V2", "q1", "q2", "m", "theta", "psi")
    return dict(zip(names, (V1, V2, q1, q2, m, theta, psi), strict=True)) | {
        "test_error": average(lambda k: residual(k)[0]),
        "iterations": iterations,
    }


def main() -> None:
    start = time.perf_counter()
    layer = FirstLayer()
    print(f"first layer and its spectrum: {time.perf_counter() - start:.1f} s")
    print("alpha  test error   / limit - 1  largest deviation  iterations  s/point  s/point memoised")
    names = ("test_error", "V1", "V2", "q1", "q2", "m", "theta", "psi")
    for alpha, *reference in REFERENCE:
        seconds = []
        for memoise in (False, True):
            start = time.perf_counter()
            result = solve(alpha, beta=1, alpha0=20, eta=3, reg=0.1, layer=layer, memoise=memoise)
            seconds.append(time.perf_counter() - start)
        ratio = np.array([result[name] for name in names]) / reference - 1
        print(
            f"{alpha:5.1f}  {result['test_error']:.9f}  {ratio[0]:11.1e}  {np.abs(ratio).max():17.1e}"
            f"  {result['iterations']:10.0f}  {seconds[0]:7.2f}  {seconds[1]:16.2f}"
        )


if __name__ == "__main__":
    main()
