"""Any number of giant steps of a finite network, in terms of its overlaps M = W W*^T and Q = W W^T.

Each step sees a fresh batch of n = alpha d samples.  With ``A = (I, 0) + D G`` and D the steps t_i,

    M' = (A Omega)_z,    Q' = A Omega A^T + D N D / alpha,

which is population gradient descent plus batch noise, orthogonal to everything and shared between neurons.  alpha = inf is exact
at every d; finite alpha is asymptotic.  Steps t = gamma alpha with alpha -> 0 become one-pass SGD in time samples/d (Saad and
Solla), for which the Gram term of the drift drops out.

Takes arrays and is no `Model`: overlaps of p neurons do not fit a parameter vector, and averages over several fields are not made
by generated kernels.  It returns the same `Trajectory`.

References
----------
.. [1] docs/theory/giant_steps.md, A5.  .. [2] D. Saad, S. A. Solla, Phys. Rev. E 52, 4225 (1995).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.integrate import solve_ivp

from solvers.result import Result, Trajectory

from .averages import Averages, Rule, Student, product_rule, sobol_rule
from .erf_averages import erf_rule
from .forms import ErfForm, erf_scale
from .moments import GiantStepError
from .pair_averages import pair_rule

Array = np.ndarray

RULES = ("auto", "closed", "pairs", "product", "sobol")
#: Largest number of fields for the product rule, and its steps: the second is the answer, the first measures the error.
PRODUCT_RANK, PRODUCT_STEPS = 3, {2: (0.15, 0.1), 3: (0.3, 0.22)}
PAIR_NODES = (10, 14)
#: Up to this width the drift of sampled rules comes from pairs; their p^2/2 panels cost more than they gain for many neurons.
MOST_PAIRED = 12
#: Independent sets of Sobol points; the error is the scatter of whole trajectories.
SETS = 8
ROUNDING = 1e-12


@dataclass(frozen=True)
class Labels:
    """What the recursion knows of a target; rules that lack something are not offered.

    Attributes
    ----------
    r : int
        Dimension of the teacher space.
    numeric : callable
        g on arrays of shape (n, r).
    tensors : sequence of ndarray or None
        C_0, ..., C_degree of a polynomial target.
    second : float
        E[g^2], used with `tensors`.
    erf : ErfForm or None
    smooth : bool
        Whether the product rule converges fast.
    """

    r: int
    numeric: Callable[[Array], Array]
    tensors: Sequence[Array] | None = None
    second: float = math.nan
    erf: ErfForm | None = None
    smooth: bool = False


class GiantSteps:
    """Training of the first layer by giant steps, or by one-pass SGD.

    Parameters
    ----------
    target : Labels
    student : Student
    alpha : float
        Samples per dimension of every batch, in (0, inf].
    eta : float
        Step; neuron i moves by ``t_i = eta a_i / sqrt(p)`` along its gradient.
    noise : float
        Variance of the label noise.
    M, Q : ndarray, shapes (p, r) and (p, p), optional
        Overlaps at the start; 0 and the identity (random weights of unit norm, d -> infinity) if left out.
    rule : str
        One of `RULES`; ``auto`` takes the first that applies: closed (erf networks), pairs (alpha = inf, polynomial targets),
        product (smooth, few fields), sobol.
    power : int
        Sobol points are 2^power in each of 8 independent sets.
    jumps : bool
        Whether the activation jumps, so that the slope it is trained with is not its derivative; `pairs` needs that it is.

    Raises
    ------
    GiantStepError
        For values out of range, overlaps of no vectors, or a rule that does not apply.
    """

    name = "giant-steps"

    def __init__(
        self, target: Labels, student: Student, *, alpha: float, eta: float, noise: float = 0.0, M: Any = None, Q: Any = None,
        rule: str = "auto", power: int = 15, jumps: bool = False,
    ) -> None:  # fmt: skip
        p, r = student.width, target.r
        self.target, self.student, self.power, self.jumps = target, student, power, jumps
        for name, value, text, good in (
            ("alpha", alpha, "(0, inf]", alpha > 0),
            ("eta", eta, "(-inf, inf)", math.isfinite(eta)),
            ("noise", noise, "[0, inf)", 0 <= noise < math.inf),
            ("power", power, "[6, 22]", 6 <= power <= 22),
        ):
            if not good:
                raise GiantStepError(f"{self.name}: {name} = {value:g} is outside its range {text}")
        self.alpha, self.eta, self.noise = float(alpha), float(eta), float(noise)
        self.M = np.zeros((p, r)) if M is None else np.asarray(M, dtype=float)
        self.Q = np.eye(p) if Q is None else np.asarray(Q, dtype=float)
        if self.M.shape != (p, r) or self.Q.shape != (p, p):
            raise GiantStepError(
                f"{self.name}: M and Q have shapes {self.M.shape} and {self.Q.shape}; they must be {(p, r)} and {(p, p)}"
            )
        omega = self._omega(self.M, self.Q)
        if not np.isfinite(omega).all() or not np.allclose(self.Q, self.Q.T) or np.linalg.eigvalsh(omega)[0] < -1e-8:
            raise GiantStepError(f"{self.name}: M and Q at the start are not the overlaps of any vectors")
        self.rule = self._chosen(rule)

    # ---------------------------------------------------------------- rules

    def _offered(self) -> list[str]:
        target, student = self.target, self.student
        offered = []
        if target.erf is not None and erf_scale(student.activation) and not student.biases.any():
            offered.append("closed")
        if self._pairs and math.isinf(self.alpha):
            offered.append("pairs")
        if target.smooth and not student.activation.kinks and student.width + target.r <= PRODUCT_RANK:
            offered.append("product")
        return [*offered, "sobol"]

    @property
    def _pairs(self) -> bool:
        return self.target.tensors is not None and not self.jumps

    def _chosen(self, rule: str) -> str:
        offered = self._offered()
        if rule not in RULES:
            raise GiantStepError(f"{self.name}: unknown rule {rule!r}; it is one of {', '.join(RULES)}")
        if rule != "auto" and rule not in offered:
            raise GiantStepError(
                f"{self.name}: rule {rule} does not apply to this network and target; those that do are {', '.join(offered)}"
            )
        return offered[0] if rule == "auto" else rule

    def _rules(self) -> list[Rule]:
        """One exact rule; a coarse and a fine one; or independent ones."""
        target, student, noise = self.target, self.student, self.noise
        if self.rule == "closed":
            assert target.erf is not None
            return [erf_rule(student, target.erf, noise)]
        if self.rule == "product":
            return [product_rule(student, target, noise, step) for step in PRODUCT_STEPS[student.width + target.r]]
        if self.rule == "pairs":
            assert target.tensors is not None
            return [pair_rule(student, target.tensors, target.second, nodes) for nodes in PAIR_NODES]
        sets = [sobol_rule(student, target, noise, self.power, seed) for seed in range(SETS)]
        if not self._pairs or student.width > MOST_PAIRED:
            return sets
        # The drift of a polynomial target is known better than points tell.
        assert target.tensors is not None
        drift = pair_rule(student, target.tensors, target.second, PAIR_NODES[0])
        return [_joined(drift, points) for points in sets]

    # ---------------------------------------------------------------- steps

    def run(self, steps: int, tolerance: float = 5e-3) -> Trajectory:
        """Take giant steps; times of the trajectory are 0, 1, ..., steps.

        Parameters
        ----------
        steps : int
        tolerance : float
            Largest quadrature error (relative, absolute below 1) of a state called converged.

        Returns
        -------
        Trajectory
            Values, time first: `M` (p, r), `Q` (p, p), `cos2` (p,) with the teacher space, `risk` E(g - f)^2.
        """
        if not (isinstance(steps, int) and 0 <= steps <= 100_000):
            raise GiantStepError(f"{self.name}: steps = {steps!r} is not a whole number in [0, 100000]")
        runs = [self._repeat(rule, steps) for rule in self._rules()]
        return self._trajectory(np.arange(steps + 1.0), runs, tolerance)

    def _repeat(self, rule: Rule, steps: int) -> list[tuple[Array, Array, float]]:
        M, Q = self.M, self.Q
        out = []
        with np.errstate(over="ignore", invalid="ignore"):  # a run that explodes is NONFINITE, not an exception
            for k in range(steps + 1):
                averages = rule(self._omega(M, Q)) if np.isfinite(Q).all() and np.isfinite(M).all() else None
                out.append((M, Q, averages.risk if averages else math.nan))
                if k < steps:
                    M, Q = self._step(M, Q, averages) if averages else (np.full_like(M, np.nan), np.full_like(Q, np.nan))
        return out

    def _step(self, M: Array, Q: Array, averages: Averages) -> tuple[Array, Array]:
        p, omega = len(M), self._omega(M, Q)
        t = self.eta * self.student.outer
        A = np.eye(p, len(omega)) + t[:, None] * averages.G
        moved = A @ omega
        Q = moved @ A.T
        if math.isfinite(self.alpha):
            Q = Q + np.outer(t, t) * averages.N / self.alpha
        return moved[:, p:], (Q + Q.T) / 2

    def flow(self, times: Any, rtol: float | None = None, tolerance: float = 5e-3) -> Trajectory:
        """One-pass SGD, steps gamma_i = eta a_i / sqrt(p) per sample over d: the limit of small batches; alpha plays no part.

        Parameters
        ----------
        times : array_like
            Samples per dimension, ascending from 0 or later, finite.
        rtol : float, optional
            Of the integrator (DOP853); 1e-9, but 1e-4 for `sobol`, whose averages are smooth in pieces only.  The residual is the
            change from a ten times looser run; beyond `tolerance` the state is STALLED.
        tolerance : float
            As for `run`.
        """
        wanted = np.atleast_1d(np.asarray(times, dtype=float))
        if wanted.ndim != 1 or not np.isfinite(wanted).all() or (np.diff(wanted) < 0).any() or not (wanted >= 0).all():
            raise GiantStepError(f"{self.name}: times must be finite, ascending numbers in [0, inf)")
        if self.rule == "pairs":
            raise GiantStepError(f"{self.name}: rule pairs does not know the diffusion of SGD; use sobol, or a finite alpha")
        rules = self._rules()
        rtol = (1e-4 if self.rule == "sobol" else 1e-9) if rtol is None else rtol
        if not 1e-13 <= rtol <= 0.1:
            raise GiantStepError(f"{self.name}: rtol = {rtol:g} is outside its range [1e-13, 0.1]")
        runs = [self._integrate(rule, wanted, rtol) for rule in rules]
        loose = self._integrate(rules[-1], wanted, 10 * rtol)
        stepping = [_difference(a, b) for a, b in zip(loose, runs[-1], strict=True)]
        return self._trajectory(wanted, runs, tolerance, np.array(stepping))

    def _integrate(self, rule: Rule, times: Array, rtol: float) -> list[tuple[Array, Array, float]]:
        p, r = self.M.shape
        gamma = self.eta * self.student.outer

        def velocity(_: float, x: Array) -> Array:
            M, Q = x[: p * r].reshape(p, r), x[p * r :].reshape(p, p)
            omega = self._omega(M, Q)
            averages = rule(omega)
            drift = gamma[:, None] * (averages.G @ omega)
            spread = drift[:, :p] + drift[:, :p].T + np.outer(gamma, gamma) * averages.N
            return np.concatenate([drift[:, p:].ravel(), spread.ravel()])

        start = np.concatenate([self.M.ravel(), self.Q.ravel()])
        end = max(float(times[-1]), 1e-300)
        found = solve_ivp(velocity, (0.0, end), start, "DOP853", t_eval=times, rtol=rtol, atol=rtol)
        states = np.full((times.size, start.size), np.nan)
        states[: found.y.shape[1]] = found.y.T
        out = []
        for x in states:
            M, Q = x[: p * r].reshape(p, r), x[p * r :].reshape(p, p)
            out.append((M, Q, rule(self._omega(M, Q)).risk if np.isfinite(x).all() else math.nan))
        return out

    # ---------------------------------------------------------------- results

    def _omega(self, M: Array, Q: Array) -> Array:
        return np.block([[Q, M], [M.T, np.eye(self.target.r)]])

    def _trajectory(
        self, times: Array, runs: Sequence[Sequence[tuple[Array, Array, float]]], tolerance: float, stepping: Array | None = None
    ) -> Trajectory:
        M, Q, risk = (np.array([[np.asarray(state[k]) for state in run] for run in runs]) for k in range(3))
        with np.errstate(all="ignore"):
            cos2 = np.sum(M**2, axis=-1) / np.einsum("...ii->...i", Q)
            return self._judged(times, {"M": M, "Q": Q, "cos2": cos2, "risk": risk}, tolerance, stepping)

    def _judged(self, times: Array, runs: dict[str, Array], tolerance: float, stepping: Array | None) -> Trajectory:
        """Values, errors and a verdict per time, from repeated trajectories."""
        values, error = {}, np.zeros(len(times))
        scaled = np.zeros(len(times))
        for name, array in runs.items():
            values[name] = array.mean(axis=0) if self.rule == "sobol" else array[-1]
            size = _error(array, self.rule).reshape(len(times), -1)
            error = np.maximum(error, size.max(axis=1))
            largest = np.maximum(1.0, np.abs(values[name]).reshape(len(times), -1))
            scaled = np.maximum(scaled, (size / largest).max(axis=1))
        finite = np.isfinite(error) & np.isfinite(values["risk"])
        result = np.where(finite, np.where(scaled <= tolerance, Result.CONVERGED, Result.QUADRATURE_UNRESOLVED), Result.NONFINITE)
        if stepping is not None:
            result = np.where((result == Result.CONVERGED) & ~(stepping <= tolerance), Result.STALLED, result)
        sizes = {"p": float(self.student.width), "r": float(self.target.r)}
        parameters = {"alpha": self.alpha, "eta": self.eta, "noise": self.noise, **sizes}
        steps = np.zeros(len(times)) if stepping is None else stepping
        rounding = ROUNDING * np.maximum(1.0, np.abs(values["Q"]).reshape(len(times), -1).max(axis=1))
        return Trajectory(self.name, parameters, times, values, result.astype(np.int8), steps, steps + rounding, error)

    def statement(self, flow: bool = False) -> tuple[str, str]:
        """What kind of statement a trajectory is, and in which limit."""
        if flow:
            return "asymptotic", "one-pass SGD with steps eta a_i/(sqrt(p) d), d -> infinity, p fixed"
        if math.isinf(self.alpha):
            return "exact", "population gradient, any d"
        return "asymptotic", "fresh batches of n = alpha d samples, d -> infinity, p fixed"


def _joined(drift: Rule, points: Rule) -> Rule:
    def rule(omega: Array) -> Averages:
        known, sampled = drift(omega), points(omega)
        return Averages(known.G, sampled.N, known.risk)

    return rule


def _error(runs: Array, rule: str) -> Array:
    """Error of every entry: rounding, the move from coarse to fine, or three standard errors of independent runs."""
    if rule == "closed":
        return np.zeros_like(runs[-1])
    if rule == "sobol":
        return 3 * runs.std(axis=0, ddof=1) / math.sqrt(len(runs))
    return np.abs(runs[-1] - runs[0])


def _difference(a: tuple[Array, Array, float], b: tuple[Array, Array, float]) -> float:
    return max(float(np.max(np.abs(np.asarray(x) - np.asarray(y)))) for x, y in zip(a, b, strict=True))
