"""Compiled fixed-point solvers, scans and their files.  Knows nothing of symbols: see `replica` for models."""

from .grid import Grid
from .methods import Anderson, DampedIteration, Method, MethodError, Newton, make_method
from .problem import FixedPointProblem, ParameterError
from .result import ConvergenceError, Result, Solution
from .scan import Scan, ScanReport
from .solve import solve, solve_points
from .store import StoreError

__all__ = [
    "Anderson", "ConvergenceError", "DampedIteration", "FixedPointProblem", "Grid", "Method", "MethodError", "Newton",
    "ParameterError", "Result", "Scan", "ScanReport", "Solution", "StoreError", "make_method", "solve", "solve_points",
]  # fmt: skip
