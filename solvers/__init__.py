"""Compiled fixed-point solvers, scans and their files.  Knows nothing of symbols: see `replica` for models."""

from .methods import Anderson, DampedIteration, Method, MethodError, Newton, make_method
from .problem import FixedPointProblem, ParameterError
from .result import ConvergenceError, Result, Solution
from .solve import solve, solve_points

__all__ = [
    "Anderson", "ConvergenceError", "DampedIteration", "FixedPointProblem", "Method", "MethodError", "Newton",
    "ParameterError", "Result", "Solution", "make_method", "solve", "solve_points",
]  # fmt: skip
