"""Simulations at several sizes against a theory of infinite size: a straight line in 1/size, and a verdict.

Means come with standard errors from finitely many repeats, so what is small enough for agreement is a quantile of Student's
t with the degrees of freedom that the error has (Welch and Satterthwaite), which for many repeats is the normal one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

#: Verdicts on one observable, on a point, and on all: the worst one counts.
AGREE, UNCLEAR, DISAGREE = "agree", "unclear", "disagree"
VERDICTS = (AGREE, UNCLEAR, DISAGREE)
#: Sizes whose means lie on a line by chance less often than this do not lie on a line.
LEAST_CHANCE = 1e-4
#: Relative error of experiments without chance, such as integrated flows: no standard error is believed below it.
PRECISION = 1e-9


class Line(NamedTuple):
    """A weighted fit ``mean = value + slope/size``; of one size, its mean.

    Attributes
    ----------
    value, error : float
        At infinite size, and its standard error.
    slope : float
        nan for one size.
    chi2, chance : float
        Squared distances from the line in standard errors, and the probability of at least as much; nan for fewer than three
        sizes, which always lie on a line.
    freedom : float
        Degrees of freedom of `error`.
    """

    value: float
    error: float
    slope: float
    chi2: float
    chance: float
    freedom: float


def extrapolate(
    sizes: Sequence[int], means: Sequence[float] | np.ndarray, sems: Sequence[float] | np.ndarray, repeats: int
) -> Line:
    """Weighted least squares of means in 1/size.

    Parameters
    ----------
    sizes : sequence of int, all different
    means, sems : sequence of float
        Mean over the repeats at each size, and its standard error; one below `PRECISION` of the mean (of 1, if that is
        more) is raised to it.
    repeats : int

    Returns
    -------
    Line
    """
    from scipy import stats  # slow to import

    y = np.asarray(means, dtype=float)
    sem = np.maximum(np.asarray(sems, dtype=float), PRECISION * np.maximum(1.0, np.abs(y)))
    if len(sizes) == 1:
        return Line(float(y[0]), float(sem[0]), math.nan, math.nan, math.nan, repeats - 1.0)
    design = np.column_stack([np.ones(len(y)), 1 / np.asarray(sizes, dtype=float)]) / sem[:, None]
    inverse = np.linalg.pinv(design)
    value, slope = inverse @ (y / sem)
    shares = inverse[0] ** 2  # of the variance of the value, one per size
    freedom = float((repeats - 1) * shares.sum() ** 2 / (shares**2).sum())
    chi2 = chance = math.nan
    if len(y) > 2:
        chi2 = float(np.sum((y / sem - design @ [value, slope]) ** 2))
        chance = float(stats.f.sf(chi2 / (len(y) - 2), len(y) - 2, freedom))  # chi^2, for errors that were known
    return Line(float(value), float(math.sqrt(shares.sum())), float(slope), chi2, chance, freedom)


@dataclass(frozen=True)
class Comparison:
    """One number of the theory beside its simulations.

    Attributes
    ----------
    theory, theory_error : float
        Value, and error of the solution.
    sizes : tuple of int
    means, sems : tuple of float
        By size.
    line : Line
    z : float
        (simulation - theory) over all errors added in quadrature; nan if a number is missing.
    limit : float
        Largest |z| that is agreement: as improbable as `sigmas` of a normal variable.
    """

    theory: float
    theory_error: float
    sizes: tuple[int, ...]
    means: tuple[float, ...]
    sems: tuple[float, ...]
    line: Line
    z: float
    limit: float

    @property
    def verdict(self) -> str:
        """``agree``; ``disagree``; ``unclear`` where the sizes do not lie on a line, so that its end says nothing."""
        if self.line.chance < LEAST_CHANCE:
            return UNCLEAR
        return AGREE if abs(self.z) <= self.limit else DISAGREE


def extrapolate_arrays(
    sizes: Sequence[int], means: np.ndarray, sems: np.ndarray, repeats: int
) -> tuple[np.ndarray, np.ndarray]:
    """Values at infinite size and their standard errors, of means and errors of shape (sizes, ...) component by component."""
    value, error = np.empty(means.shape[1:]), np.empty(means.shape[1:])
    for index in np.ndindex(value.shape):
        line = extrapolate(sizes, means[(slice(None), *index)], sems[(slice(None), *index)], repeats)
        value[index], error[index] = line.value, line.error
    return value, error


def compare_number(
    theory: float, theory_error: float, sizes: Sequence[int], means: Sequence[float], sems: Sequence[float], repeats: int,
    sigmas: float = 4.0, allowance: float = 0.0,
) -> Comparison:  # fmt: skip
    """Set one number beside its simulations.

    Parameters
    ----------
    theory, theory_error : float
    sizes, means, sems, repeats
        As in `extrapolate`.
    sigmas : float
        Agreement is within so many standard deviations.
    allowance : float
        Expected error of the theory that extrapolation does not remove; counts as one standard deviation.
    """
    from scipy import stats

    line = extrapolate(sizes, means, sems, repeats)
    width = math.hypot(line.error, theory_error, allowance)
    limit = float(stats.t.isf(stats.norm.sf(sigmas), line.freedom))
    z = (line.value - theory) / width
    return Comparison(theory, theory_error, tuple(sizes), tuple(means), tuple(sems), line, z, limit)


def compare_all(
    theory: Mapping[str, Any], theory_error: float, sizes: Sequence[int], means: Mapping[str, np.ndarray],
    sems: Mapping[str, np.ndarray], repeats: int, sigmas: float = 4.0, allowance: float = 0.0,
) -> dict[str, Comparison]:  # fmt: skip
    """Every component of every observable that both sides name, as ``name`` or ``name[i,j]``.

    Parameters
    ----------
    theory : mapping of str to float or array
    means, sems : mapping of str to ndarray, shape (number of sizes, *shape of the observable)
    theory_error, sizes, repeats, sigmas, allowance
        As in `compare_number`.
    """
    out = {}
    for name, values in means.items():
        if name not in theory:
            continue
        expected = np.asarray(theory[name], dtype=float)
        for index in np.ndindex(expected.shape):
            label = name + (f"[{','.join(map(str, index))}]" if index else "")
            here = (slice(None), *index)
            out[label] = compare_number(
                float(expected[index]), theory_error, sizes, values[here].tolist(), sems[name][here].tolist(), repeats,
                sigmas, allowance,
            )  # fmt: skip
    return out


def worst(verdicts: Sequence[str]) -> str:
    """The verdict on all: disagreement before what is unclear, that before agreement."""
    return max(verdicts, key=VERDICTS.index)
