"""Initial weights of a two-layer network on a line: standard initialisation schemes, and what is read off weights.

Weights are always drawn as (standard deviation) x (standard normal), so a scheme is two variances and a multiplier, each
a power of the width.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


class WeightError(ValueError):
    """Initial weights that cannot be used, or an unknown scheme; one line, fit for a user."""


@dataclass(frozen=True)
class Scheme:
    """A parametrisation: exponents of the width d, ``gamma ~ d^c_gamma`` and so on.

    Attributes
    ----------
    c_gamma, c_u, c_w : float
        Exponents of the output multiplier and of the two variances.
    c_eta : float
        Exponent of a common learning rate at which the network relaxes in a time of order one.
    summary : str
    """

    c_gamma: float
    c_u: float
    c_w: float
    c_eta: float
    summary: str


SCHEMES: dict[str, Scheme] = {
    "kaiming-fan-in": Scheme(0, -1, 0, -1, "variances 1/d and 1"),
    "kaiming-fan-out": Scheme(0, 0, -1, -1, "variances 1 and 1/d"),
    "unit": Scheme(0, 0, 0, -1, "both variances 1, no multiplier"),
    "ntk": Scheme(-0.5, 0, 0, 0, "both variances 1, multiplier d^-1/2"),
    "xavier": Scheme(0, -1, -1, 0, "both variances 1/d"),
    "mean-field": Scheme(-1, 0, 0, 1, "both variances 1, multiplier 1/d"),
}


def make_scheme(name: str) -> Scheme:
    """Scheme by name.

    Raises
    ------
    WeightError
        Naming the known schemes.
    """
    if name not in SCHEMES:
        raise WeightError(f"unknown scheme {name!r}; the schemes are {', '.join(SCHEMES)}")
    return SCHEMES[name]


def check_weights(u: object, w: object) -> tuple[np.ndarray, np.ndarray]:
    """Both layers as float arrays of one length.

    Raises
    ------
    WeightError
        If a layer is empty, not one-dimensional, not numeric, not finite, or the lengths differ.
    """
    out = []
    for name, values in (("u", u), ("w", w)):
        try:
            layer = np.asarray(values, dtype=float)
        except (TypeError, ValueError):
            raise WeightError(f"initial weights {name} are not a list of numbers") from None
        if layer.ndim != 1 or not layer.size:
            raise WeightError(f"initial weights {name} have shape {layer.shape}; one number per hidden unit is needed")
        if not np.isfinite(layer).all():
            bad = int(np.argmin(np.isfinite(layer)))
            raise WeightError(f"initial weights {name}: {name}[{bad}] = {layer[bad]} is not finite")
        out.append(layer)
    if out[0].size != out[1].size:
        raise WeightError(f"initial weights u and w have lengths {out[0].size} and {out[1].size}; they must be equal")
    return out[0], out[1]


def sample_weights(scheme: str, width: int, seed: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Initial weights ``u``, ``w`` of a scheme, shape (width,), and its multiplier gamma.

    Raises
    ------
    WeightError
        For an unknown scheme or a width that is not a positive whole number.
    """
    chosen = make_scheme(scheme)
    if not isinstance(width, int | np.integer) or isinstance(width, bool) or width < 1:
        raise WeightError(f"width = {width!r} is not a positive whole number")
    u, w = standard_normals(int(width), seed)
    d = float(width)
    return u * d ** (chosen.c_u / 2), w * d ** (chosen.c_w / 2), d**chosen.c_gamma


def standard_normals(width: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two columns of standard normals; those of a smaller width are the beginning of those of a larger."""
    rng = np.random.default_rng(seed)
    pairs = rng.standard_normal((width, 2))
    return np.ascontiguousarray(pairs[:, 0]), np.ascontiguousarray(pairs[:, 1])


def data_moments(x: object, y: object) -> dict[str, float]:
    """Moments of data on a line: ``A`` = mean x^2, ``B`` = mean xy, ``noise`` = mean y^2 - B^2/A.

    Parameters
    ----------
    x, y : array_like, shape (n,)

    Raises
    ------
    WeightError
        If the data are empty, of unequal length, not finite, or all x are zero.
    """
    try:
        a, b = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    except (TypeError, ValueError):
        raise WeightError("data x and y are not lists of numbers") from None
    if a.ndim != 1 or a.shape != b.shape or not a.size:
        raise WeightError(f"data x and y have shapes {a.shape} and {b.shape}; two non-empty lists of equal length are needed")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise WeightError("data x and y contain values that are not finite")
    second = float(np.mean(a * a))
    if second == 0:
        raise WeightError("data x are all zero; nothing can be learnt from them")
    slope = float(np.mean(a * b)) / second
    return {"A": second, "B": float(np.mean(a * b)), "noise": float(np.mean((b - slope * a) ** 2))}
