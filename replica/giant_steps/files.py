"""Trajectories of giant steps in the file layout of scans, so that `replica status` and `replica plot` read them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from solvers.grid import Grid
from solvers.methods import Method
from solvers.plan import Plan
from solvers.problem import TIME, Layout, Problem, Quantity
from solvers.result import Trajectory
from solvers.store import ScanFile

from .recursion import GiantSteps


@dataclass(frozen=True, kw_only=True)
class Averaging(Method):
    """How the averages of a trajectory were made; nothing of it is chosen by the store."""

    name: ClassVar[str] = "giant-steps"
    rule: str = "closed"
    power: int = 0

    def options(self) -> dict[str, float | int]:
        return {"rule": self.rule, "power": self.power}  # type: ignore[dict-item]


@dataclass(frozen=True, kw_only=True)
class StepsProblem(Problem):
    """A recursion as the store sees it: parameters, outputs, provenance, and a digest of its arrays."""

    arrays: tuple[np.ndarray, ...] = ()

    @property
    def sources(self) -> Mapping[str, str]:
        data = b"".join(np.ascontiguousarray(a, dtype="<f8").tobytes() for a in self.arrays)
        return {"data_digest": hashlib.sha256(data).hexdigest()}


def save(steps: GiantSteps, found: Trajectory, path: str | Path, options: Mapping[str, str], *, flow: bool = False,
         overwrite: bool = False) -> None:  # fmt: skip
    """Write a trajectory as a scan over time.

    Parameters
    ----------
    steps : GiantSteps
    found : Trajectory
        What its `run` or `flow` returned.
    path : path-like
    options : mapping of str to str
        Target, activation and whatever else names the problem.
    flow : bool
        Whether it came from `flow`.
    overwrite : bool
        Replace a file that is there.

    Raises
    ------
    StoreError
        If the file holds something else, or cannot be written.
    """
    problem = _problem(steps, options, flow)
    method = Averaging(rule=steps.rule, power=steps.power if steps.rule == "sobol" else 0)
    grid = Grid(time=found.times)
    plan = Plan(problem, grid, {k: v for k, v in found.parameters.items() if k in _PARAMETERS}, method)
    whole = (slice(0, len(found.times)),)
    arrays = {
        **found.values,
        "result": found.result,
        "steps": found.times.astype(np.int32),
        "residual": found.residual,
        "error": found.error,
        "quadrature_error": found.quadrature_error,
        "rung": np.zeros(len(found.times), dtype=np.int8),
        "contraction": np.zeros(len(found.times)),
        "nodes": np.full(len(found.times), 2**method.power if method.power else 0, dtype=np.int32),
    }
    with ScanFile.for_plan(path, plan, grid.shape, overwrite) as file:
        file.write(whole, arrays)


_PARAMETERS = {
    "alpha": Quantity("alpha", "samples per dimension of every batch", r"\alpha", lower=0, lower_open=True, infinite=True),
    "eta": Quantity("eta", "step of the first layer", r"\eta"),
    "noise": Quantity("noise", "label noise variance", r"\Delta", lower=0),
}


def _problem(steps: GiantSteps, options: Mapping[str, str], flow: bool) -> StepsProblem:
    p, r = steps.M.shape
    claim, regime = steps.statement(flow)
    neuron, pair = ("neuron",), ("neuron", "neuron")
    outputs = (
        Quantity("M", "overlap of neurons with teacher directions", "M", dims=("neuron", "direction"), shape=(p, r)),
        Quantity("Q", "overlap of neurons", "Q", dims=pair, shape=(p, p), symmetric=True),
        Quantity("cos2", "squared cosine of a neuron with the teacher space", r"\cos^2", dims=neuron, shape=(p,)),
        Quantity("risk", "E(g - f)^2", r"\epsilon", lower=0),
    )
    arrays = (steps.M, steps.Q, steps.student.readout, steps.student.biases)
    return StepsProblem(
        name=steps.name,
        title="Order parameters of a network trained by giant steps",
        parameters=(*_PARAMETERS.values(), Quantity(TIME, "giant steps, or samples per dimension of SGD", "t", lower=0)),
        outputs=Layout(outputs),
        options={**options, "loss": steps.student.loss},
        provenance={
            "references": "arXiv:2305.18270; docs/theory/giant_steps.md, A5",
            "claim": claim,
            "regime": regime,
            "readout": json.dumps(steps.student.readout.tolist()),
            "biases": json.dumps(steps.student.biases.tolist()),
        },
        arrays=arrays,
    )
