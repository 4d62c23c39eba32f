"""Convex training problems at finite size, solved to machine precision for any convex loss.

``min_w sum loss(y, X w) + reg |w|^2/2`` by Newton's method where the loss has a slope everywhere; with kinks, by the augmented
Lagrangian of ``z = X w``: every inner problem is smooth and is solved with the generalised Hessian of the Moreau envelope.  What
is returned satisfies the conditions of optimality to `OPTIMAL`, kinks or not; the prox is made here anew, in numpy, so that
nothing compiled for the theory enters.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.polynomial.legendre import leggauss
from numpy.typing import NDArray
from scipy.special import ndtr

from ..activations import Activation
from ..dense import product, solve_positive
from ..functions import evaluate
from ..losses import Loss, Y, Z

Array = NDArray[np.float64]
#: Largest norm of the gradient, relative to its terms, of a trained weight vector.
OPTIMAL = 1e-11


class TrainingError(RuntimeError):
    """The training problem could not be solved to the wanted precision."""


@dataclass(frozen=True)
class Labels:
    """How labels come from teacher fields: the target plus noise, or the sign of that with flips."""

    target: Activation
    sign: bool = False
    noise: float = 0.0
    flip: float = 0.0

    def draw(self, fields: Array, rng: np.random.Generator) -> Array:
        """Labels of given fields."""
        y: Array = self.target.numeric()(fields) + math.sqrt(self.noise) * rng.standard_normal(fields.shape)
        if not self.sign:
            return y
        flips = rng.random(fields.shape) < self.flip
        return np.where((y > 0) != flips, 1.0, -1.0)

    def mean(self, fields: Array) -> Array:
        """Mean label given the field."""
        y = self.target.numeric()(fields)
        if not self.sign:
            return y
        sharp: Array = np.sign(y) if self.noise == 0 else 2 * ndtr(y / math.sqrt(self.noise)) - 1
        return (1 - 2 * self.flip) * sharp

    def variance(self, fields: Array) -> Array:
        """Variance of the label given the field."""
        return 1 - self.mean(fields) ** 2 if self.sign else np.full(fields.shape, self.noise)


def train_generalised_linear(
    loss: Loss,
    labels: Labels,
    *,
    alpha: float,
    reg: float,
    rho: float = 1.0,
    size: int,
    rng: np.random.Generator,
) -> dict[str, float]:
    """A generalised linear model trained once on a teacher's labels.

    Inputs ``x ~ N(0, I_d/d)``, teacher ``|w*|^2 = rho d``, ``alpha d`` samples; the rest as for the model `glm`.

    Parameters
    ----------
    loss : Loss
    labels : Labels
    alpha, reg, rho : float
        Parameters of the model; `reg` as for `fit`.
    size : int
        Dimension d.
    rng : numpy.random.Generator

    Returns
    -------
    dict
        Overlaps ``m = <w, w*>/d`` and ``q = |w|^2/d``, and the model's observables.  Those of new inputs are averages over the
        teacher's field given the student, exact up to the rule's error at jumps off its panels (below 1e-3).

    Raises
    ------
    TrainingError
        If the optimum is not reached.
    """
    teacher = rng.standard_normal(size)
    teacher *= math.sqrt(rho * size) / np.linalg.norm(teacher)
    x = rng.standard_normal((max(1, round(alpha * size)), size)) / math.sqrt(size)
    y = labels.draw(x @ teacher, rng)
    student = fit(loss, x, y, reg, labels.sign)
    m, q = float(student @ teacher) / size, float(student @ student) / size
    z, weights = gaussian_rule()
    fields = math.sqrt(rho) * z
    # The prediction given the teacher's field is Gaussian.
    mean, rest = m / rho * fields, max(q - m * m / rho, 0.0)
    square = (labels.mean(fields) - mean) ** 2 + labels.variance(fields) + rest
    tested = {"test_error": float(weights @ square)}
    if labels.sign:
        tilt = 2 * ndtr(mean / math.sqrt(rest)) - 1 if rest > 0 else np.sign(mean)
        tested["zero_one"] = float(weights @ (0.5 - 0.5 * labels.mean(fields) * tilt))
    return {"m": m, "q": q, **tested, **trained(loss, labels.sign, y, x @ student)}


def gaussian_rule() -> tuple[Array, Array]:
    """Nodes and weights for E[f(z)], z ~ N(0, 1), f smooth but for kinks or jumps at multiples of 0.1."""
    nodes, weights = leggauss(8)
    centres = np.arange(-99, 100, 2) / 10
    z = (centres[:, None] + 0.1 * nodes).ravel()
    gaussian = np.tile(0.1 * weights, len(centres)) * np.exp(-(z**2) / 2)
    return z, gaussian / gaussian.sum()


def trained(loss: Loss, sign: bool, y: Array, fitted: Array) -> dict[str, float]:
    """Training observables of a predictor, by name."""
    found = {"train_error": np.mean((y - fitted) ** 2), "train_loss": np.mean(_values(loss, y, fitted))}
    if sign:
        found |= {"train_zero_one": np.mean(y * fitted < 0), "margin": np.mean(y * fitted)}
    return {name: float(value) for name, value in found.items()}


def fit(loss: Loss, x: Array, y: Array, reg: float, sign: bool) -> Array:
    """The weights that minimise ``sum loss(y, x w) + reg |w|^2/2``.

    Parameters
    ----------
    x : ndarray, shape (n, p)
    y : ndarray, shape (n,)
    reg : float
        Positive; for the square loss of real labels also 0, if x has full column rank.
    sign : bool
        Labels are -1 and 1; otherwise real, and the loss is one of the residual.

    Raises
    ------
    TrainingError
        If the optimum is not reached; gives the gradient that is left.
    numpy.linalg.LinAlgError
        For the square loss, if ``reg = 0`` and the data do not determine the weights.
    """
    if loss.quadratic:
        return ridge(x, y, reg)
    if not reg > 0:
        raise TrainingError(f"training needs reg > 0, not {reg:g}")
    n, p = x.shape
    u, width = np.zeros(n), 1.0
    gram = product(x, x.T) if n < p else np.zeros((0, 0))
    scale = np.linalg.norm(x, axis=0).max() + reg
    w, gradient = _descend(loss, x, y, reg, sign, gram, scale) if _has_slopes(loss, sign) else (np.zeros(p), math.inf)
    if gradient < OPTIMAL * (1 + float(np.abs(x @ w).max())):
        return w
    for _ in range(200):
        # Proximal step of the dual: minimise the envelope at width, shifted by the multipliers u.
        for _ in range(100):
            z, slope, curvature = prox(loss, y, x @ w - width * u, width, sign)
            force = reg * w - x.T @ slope
            step = _newton_step(x, gram, curvature, reg, force)
            decrease, now = float(force @ step), _envelope(loss, x, y, u, w, width, reg, sign)
            rounding = 1e-15 * (1 + abs(now))
            if not decrease > 1e-9 * rounding:
                break
            rate = 1.0
            while rate > 1e-6 and (
                _envelope(loss, x, y, u, w - rate * step, width, reg, sign) > now - 1e-4 * rate * decrease + rounding
            ):
                rate *= 0.5
            w = w - rate * step
        z, slope, _ = prox(loss, y, x @ w - width * u, width, sign)
        u = slope
        # `slope` is minus a subgradient at z: optimal once z = x w and the forces balance.
        gradient = float(np.abs(reg * w - x.T @ u).max()) / scale + float(np.abs(z - x @ w).max())
        if gradient < OPTIMAL * (1 + float(np.abs(x @ w).max())):
            return w
        width = max(width / 3.0, 1e-3)
    raise TrainingError(f"loss {loss.name}: stopped with a gradient of {gradient:.1e} at reg = {reg:g}")


def _has_slopes(loss: Loss, sign: bool) -> bool:
    """Whether the loss has a slope everywhere: pieces meet without a kink."""
    return all(
        math.isclose(one.slope_at(one.upper), next_one.slope_at(one.upper), rel_tol=1e-12, abs_tol=1e-12)
        for label in _labels(sign) for one, next_one in pairwise(loss.pieces(label))
    )  # fmt: skip


def _labels(sign: bool) -> tuple[float, ...]:
    """The labels whose pieces a loss has; losses of real labels depend on the residual alone."""
    return (1.0, -1.0) if sign else (0.0,)


def _descend(
    loss: Loss, x: Array, y: Array, reg: float, sign: bool, gram: Array, scale: float
) -> tuple[Array, float]:
    """Newton's method with steps halved; weights, and the gradient that is left relative to its terms."""
    w = np.zeros(x.shape[1])
    for _ in range(100):
        slope, curvature = _slopes(loss, y, x @ w, sign)
        force = reg * w + x.T @ slope
        step = _newton_step(x, gram, curvature, reg, force)
        decrease, now = float(force @ step), _objective(loss, x, y, w, reg)
        rounding = 1e-15 * (1 + abs(now))
        if not decrease > 1e-9 * rounding:
            break
        rate = 1.0
        while rate > 1e-6 and not _objective(loss, x, y, w - rate * step, reg) <= now - 1e-4 * rate * decrease + rounding:
            rate *= 0.5  # also where it is not finite
        w = w - rate * step
    slope, _ = _slopes(loss, y, x @ w, sign)
    return w, float(np.abs(reg * w + x.T @ slope).max()) / scale


