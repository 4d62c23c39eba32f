"""Teacher-student ridge regression: the textbook check of the whole pipeline."""

from __future__ import annotations

from typing import ClassVar

from .generalised_linear import GeneralisedLinear


class RidgeRegression(GeneralisedLinear):
    """Ridge regression on labels of a single-index teacher: `glm` with its default options.

    Inputs x ~ N(0, 1/d), labels ``y = target(<w*, x>) + sqrt(noise) xi`` with ``|w*|^2 = rho d``; the student minimises
    ``sum (y - <w, x>)^2 / 2 + reg |w|^2 / 2``.  Overlaps per dimension: m = <w, w*>/d, q = <w, w>/d, V the response.
    Replica symmetric, exact for this convex problem.  Source: the free entropy of docs/theory/ridge.md; for a linear
    target its stationarity is the textbook ridge saddle point.
    """

    name: ClassVar[str] = "ridge"
    title: ClassVar[str] = "Teacher-student ridge regression"
    references: ClassVar[str] = "docs/theory/ridge.md; Hastie et al., arXiv:1903.08560 (linear target)"
