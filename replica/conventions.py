"""From other papers' and libraries' conventions to ours, and back.

Ours, for `ridge` and `glm`: minimise ``sum loss(y, <w, x>) + reg |w|^2 / 2`` over n samples x with entries of variance 1/d, where
the square loss is ``(y - z)^2 / 2``.  An objective and a multiple of it have one minimiser, so only the ratio of penalty to loss
counts, and every conversion is a factor.  docs/conventions.md has the table.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Convention:
    """Another objective, as its source writes it.

    Attributes
    ----------
    objective : str
        LaTeX.
    strength : str
        What the source calls the number that is converted, LaTeX.
    losses : tuple of str
        Losses of ours that it may have.
    factor : float
        ``reg = factor * strength``, or ``factor / strength`` if `inverse`, times n if `mean`.
    mean : bool
        Whether its loss is a mean over the n samples.
    inverse : bool
        Whether its strength multiplies the loss.
    """

    objective: str
    strength: str
    losses: tuple[str, ...]
    factor: float
    mean: bool = False
    inverse: bool = False


ANY = ("square", "huber", "absolute", "quantile", "logistic", "hinge", "squared_hinge")

CONVENTIONS = {
    "sum": Convention(r"\sum \ell + \lambda |w|^2", r"\lambda", ANY, 2.0),
    "sum, half": Convention(r"\sum \ell + \frac{\lambda}{2} |w|^2", r"\lambda", ANY, 1.0),
    "mean": Convention(r"\frac1n \sum \ell + \lambda |w|^2", r"\lambda", ANY, 2.0, mean=True),
    "mean, half": Convention(r"\frac1n \sum \ell + \frac{\lambda}{2} |w|^2", r"\lambda", ANY, 1.0, mean=True),
    "sum of squares": Convention(r"\sum (y-z)^2 + \lambda |w|^2", r"\lambda", ("square",), 1.0),
    "mean square": Convention(r"\frac1n \sum (y-z)^2 + \lambda |w|^2", r"\lambda", ("square",), 1.0, mean=True),
    "half mean square": Convention(r"\frac1{2n} \sum (y-z)^2 + \lambda |w|^2", r"\lambda", ("square",), 2.0, mean=True),
    "sklearn Ridge": Convention(r"\sum (y-z)^2 + \alpha |w|^2", r"\alpha", ("square",), 1.0),
    "sklearn LogisticRegression": Convention(
        r"C \sum \log(1 + e^{-yz}) + \frac12 |w|^2", "C", ("logistic",), 1.0, inverse=True
    ),
    "sklearn SVC": Convention(r"C \sum \max(0, 1-yz) + \frac12 |w|^2", "C", ("hinge",), 1.0, inverse=True),
    "sklearn LinearSVC": Convention(
        r"C \sum \max(0, 1-yz)^2 + \frac12 |w|^2", "C", ("squared_hinge",), 1.0, inverse=True
    ),
    "sklearn SGD": Convention(
        r"\frac1n \sum \ell + \frac{\alpha}{2} |w|^2", r"\alpha", ("square", "huber", "logistic", "hinge", "squared_hinge"), 1.0,
        mean=True,
    ),
    "torch MSELoss": Convention(
        r"\frac1n \sum (y-z)^2 + \frac{\omega}{2} |w|^2", r"\omega = \texttt{weight\_decay}", ("square",), 0.5, mean=True
    ),
    "torch BCEWithLogitsLoss": Convention(
        r"\frac1n \sum \log(1 + e^{-yz}) + \frac{\omega}{2} |w|^2", r"\omega = \texttt{weight\_decay}", ("logistic",), 1.0,
        mean=True,
    ),
}  # fmt: skip


def to_reg(convention: str, strength: float, *, n: float | None = None, d: float | None = None) -> float:
    """Our `reg` from the strength of a penalty in another convention.

    Parameters
    ----------
    convention : str
        One of `CONVENTIONS`.
    strength : float
        In that convention; above 0 where it multiplies the loss.
    n : float, optional
        Number of samples; needed where the loss is a mean.
    d : float, optional
        Dimension, if inputs have entries of variance 1; left out if they have 1/d, as ours.  Our weights are then those times
        sqrt(d).  Where a mean is taken over such inputs only n/d counts: in the limit give ``n=alpha, d=1``.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        For an unknown convention, a missing n, or a number out of range.
    """
    known, scale = _scale(convention, n, d)
    strength = float(strength)
    if not (strength > 0 or (strength == 0 and not known.inverse)):
        raise ValueError(f"{convention}: the strength {strength!r} must be {'positive' if known.inverse else 'not negative'}")
    return scale / strength if known.inverse else scale * strength


def from_reg(convention: str, reg: float, *, n: float | None = None, d: float | None = None) -> float:
    """The strength of the penalty in another convention from our `reg`: the inverse of `to_reg`, same arguments and errors."""
    known, scale = _scale(convention, n, d)
    if not (reg > 0 or (reg == 0 and not known.inverse)):
        raise ValueError(f"{convention}: reg = {reg!r} must be {'positive' if known.inverse else 'not negative'}")
    return scale / reg if known.inverse else reg / scale


def _scale(convention: str, n: float | None, d: float | None) -> tuple[Convention, float]:
    """The convention, and reg at strength 1."""
    if convention not in CONVENTIONS:
        raise ValueError(f"unknown convention {convention!r}; known are {'; '.join(CONVENTIONS)}")
    known = CONVENTIONS[convention]
    if known.mean and n is None:
        raise ValueError(f"{convention}: its loss is a mean over samples, so their number n is needed")
    for name, value in (("n", n), ("d", d)):
        if value is not None and not value > 0:
            raise ValueError(f"{convention}: {name} = {value!r} must be positive")
    samples = n if known.mean and n is not None else 1.0
    return known, known.factor * samples / (1.0 if d is None else d)


def huber_from_sklearn(alpha: float, epsilon: float, scale: float, *, d: float | None = None) -> tuple[float, float]:
    """Threshold a of our ``huber(a)`` and `reg`, from a fitted ``HuberRegressor``.

    It minimises ``sum (s + H(r/s) s) + alpha |w|^2`` over weights *and* the scale s, with ``H(u) = u^2`` up to epsilon and
    ``2 epsilon |u| - epsilon^2`` beyond.  At the scale it ends with this is ours times 2/s.

    Parameters
    ----------
    alpha, epsilon : float
        Its arguments.
    scale : float
        Its ``scale_`` after the fit.
    d : float, optional
        As in `to_reg`.

    Returns
    -------
    a, reg : float
    """
    return epsilon * scale, alpha * scale / (1.0 if d is None else d)


def alpha_from_aspect(ratio: float) -> float:
    """Samples per dimension n/d from parameters per sample d/n, often gamma or psi; its own inverse."""
    return 1.0 / ratio


def noise_from_std(std: float) -> float:
    """Our `noise`, a variance, from a standard deviation."""
    return std * std


def noise_from_snr(snr: float, rho: float = 1.0) -> float:
    """Our `noise` from a signal-to-noise ratio |w*|^2 / (d noise), for a linear target."""
    return rho / snr


def excess_error(test_error: float, noise: float) -> float:
    """Squared distance to the noiseless label, where the test error counts the noise of the new label too, as ours does."""
    return test_error - noise


def cosine(m: float, q: float, rho: float = 1.0) -> float:
    """Cosine between student and teacher from overlaps per dimension."""
    return m / (rho * q) ** 0.5


def damping_from_mixing(mixing: float) -> float:
    """Our `damping`, the weight of the old value, from the weight of the new one."""
    return 1.0 - mixing