def _slopes(loss: Loss, y: Array, z: Array, sign: bool) -> tuple[Array, Array]:
    """First and second derivative of the loss; that of the piece below where two pieces meet."""
    slope, curvature = np.empty_like(z), np.empty_like(z)
    for label in _labels(sign):
        mine = y == label if sign else np.ones(z.shape, dtype=bool)
        at = z if sign else z - y
        for piece in loss.pieces(label):
            inside = mine & (at > piece.lower) & (at <= piece.upper)
            slope[inside], curvature[inside] = (_on(e, at[inside]) for e in (piece.slope, piece.curvature))
    return slope, curvature


def _objective(loss: Loss, x: Array, y: Array, w: Array, reg: float) -> float:
    return float(np.sum(_values(loss, y, x @ w)) + reg * float(w @ w) / 2)


def _newton_step(x: Array, gram: Array, curvature: Array, reg: float, force: Array) -> Array:
    """Solve ``(reg + x^T diag(curvature) x) step = force`` on the smaller side."""
    n, p = x.shape
    if n < p:
        root = np.sqrt(curvature)
        inner = reg * np.eye(n) + root[:, None] * gram * root[None, :]
        right = root * (x @ force)
        step: Array = (force - x.T @ (root * solve_positive(inner, right))) / reg
        return step
    hessian = product(x.T, curvature[:, None] * x)
    hessian[np.diag_indices_from(hessian)] += reg
    return solve_positive(hessian, force)


