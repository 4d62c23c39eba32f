"""Finite-size experiments stored beside the theory of a scan.

The experiments are the model's own `simulate`; repeating and averaging is `validation`, the file is `solvers.simulations`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

from solvers.scan import Scan
from solvers.simulations import write_simulation
from solvers.store import StoreError

from .model import Model
from .results import open_simulation
from .validation import simulate_points


@dataclass(frozen=True)
class Experiments:
    """Repeated experiments at every combination of some values on the axes of a scan.

    Attributes
    ----------
    model : Model
    scan : Scan
        Where the fixed parameters come from.
    size, repeats, seed : int
        Dimension d, independent repeats per point, seed.
    axes : mapping of str to sequence of float
        Values for every axis of the scan.  They need not be on the grid.
    """

    model: Model
    scan: Scan
    size: int
    repeats: int
    seed: int
    axes: Mapping[str, Sequence[float] | np.ndarray]

    def __post_init__(self) -> None:
        for name, values in self.axes.items():
            for value in values:
                self.scan.problem.parameter(name).check(value, self.model.name)

    @property
    def points(self) -> dict[str, np.ndarray]:
        """Value of every axis at every point."""
        combinations = np.array(list(product(*self.axes.values())), dtype=float)
        return {name: combinations[:, i] for i, name in enumerate(self.axes)}

    def stored_in(self, path: str | Path, overwrite: bool = False) -> bool:
        """Whether the file has exactly these experiments already.

        Raises
        ------
        StoreError
            If it has others, and they may not be overwritten.
        """
        found = open_simulation(path)
        if found is None:
            return False
        with found:
            settings = {"size": self.size, "repeats": self.repeats, "seed": self.seed}
            same = all(int(found.attrs[key]) == value for key, value in settings.items())
            same = same and all(np.array_equal(found[name].values, v) for name, v in self.points.items())
        if not same and not overwrite:
            raise StoreError(f"{path} holds simulations of another size, seed or set of points; use another file, or overwrite")
        return same

    def run(
        self, path: str | Path, overwrite: bool = False, progress: Callable[[int, int], object] | None = None
    ) -> None:
        """Do the experiments and write them into the scan file."""
        points = self.points
        fixed = self.scan.plan.fixed
        each = [{**fixed, **{k: float(v[i]) for k, v in points.items()}} for i in range(len(next(iter(points.values()))))]
        estimates = simulate_points(self.model, each, self.size, self.repeats, self.seed, progress)
        names = list(estimates[0])
        means = {name: np.array([e[name].mean for e in estimates]) for name in names}
        sems = {name: np.array([e[name].sem for e in estimates]) for name in names}
        write_simulation(
            path, points, means, sems, size=self.size, repeats=self.repeats, seed=self.seed, overwrite=overwrite
        )
