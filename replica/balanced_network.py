"""Two-layer linear networks of any sizes, started balanced: exact at any time by a matrix Riccati equation.

``y = W2 W1 x`` with whitened inputs learns the correlation ``Sigma`` by gradient flow on ``|Sigma - W2 W1|^2 / 2``.  If
``W2^T W2 - W1 W1^T = lam 1`` at the start, the Gram matrix of ``(W1^T; W2)`` obeys a closed equation.  The weights themselves
are then known up to a rotation of the hidden layer.

References
----------
.. [1] K. Fukumizu, GMD Report 43 (1998).  .. [2] L. Braun et al., NeurIPS 2022.  .. [3] C. Domine et al., arXiv:2409.14623.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import sympy as sp
from scipy.integrate import solve_ivp

from solvers.result import Result, Trajectory
from solvers.riccati import riccati_trajectory

from .flow import Certificate


class BalanceError(ValueError):
    """Weights that are not balanced, or matrices that do not fit; one line, fit for a user."""


class BalancedNetwork:
    """A balanced two-layer linear network.

    Parameters
    ----------
    W1 : array_like, shape (hidden, inputs)
    W2 : array_like, shape (outputs, hidden)
    Sigma : array_like, shape (outputs, inputs)
        Input-output correlation E[y x^T]; inputs have unit covariance.
    eta_1, eta_2 : float
        Learning rates of the layers, positive.
    balance_tol : float
        Largest defect of the balance, relative to the squared norm of the weights.

    Raises
    ------
    BalanceError
        Naming the shapes, the entries that are not finite, or the measured defect of the balance.

    Attributes
    ----------
    lam : float
        ``W2^T W2 / eta_2 - W1 W1^T / eta_1 = lam / sqrt(eta_1 eta_2)`` times the identity.
    """

    name = "balanced-network"

    def __init__(
        self, W1: Any, W2: Any, Sigma: Any, eta_1: float = 1.0, eta_2: float = 1.0, balance_tol: float = 1e-10
    ) -> None:
        self.W1, self.W2, self.Sigma = (_matrix(n, m) for n, m in (("W1", W1), ("W2", W2), ("Sigma", Sigma)))
        if self.W2.shape[1] != self.W1.shape[0] or self.Sigma.shape != (self.W2.shape[0], self.W1.shape[1]):
            raise BalanceError(
                f"{self.name}: shapes W1 {self.W1.shape}, W2 {self.W2.shape}, Sigma {self.Sigma.shape} do not fit: they must be "
                "(hidden, inputs), (outputs, hidden), (outputs, inputs)"
            )
        for name, rate in (("eta_1", eta_1), ("eta_2", eta_2)):
            if not (np.isfinite(rate) and rate > 0):
                raise BalanceError(f"{self.name}: {name} = {rate:g} is outside its range (0, inf)")
        self.eta_1, self.eta_2 = float(eta_1), float(eta_2)
        # In these units both layers learn with rate 1, in time kappa t.
        self.kappa = np.sqrt(self.eta_1 * self.eta_2)
        self.scale_1, self.scale_2 = np.sqrt(self.kappa / self.eta_1), np.sqrt(self.kappa / self.eta_2)
        first, second = self.scale_1 * self.W1, self.scale_2 * self.W2
        balance = second.T @ second - first @ first.T
        self.lam = float(np.trace(balance) / len(balance))
        defect = float(np.linalg.norm(balance - self.lam * np.eye(len(balance)), 2))
        size = float(np.sum(first**2) + np.sum(second**2))
        if defect > balance_tol * size:
            raise BalanceError(
                f"{self.name}: the weights are not balanced: W2^T W2 - W1 W1^T differs from the closest multiple of the "
                f"identity, lam = {self.lam:.6g}, by {defect:.2e}, more than {balance_tol:g} of the squared norm {size:.3g}; "
                "start from BalancedNetwork.random, or integrate the weights with simulate()"
            )
        self._start = np.vstack([first.T, second])

    @classmethod
    def random(
        cls, inputs: int, hidden: int, outputs: int, lam: float, scale: float, seed: int, Sigma: Any = None
    ) -> BalancedNetwork:
        """Random balanced weights with singular values up to `scale`, and a random `Sigma` if none is given.

        Raises
        ------
        BalanceError
            If no such weights exist: lam > 0 needs outputs >= hidden, lam < 0 needs inputs >= hidden.
        """
        if (lam > 0 and outputs < hidden) or (lam < 0 and inputs < hidden):
            raise BalanceError(
                f"{cls.name}: lam = {lam:g} needs at least {hidden} {'outputs' if lam > 0 else 'inputs'}, as many as hidden "
                f"units; there are {outputs if lam > 0 else inputs}"
            )
        rng = np.random.default_rng(seed)
        rank = min(inputs, hidden, outputs)
        values = np.zeros(hidden)
        values[:rank] = scale * np.sqrt(rng.uniform(0.1, 1, rank))
        # Squared singular values of W2 exceed those of W1 by lam, hidden direction by hidden direction.
        b2, a2 = (values**2 + lam, values**2) if lam >= 0 else (values**2, values**2 - lam)
        R, V, U = (np.linalg.qr(rng.standard_normal((n, n)))[0] for n in (hidden, inputs, outputs))
        W1, W2 = np.zeros((hidden, inputs)), np.zeros((outputs, hidden))
        for i in range(hidden):
            if i < inputs:
                W1 += np.sqrt(a2[i]) * np.outer(R[:, i], V[:, i])
            if i < outputs:
                W2 += np.sqrt(b2[i]) * np.outer(U[:, i], R[:, i])
        return cls(W1, W2, rng.standard_normal((outputs, inputs)) if Sigma is None else Sigma)

    def solve(self, times: Any) -> Trajectory:
        """The network at any times, inf included.

        Returns
        -------
        Trajectory
            Values, time first: `output` W2 W1, `loss`, `gap` |Sigma - W2 W1|, `representation_in` W1^T W1,
            `representation_out` W2 W2^T, `ntk_trace`, `singular_values` of the output.

        Raises
        ------
        BalanceError
            For a negative or nan time.
        """
        times = np.atleast_1d(np.asarray(times, dtype=float))
        if times.ndim != 1 or not times.size or not (times >= 0).all():
            raise BalanceError(f"{self.name}: times must be a list of numbers in [0, inf]")
        n_in = self.W1.shape[1]
        n_out = self.W2.shape[0]
        F = np.block([[-self.lam / 2 * np.eye(n_in), self.Sigma.T], [self.Sigma, self.lam / 2 * np.eye(n_out)]])
        found = riccati_trajectory(self._start, F, self.kappa * times)
        S = found.S
        return self._trajectory(
            times,
            S[:, n_in:, :n_in] / (self.scale_1 * self.scale_2),
            S[:, :n_in, :n_in] / self.scale_1**2,
            S[:, n_in:, n_in:] / self.scale_2**2,
            found.error,
        )

    def simulate(self, times: Any) -> Trajectory:
        """The same by integrating the weights; finite ascending times, any weights, balanced or not."""
        times = np.atleast_1d(np.asarray(times, dtype=float))
        split = self.W1.size

        def velocity(t: float, x: np.ndarray) -> np.ndarray:
            W1, W2 = x[:split].reshape(self.W1.shape), x[split:].reshape(self.W2.shape)
            rest = self.Sigma - W2 @ W1
            return np.concatenate([(self.eta_1 * W2.T @ rest).ravel(), (self.eta_2 * rest @ W1.T).ravel()])

        start = np.concatenate([self.W1.ravel(), self.W2.ravel()])
        end = max(float(times[-1]), 1e-300)
        found = solve_ivp(velocity, (0.0, end), start, "DOP853", t_eval=times, rtol=1e-12, atol=1e-14)
        W1, W2 = found.y[:split].T.reshape(-1, *self.W1.shape), found.y[split:].T.reshape(-1, *self.W2.shape)
        return self._trajectory(
            times, W2 @ W1, W1.transpose(0, 2, 1) @ W1, W2 @ W2.transpose(0, 2, 1), np.full(len(times), 1e-9)
        )

    def _trajectory(self, times: Any, output: Any, inner: Any, outer: Any, error: Any) -> Trajectory:
        gap = np.linalg.norm(self.Sigma - output, axis=(1, 2))
        trace_in, trace_out = np.trace(inner, axis1=1, axis2=2), np.trace(outer, axis1=1, axis2=2)
        n_out, n_in = self.Sigma.shape
        return Trajectory(
            model=self.name,
            parameters={"lam": self.lam, "eta_1": self.eta_1, "eta_2": self.eta_2},
            times=times,
            values={
                "output": output,
                "loss": gap**2 / 2,
                "gap": gap,
                "ntk_trace": self.eta_2 * n_out * trace_in + self.eta_1 * n_in * trace_out,
                "representation_in": inner,
                "representation_out": outer,
                "singular_values": np.linalg.svd(output, compute_uv=False),
            },
            result=np.full(len(times), Result.CONVERGED.value, dtype=np.int8),
            residual=np.zeros(len(times)),
            error=np.asarray(error),
            quadrature_error=np.zeros(len(times)),
        )


def certificates() -> list[Certificate]:
    """That the closed form solves the Riccati equation, and that balance closes the flow of the Gram matrix.

    Noncommutative symbols: E = exp(F t) commutes with F, ``D' = E^2`` for the integral in the bracket M = 1 + Q^T D Q, and
    ``(M^-1)' = -M^-1 M' M^-1``.
    """
    Q, QT, E, F, M = sp.symbols("Q Qt E F M_inv", commutative=False)
    S = E * Q * M * QT * E
    derivative = F * S + S * F - E * Q * M * (QT * E * E * Q) * M * QT * E
    riccati = sp.expand(derivative - (F * S + S * F - S * S))
    W1, W1T, W2, W2T, Sig, SigT = sp.symbols("W1 W1t W2 W2t Sigma Sigmat", commutative=False)
    lam = sp.Symbol("lam")
    # The block W1^T W1 of S, with W1' = W2^T (Sigma - W2 W1); balance: W2^T W2 = lam + W1 W1^T.
    flow = W1T * (W2T * (Sig - W2 * W1)) + (SigT - W1T * W2T) * W2 * W1
    balanced = sp.expand(flow).subs(W2T * W2, lam + W1 * W1T)
    # F S + S F - S^2 in that block, S12 = (W2 W1)^T, S11 = W1^T W1
    block = -lam * W1T * W1 + SigT * W2 * W1 + W1T * W2T * Sig - W1T * W1 * W1T * W1 - W1T * W2T * W2 * W1
    reduced = sp.expand(balanced - block.subs(W2T * W2, lam + W1 * W1T))
    return [
        Certificate("S = E Q (1 + Q^T D Q)^-1 Q^T E solves S' = F S + S F - S^2", "identity", riccati == 0),
        Certificate("for balanced weights the flow of W1^T W1 is that block of the equation", "identity", reduced == 0),
    ]


def _matrix(name: str, value: Any) -> np.ndarray:
    try:
        matrix = np.array(value, dtype=float)
    except (TypeError, ValueError):
        raise BalanceError(f"balanced-network: {name} is not a matrix of numbers") from None
    if matrix.ndim != 2 or not matrix.size:
        raise BalanceError(f"balanced-network: {name} has shape {matrix.shape}; a matrix with rows and columns is needed")
    if not np.isfinite(matrix).all():
        raise BalanceError(f"balanced-network: {name} has entries that are not finite")
    return matrix