def _envelope(loss: Loss, x: Array, y: Array, u: Array, w: Array, width: float, reg: float, sign: bool) -> float:
    at = x @ w - width * u
    z, _, _ = prox(loss, y, at, width, sign)
    return float(np.sum(_values(loss, y, z) + (z - at) ** 2 / (2 * width)) + reg * float(w @ w) / 2)


def _values(loss: Loss, y: Array, z: Array) -> Any:
    return evaluate(loss.expression, {Y: y, Z: z})


def prox(loss: Loss, y: Array, at: Array, width: float, sign: bool) -> tuple[Array, Array, Array]:
    """Minimiser z of ``loss(y, z) + (z - at)^2/(2 width)``, minus the slope there, and its generalised derivative."""
    z, slope, curvature = np.empty_like(at), np.empty_like(at), np.empty_like(at)
    for label in _labels(sign):
        mine = y == label if sign else np.ones(at.shape, dtype=bool)
        shift = np.zeros(int(mine.sum())) if sign else y
        found = _prox_at(loss, label, at[mine] - shift, width)
        z[mine], slope[mine], curvature[mine] = found[0] + shift, found[1], found[2]
    return z, slope, curvature


def _prox_at(loss: Loss, label: float, w: Array, width: float) -> tuple[Array, Array, Array]:
    z, slope, curvature = np.full_like(w, np.nan), np.empty_like(w), np.empty_like(w)
    pieces, left = loss.pieces(label), np.ones(w.shape, dtype=bool)
    for piece, after in zip(pieces, [*pieces[1:], None], strict=True):
        inside, held = left.copy(), np.zeros(w.shape, dtype=bool)
        if after is not None:
            low, high = (piece.upper + width * p.slope_at(piece.upper) for p in (piece, after))
            inside &= w < low
            held = left & (w >= low) & (w <= high)
        if inside.any():
            z[inside] = _root(piece, w[inside], width)
            slope[inside] = -_on(piece.slope, z[inside])
            c = _on(piece.curvature, z[inside])
            curvature[inside] = c / (1 + width * c)
        z[held], slope[held], curvature[held] = piece.upper, (piece.upper - w[held]) / width, 1 / width
        left &= ~(inside | held)
    return z, slope, curvature


def _on(expression: Any, z: Array) -> Array:
    return np.asarray(evaluate(expression, {Z: z}), dtype=float) + 0.0 * z


def _root(piece: Any, w: Array, width: float) -> Array:
    """z + width slope(z) = w, inside the piece: Newton within a bracket, all entries at once."""
    z = np.clip(w, piece.lower, piece.upper)
    h = z - w + width * _on(piece.slope, z)
    low = np.where(h > 0, np.maximum(piece.lower, z - h), z)
    high = np.where(h > 0, z, np.minimum(piece.upper, z - h))
    moved = high - low
    for _ in range(200):
        h = z - w + width * _on(piece.slope, z)
        low, high = np.where(h > 0, low, z), np.where(h > 0, z, high)
        new = z - h / (1 + width * _on(piece.curvature, z))
        # Inside the bracket Newton's method can jump to and fro: a step must be half the one before.
        new = np.where((new >= low) & (new <= high) & (np.abs(new - z) <= 0.5 * moved), new, 0.5 * (low + high))
        moved = np.abs(new - z)
        z = new
        if not (moved > 1e-15 * (1 + np.abs(z))).any():
            break
    return z


def ridge(x: Array, y: Array, reg: float) -> Array:
    """Minimiser of |y - x w|^2 + reg |w|^2, by Cholesky on the smaller of the two Gram matrices."""
    n, p = x.shape
    gram = product(x.T, x) if p <= n else product(x, x.T)
    gram[np.diag_indices_from(gram)] += reg
    return solve_positive(gram, x.T @ y) if p <= n else x.T @ solve_positive(gram, y)
