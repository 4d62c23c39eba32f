"""Problems whose numbers are closed integrals: each point evaluated with more and more nodes until its own error is small enough.

The verdict is the same as everywhere: CONVERGED, QUADRATURE_UNRESOLVED if the error stays above `quadrature_rtol` at `max_nodes`,
NONFINITE if a value is not a number.
"""

from __future__ import annotations

import numpy as np

from .methods import Method
from .problem import EvaluatedProblem
from .result import Result


def evaluate_points(problem: EvaluatedProblem, points: np.ndarray, method: Method) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Codes (result, nodes), measures (error, quadrature error) and values of every row of checked parameters."""
    names = [q.name for q in problem.parameters]
    codes, measures = np.zeros((len(points), 2), dtype=np.int64), np.zeros((len(points), 2))
    values = np.empty((len(points), problem.values.size))
    for i, point in enumerate(points):
        parameters = dict(zip(names, point.tolist(), strict=True))
        nodes = method.nodes
        while True:
            found = problem.evaluate(parameters, nodes)
            if found.relative <= method.quadrature_rtol or 2 * nodes > method.max_nodes or np.isnan(found.relative):
                break
            nodes *= 2
        flat = [float(np.asarray(found.values[q.name])[index]) for q in problem.values.quantities for index in q.components]
        values[i], measures[i] = flat, (found.rounding, found.error)
        codes[i] = Result.CONVERGED, nodes
        if np.isnan(values[i]).any() or np.isnan(found.error):
            codes[i, 0] = Result.NONFINITE
        elif not found.relative <= method.quadrature_rtol:
            codes[i, 0] = Result.QUADRATURE_UNRESOLVED
    return codes, measures, values
