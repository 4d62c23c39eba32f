"""Compiled fixed-point solvers, scans and their files.  Knows nothing of symbols: see `replica` for models."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .grid import Grid
from .methods import Anderson, DampedIteration, Evaluate, Integrate, Ladder, Method, MethodError, Newton, make_method
from .problem import EvaluatedProblem, FixedPointProblem, ParameterError, TrajectoryProblem
from .result import ConvergenceError, Result, Solution, Trajectory
from .solve import solve, solve_points, solve_trajectory

if TYPE_CHECKING:
    from .cluster import ClusterError
    from .scan import Scan, ScanReport
    from .store import StoreError

__all__ = [
    "Anderson", "ClusterError", "ConvergenceError", "DampedIteration", "Evaluate", "EvaluatedProblem", "FixedPointProblem",
    "Grid", "Integrate", "Ladder", "Method", "MethodError", "Newton", "ParameterError", "Result", "Scan", "ScanReport",
    "Solution", "StoreError", "Trajectory", "TrajectoryProblem", "make_method", "solve", "solve_points", "solve_trajectory",
]  # fmt: skip

#: Loaded when asked for: they bring h5py, which solving a point does not need.
_LAZY = {"ClusterError": "cluster", "Scan": "scan", "ScanReport": "scan", "StoreError": "store"}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_LAZY[name]}", __name__), name)
