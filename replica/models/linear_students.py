"""Linear students in the proportional limit: training in time at n/d = alpha, exactly.

Along an eigenvector of X^T X / n everything is linear, so the state evolution is an average over the Marchenko-Pastur law of
what one mode does.  Vectors enter through their overlaps only: `second_moment` takes the average over the initial weights,
the teacher and the label noise of one mode.

References
----------
.. [1] M. Advani, A. Saxe, arXiv:1710.03667 (one layer).
.. [2] docs/theory/linear_network.md, part C (two layers, online).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import sympy as sp

from ..dynamics import EIGENVALUE, DataSum, Derivation, DynamicModel, ModeAverage, State, column, time_parameter
from ..flow import Flow, certify
from ..model import Definition, Observable, OptionError, Parameter, WholeOption
from ..relaxation import elapsed, fade, spelled_out, times
from .linear_simulations import online_student, ridge_flow_student, two_layer_student

h = EIGENVALUE
#: 1 for the modes that the data see.
SEEN = sp.Piecewise((1, h > 0), (0, True))


def second_moment(a: Any, b: Any, sources: Sequence[Any], covariance: Any) -> Any:
    """E[a b] for a, b linear in `sources`, random with this covariance."""
    left, right = (sp.Matrix([sp.diff(x, s) for s in sources]) for x in (a, b))
    return (left.T * sp.Matrix(covariance) * right)[0, 0]


class Student(DynamicModel):
    """What the students on finite data share."""

    references: ClassVar[str] = "docs/theory/linear_network.md, part C; arXiv:1710.03667"

    alpha = Parameter("samples per dimension, n/d", lower=0, lower_open=True, latex=r"\alpha")
    noise = Parameter("label noise variance", lower=0, default=0.0, latex=r"\Delta")
    signal = Parameter("squared norm of the teacher", lower=0, default=1.0, latex="S")

    def samples_per_dimension(self) -> Any:
        return self.alpha

    def unseen_noise(self) -> Any:
        """Label noise orthogonal to the inputs, which no student can fit."""
        return self.noise * sp.Max(0, 1 - 1 / self.alpha)


class LinearStudent(Student):
    """Ridge regression by gradient flow: test and training error in time, at n, d -> infinity with n/d = alpha.

    Inputs x ~ N(0, 1), labels ``y = <w*, x> + sqrt(noise) xi`` with ``|w*|^2 = signal``; the student follows
    ``w' = -(X^T (X w - y)/n + reg w)`` from ``|w|^2 = q0``, at an angle of cosine `cos_angle0`
    to w*.  Exact; at time inf it is ridge regression.
    """

    name: ClassVar[str] = "linear-student"
    title: ClassVar[str] = "Linear student in time, gradient flow with ridge penalty"
    kind: ClassVar[str] = "closed"

    reg = Parameter("ridge penalty lambda", lower=0, default=0.0, latex=r"\lambda")
    q0 = Parameter("squared norm of the student at time 0", lower=0, default=0.0, latex="q_0")
    cos_angle0 = Parameter("cosine of the angle between student and teacher at time 0", lower=-1, upper=1, default=0.0,
                           latex=r"\cos\theta_0")  # fmt: skip
    time = time_parameter(infinite=True)

    m = Observable("overlap of student and teacher")
    q = Observable("squared norm of the student", lower=0)
    test_error = Observable("mean squared test error, label noise included", lower=0, latex=r"\epsilon_{\rm test}")
    train_error = Observable("mean squared training residual", lower=0, latex=r"\epsilon_{\rm train}")

    def mode(self) -> dict[str, Any]:
        """One mode, from gradient flow on ``(sqrt(h) (w - t) - xi)^2/2 + reg w^2/2``: weight, error, residual, flow."""
        w0, t, xi = sp.symbols("w0 t xi", real=True)
        kept, gained = fade(h + self.reg, self.time), elapsed(-(h + self.reg), self.time)
        # 1 - h gained, without the cancellation
        missed = kept + times(self.reg, gained)
        noisy = sp.sqrt(times(h, gained**2))
        return {
            "sources": (w0, t, xi),
            "weight": kept * w0 + times(h, gained) * t + noisy * xi,
            "error": kept * w0 - missed * t + noisy * xi,
            "residual": sp.sqrt(h) * (kept * w0 - missed * t) - missed * xi,
        }

    def derivation(self) -> Derivation:
        """One mode: the gradient flow of its loss, and that the closed form solves it."""
        w = sp.Symbol("w", real=True)
        mode = self.mode()
        w0, t, xi = mode["sources"]
        residual = sp.sqrt(h) * (w - t) - xi
        flow = Flow.gradient(residual**2 / 2 + self.reg * w**2 / 2, {w: 1})
        weight, error, rest = (spelled_out(mode[name]) for name in ("weight", "error", "residual"))
        return Derivation(
            flow,
            [],
            {w: mode["weight"]},
            [
                certify("w(t) solves the flow", sp.diff(weight, self.time) - flow.field[w].subs(w, weight)),
                certify("w(0) = w0", weight.subs(self.time, 0) - w0),
                certify("error is w(t) - t", error - (weight - t)),
                certify("residual is sqrt(h) (w(t) - t) - xi", rest - residual.subs(w, weight)),
            ],
        )

    def observables(self) -> Mapping[Any, Any]:
        mode = self.mode()
        sources = mode["sources"]
        m0 = self.cos_angle0 * sp.sqrt(self.q0 * self.signal)
        covariance = [[self.q0, m0, 0], [m0, self.signal, 0], [0, 0, self.noise / self.alpha]]

        def moment(a: Any, b: Any) -> Any:
            return second_moment(a, b, sources, covariance)

        error, residual = mode["error"], mode["residual"]
        return {
            self.m: ModeAverage(moment(mode["weight"], sources[1])),
            self.q: ModeAverage(moment(mode["weight"], mode["weight"])),
            self.test_error: ModeAverage(moment(error, error)) + self.noise,
            self.train_error: ModeAverage(SEEN * moment(residual, residual)) + self.unseen_noise(),
        }

    def simulate(self, parameters: Mapping[str, float], size: int, rng: Any) -> dict[str, float]:
        """One draw of data in dimension `size`, its flow solved exactly."""
        p = dict(parameters)
        p["m0"] = p.pop("cos_angle0") * np.sqrt(p["q0"] * p["signal"])
        return _at_time(ridge_flow_student, p, size, rng)


class TwoLayerStudent(Student):
    """Two-layer linear student with k hidden units on finite data: exact state evolution of gradient flow.

    ``f = gamma u.W x`` with W of size k x d, loss ``sum (y - f)^2/(2 n)`` and `decay` on both layers, rates `eta_u` and
    `eta_w`; inputs and labels as for `linear-student`.  Exact at n, d -> infinity with n/d = alpha and k fixed: each mode
    of W is linear in its start, the teacher and the noise, driven by u(t), which averages over the modes.

    Parameters
    ----------
    hidden : int
        Number of hidden units k, 1 to 8.
    u0, K0, o0 : array_like, optional
        Initial ``u`` (k), ``W W^T`` (k, k) and ``W w*/|w*|`` (k), before the factors `scale_u` and `scale_w`.  If left
        out: ones over sqrt(k), the identity over k, and zero.

    Raises
    ------
    OptionError
        If an array has a wrong shape or is not finite, or `K0` and `o0` are not the overlaps of any vectors.
    """

    name: ClassVar[str] = "two-layer-student"
    title: ClassVar[str] = "Two-layer linear student in time, on finite data"
    kind: ClassVar[str] = "flow"

    gamma = Parameter("output multiplier", default=1.0, latex=r"\gamma")
    eta_u = Parameter("learning rate of the outer layer", lower=0, default=1.0, latex=r"\eta_u")
    eta_w = Parameter("learning rate of the inner layer", lower=0, default=1.0, latex=r"\eta_w")
    decay = Parameter("weight decay of both layers", lower=0, default=0.0, latex=r"\mu")
    scale_u = Parameter("factor of the initial outer weights", default=1.0, latex=r"\sigma_u")
    scale_w = Parameter("factor of the initial inner weights", default=1.0, latex=r"\sigma_w")
    time = time_parameter(infinite=False)

    hidden = WholeOption("number of hidden units k", "1", lowest=1, highest=8)

    start_u = Definition("outer weights at time 0", latex="u_0", index=("unit",))
    start_K = Definition("W W^T at time 0", latex="K_0", index=("unit", "unit"))
    start_o = Definition("W w* at time 0", latex="o_0", index=("unit",))

    u = State("outer weights", index=("unit",))
    W = State("response of a mode to its start", index=("unit", "unit"), per_mode=True)
    b = State("response of a mode to the teacher", index=("unit",), per_mode=True)
    c = State("response of a mode to the noise", index=("unit",), per_mode=True)

    test_error = Observable("mean squared test error, label noise included", lower=0, latex=r"\epsilon_{\rm test}")
    train_error = Observable("mean squared training residual", lower=0, latex=r"\epsilon_{\rm train}")
    outer = Observable("outer weights", latex="u", index=("unit",))
    norm_w2 = Observable("squared norm of the inner layer", lower=0, latex="|W|^2")
    overlap = Observable("gamma u.W w*: overlap of student and teacher", latex="m")

    def __init__(self, u0: Any = None, K0: Any = None, o0: Any = None, **options: Any) -> None:
        super().__init__(**options)
        k = self.hidden
        self.u0 = _array(self.name, "u0", u0, np.full(k, k**-0.5))
        self.K0 = _array(self.name, "K0", K0, np.eye(k) / k)
        self.o0 = _array(self.name, "o0", o0, np.zeros(k))
        _check_overlaps(self.name, "K0 and o0", np.block([[self.K0, self.o0[:, None]], [self.o0[None, :], np.ones((1, 1))]]))

    def sizes(self) -> dict[str, int | None]:
        return {"unit": self.hidden}

    def data(self) -> Mapping[str, np.ndarray]:
        """One row: the initial overlaps."""
        return _one_row({"u0": self.u0, "K0": self.K0, "o0": self.o0})

    def definitions(self) -> Mapping[Any, Any]:
        scales = {"u0": self.scale_u, "K0": self.scale_w**2, "o0": self.scale_w * sp.sqrt(self.signal)}
        given = {self.start_u: ("u0", self.u0), self.start_K: ("K0", self.K0), self.start_o: ("o0", self.o0)}
        return {
            symbol: scales[name] * DataSum(column(key))
            for array, (name, values) in given.items()
            for symbol, key in zip(array, _keys(name, values), strict=True)
        }

    def initial(self) -> Mapping[Any, Any]:
        k = self.hidden
        return {
            **dict(zip(self.u, self.start_u, strict=True)),
            **dict(zip(self.W, sp.eye(k), strict=True)),
            **dict.fromkeys([*self.b, *self.c], sp.S.Zero),
        }

    def _mode(self) -> tuple[Any, Any, Any, Any]:
        """Sources of a mode, their covariance, its weights in terms of them, and its training residual."""
        k = self.hidden
        w0 = sp.Matrix([sp.Symbol(f"w0_{a}", real=True) for a in range(k)])
        t, xi = sp.symbols("t xi", real=True)
        covariance = sp.zeros(k + 2, k + 2)
        covariance[:k, :k] = self.start_K
        covariance[:k, k] = self.start_o
        covariance[k, :k] = self.start_o.T
        covariance[k, k] = self.signal
        covariance[k + 1, k + 1] = self.noise / self.alpha
        weights = self.W * w0 + self.b * t + self.c * xi
        return [*w0, t, xi], covariance, weights, sp.sqrt(h) * (self.gamma * (self.u.T * weights)[0, 0] - t) - xi

    def field(self) -> Mapping[Any, Any]:
        """Gradient flow on ``residual^2/2 + decay (|u|^2 + |W|^2)/2``, mode by mode."""
        sources, covariance, weights, residual = self._mode()
        k = self.hidden
        out: dict[Any, Any] = {}
        for a in range(k):
            slope = sp.sqrt(h) * self.gamma * weights[a]  # of the residual, in u_a
            pull = ModeAverage(SEEN * second_moment(residual, slope, sources, covariance))
            out[self.u[a]] = -self.eta_u * (pull + self.decay * self.u[a])
            moved = -self.eta_w * (sp.sqrt(h) * self.gamma * self.u[a] * residual + self.decay * weights[a])
            responses = [*self.W[a, :], self.b[a], self.c[a]]
            out |= {x: sp.diff(moved, s) for x, s in zip(responses, sources, strict=True)}
        return out

    def observables(self) -> Mapping[Any, Any]:
        sources, covariance, weights, residual = self._mode()
        k = self.hidden
        student, teacher = self.gamma * (self.u.T * weights)[0, 0], sources[k]

        def moment(a: Any, b: Any) -> Any:
            return second_moment(a, b, sources, covariance)

        return {
            self.test_error: ModeAverage(moment(student - teacher, student - teacher)) + self.noise,
            self.train_error: ModeAverage(SEEN * moment(residual, residual)) + self.unseen_noise(),
            self.outer: self.u,
            self.norm_w2: ModeAverage(sum(moment(w, w) for w in weights)),
            self.overlap: ModeAverage(moment(student, teacher)),
        }

    def simulate(self, parameters: Mapping[str, float], size: int, rng: Any) -> dict[str, float]:
        """One draw of data and weights in dimension `size`, all weights trained."""
        p = dict(parameters)
        u, w = p.pop("scale_u"), p.pop("scale_w")
        start = {"u0": u * self.u0, "K0": w**2 * self.K0, "o0": w * np.sqrt(p["signal"]) * self.o0}
        found = _at_time(two_layer_student, p, size, rng, **start)
        return {"outer" if name == "u" else name: value for name, value in found.items()}


class OnlineStudent(DynamicModel):
    """One-pass stochastic gradient descent of a two-layer linear student: exact order parameters at d -> infinity.

    ``y = a.(W* x)/sqrt(d) + sqrt(noise) xi`` and ``f = v.(W x)/sqrt(d)``, every sample used once, time = samples/d.  Order
    parameters R = W W*^T/d and Q = W W^T/d; T = W* W*^T/d.  Source: docs/theory/linear_network.md, section C.4.

    Parameters
    ----------
    a, T, v0, R0, Q0 : array_like
        Teacher (m), (m, m); student at time 0 (k), (k, m), (k, k).  If left out: one unit each, a = v = T = 1, R = 0, Q = 1.

    Raises
    ------
    OptionError
        If shapes do not fit or the overlaps are not those of any vectors.
    """

    name: ClassVar[str] = "online-student"
    title: ClassVar[str] = "Two-layer linear student, one-pass SGD"
    references: ClassVar[str] = "docs/theory/linear_network.md, section C.4; Saad, Solla, Phys. Rev. E 52, 4225 (1995)"
    kind: ClassVar[str] = "flow"

    eta_w = Parameter("learning rate of the inner layer", lower=0, default=1.0, latex=r"\eta_w")
    eta_v = Parameter("learning rate of the outer layer", lower=0, default=0.0, latex=r"\eta_v")
    noise = Parameter("label noise variance", lower=0, default=0.0, latex=r"\Delta")
    time = time_parameter(infinite=False)

    start_a = Definition("outer weights of the teacher", latex="a", index=("teacher",))
    start_T = Definition("overlaps of the teacher", latex="T", index=("teacher", "teacher"))
    start_v = Definition("outer weights at time 0", latex="v_0", index=("unit",))
    start_R = Definition("overlaps with the teacher at time 0", latex="R_0", index=("unit", "teacher"))
    start_Q = Definition("overlaps of the student at time 0", latex="Q_0", index=("unit", "unit"))

    r = State("overlaps with the teacher", index=("unit", "teacher"))
    s = State("overlaps of the student", index=("unit", "unit"), symmetric=True)
    v = State("outer weights", index=("unit",))

    test_error = Observable("mean squared test error, label noise included", lower=0, latex=r"\epsilon_{\rm test}")
    R = Observable("overlaps with the teacher", index=("unit", "teacher"))
    Q = Observable("overlaps of the student", index=("unit", "unit"))
    outer = Observable("outer weights", latex="v", index=("unit",))

    def __init__(self, a: Any = None, T: Any = None, v0: Any = None, R0: Any = None, Q0: Any = None) -> None:
        super().__init__()
        self.a = _vector(self.name, "a", 1.0 if a is None else a)
        self.v0 = _vector(self.name, "v0", 1.0 if v0 is None else v0)
        m, k = self.a.size, self.v0.size
        self.T = _array(self.name, "T", T, np.eye(m))
        self.R0 = _array(self.name, "R0", R0, np.zeros((k, m)))
        self.Q0 = _array(self.name, "Q0", Q0, np.eye(k))
        _check_overlaps(self.name, "T, R0 and Q0", np.block([[self.T, self.R0.T], [self.R0, self.Q0]]))

    @property
    def options(self) -> dict[str, str]:
        return {"hidden": str(self.v0.size), "teacher": str(self.a.size)}

    def sizes(self) -> dict[str, int | None]:
        return {"unit": self.v0.size, "teacher": self.a.size}

    def _given(self) -> dict[str, np.ndarray]:
        return {"a": self.a, "T": self.T, "v": self.v0, "R": self.R0, "Q": self.Q0}

    def data(self) -> Mapping[str, np.ndarray]:
        """One row: the initial overlaps."""
        return _one_row(self._given())

    def definitions(self) -> Mapping[Any, Any]:
        arrays = [self.start_a, self.start_T, self.start_v, self.start_R, self.start_Q]
        return {
            symbol: DataSum(column(key))
            for array, (name, values) in zip(arrays, self._given().items(), strict=True)
            for symbol, key in zip(array, _keys(name, values), strict=True)
        }

    def initial(self) -> Mapping[Any, Any]:
        start = dict(zip(self.r, self.start_R, strict=True)) | dict(zip(self.v, self.start_v, strict=True))
        return start | dict(zip(self.s, self.start_Q, strict=True))

    def _fields(self) -> tuple[Any, Any, Any]:
        """Covariance of teacher and student fields, and the error ``y - f`` (without noise) as coefficients of them."""
        top, bottom = sp.Matrix(self.start_T).row_join(self.r.T), sp.Matrix(self.r).row_join(sp.Matrix(self.s))
        error = sp.Matrix([*self.start_a, *(-self.v)])
        return top.col_join(bottom), error, (error.T * top.col_join(bottom) * error)[0, 0]

    def field(self) -> Mapping[Any, Any]:
        covariance, error, variance = self._fields()
        m, k = self.a.size, self.v0.size
        pull = covariance * error  # E[error x field], teacher fields first
        dr, dl = pull[:m, :], pull[m:, :]
        R = self.eta_w * self.v * dr.T
        Q = self.eta_w * (self.v * dl.T + dl * self.v.T) + self.eta_w**2 * self.v * self.v.T * (variance + self.noise)
        v = self.eta_v * dl
        out = dict(zip(self.r, R, strict=True)) | dict(zip(self.v, v, strict=True))
        return out | {self.s[i, j]: Q[i, j] for i in range(k) for j in range(i, k)}

    def observables(self) -> Mapping[Any, Any]:
        return {self.test_error: self._fields()[2] + self.noise, self.R: self.r, self.Q: self.s, self.outer: self.v}

    def simulate(self, parameters: Mapping[str, float], size: int, rng: Any) -> dict[str, float]:
        """One pass over fresh samples in dimension `size`."""
        start = {"a": self.a, "T": self.T, "v0": self.v0, "R0": self.R0, "Q0": self.Q0}
        found = _at_time(online_student, parameters, size, rng, **start)
        return {"outer" if name == "v" else name: value for name, value in found.items()}


def _numbers(model: str, name: str, value: Any) -> np.ndarray:
    try:
        return np.asarray(value, dtype=float)
    except (TypeError, ValueError):
        raise OptionError(f"{model}: {name} = {value!r} is not an array of numbers") from None


def _vector(model: str, name: str, value: Any) -> np.ndarray:
    array = np.atleast_1d(_numbers(model, name, value))
    if array.ndim != 1 or array.size == 0 or not np.isfinite(array).all():
        raise OptionError(f"{model}: {name} has shape {array.shape}; a non-empty vector of finite numbers is needed")
    return array


def _check_overlaps(model: str, names: str, gram: np.ndarray) -> None:
    """Raise OptionError unless `gram` is symmetric and positive semidefinite, up to rounding."""
    size = np.abs(gram).max()
    if np.abs(gram - gram.T).max() > 1e-12 * size:
        raise OptionError(f"{model}: {names} are not the overlaps of any vectors (not symmetric)")
    least = np.linalg.eigvalsh(gram).min()
    if least < -1e-12 * size:
        raise OptionError(
            f"{model}: {names} are not the overlaps of any vectors (their matrix has the eigenvalue {least:.3g} < 0)"
        )


def _array(model: str, name: str, value: Any, default: np.ndarray) -> np.ndarray:
    array = default if value is None else _numbers(model, name, value)
    if array.shape != default.shape or not np.isfinite(array).all():
        raise OptionError(f"{model}: {name} has shape {array.shape}; finite numbers of shape {default.shape} are needed")
    return array


def _keys(name: str, values: np.ndarray) -> list[str]:
    return [f"{name}_{i}" for i in range(values.size)]


def _one_row(given: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {
        key: np.array([x]) for name, values in given.items() for key, x in zip(_keys(name, values), values.ravel(), strict=True)
    }


def _at_time(simulate: Any, parameters: Mapping[str, float], size: int, rng: Any, **start: Any) -> dict[str, Any]:
    p = dict(parameters)
    times = np.array([p.pop("time")])
    found = simulate(size, rng, **p, **start, times=times)
    return {name: values[0] for name, values in found.items()}
