"""What a scan computes, as data: enough to recognise the same scan again and to say how another one differs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from .grid import Grid
from .methods import Ladder, Method
from .problem import Problem


@dataclass(frozen=True)
class Plan:
    """Everything the numbers in a scan file depend on.

    Attributes
    ----------
    problem : Problem
    grid : Grid
    fixed : mapping of str to float
        Every parameter that is not an axis of the grid, defaults included.
    method : Method
    task : mapping
        What is done at every point, if it is not a solve: what is minimised, and over which ranges.
    """

    problem: Problem
    grid: Grid
    fixed: Mapping[str, float]
    method: Method
    task: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def kernel_digest(self) -> str:
        """sha256 of the generated texts, and of the numbers the problem carries."""
        return _sha256(*self.problem.sources.values())

    @property
    def method_options(self) -> dict[str, Any]:
        return {"name": self.method.name, **self.method.options()}

    @property
    def rungs(self) -> list[dict[str, Any]]:
        """Options of every method that may solve a point, in the order tried; positions are the codes of ``rung``."""
        if not isinstance(self.method, Ladder):
            return [self.method_options]
        alone = [{"name": method.name, **method.options()} for method in self.method.rungs]
        return [*alone, {**alone[0], "name": "neighbour"}]

    @cached_property
    def description(self) -> dict[str, Any]:
        """The plan as JSON values; axes enter by digest, so that it stays short."""
        return {
            "model": self.problem.name,
            "options": dict(self.problem.options),
            "values": list(self.problem.values.component_names),
            "kernel": self.kernel_digest,
            "method": self.method_options,
            "axes": list(self.grid.names),
            "grid": {name: _describe(values) for name, values in self.grid.axes.items()},
            "fixed": dict(self.fixed),
            **({"task": dict(self.task)} if self.task else {}),
        }

    @property
    def text(self) -> str:
        return json.dumps(self.description, sort_keys=True)

    @property
    def digest(self) -> str:
        return _sha256(self.text)

    def attributes(self) -> dict[str, str]:
        """The plan, and where its formulas come from, as text by name."""
        problem = self.problem
        return {
            **problem.provenance,
            "title": problem.title,
            "model": problem.name,
            "options": json.dumps(dict(problem.options)),
            "method": json.dumps(self.method_options),
            "rungs": json.dumps(self.rungs),
            **problem.sources,
            "kernel_digest": self.kernel_digest,
            "plan": self.text,
            "plan_digest": self.digest,
        }


def differences(stored: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """Short phrases saying where two plan descriptions differ, ``stored != wanted``."""
    if stored["model"] != wanted["model"]:
        return [f"model {stored['model']} != {wanted['model']}"]
    if stored.get("task") != wanted.get("task"):
        kinds = ["optima" if "minimise" in plan.get("task", {}) else "solutions" for plan in (stored, wanted)]
        return [f"{kinds[0]} {stored.get('task', '')} != {kinds[1]} {wanted.get('task', '')}".strip()]
    out = _changed("option", stored["options"], wanted["options"])
    if stored["method"]["name"] != wanted["method"]["name"]:
        out.append(f"method {stored['method']['name']} != {wanted['method']['name']}")
    else:
        out += _changed("method", stored["method"], wanted["method"])
    if stored["axes"] != wanted["axes"]:
        out.append(f"axes ({', '.join(stored['axes'])}) != ({', '.join(wanted['axes'])})")
    for name, axis in wanted["grid"].items():
        if name in stored["grid"] and stored["grid"][name] != axis:
            out.append(f"{name} axis differs ({_summary(stored['grid'][name])} != {_summary(axis)})")
    for name in sorted(set(stored["fixed"]) & set(wanted["fixed"])):
        out += _changed("parameter", {name: stored["fixed"][name]}, {name: wanted["fixed"][name]})
    if stored["kernel"] != wanted["kernel"]:
        out.append("kernel differs")
    if stored["values"] != wanted["values"]:
        out.append("order parameters or observables differ")
    return out


def _changed(kind: str, stored: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    names = sorted(set(stored) | set(wanted))
    return [
        f"{kind} {name} {stored.get(name, 'absent')} != {wanted.get(name, 'absent')}"
        for name in names
        if stored.get(name) != wanted.get(name)
    ]


def _describe(values: np.ndarray) -> dict[str, Any]:
    return {
        "size": len(values),
        "first": float(values[0]),
        "last": float(values[-1]),
        # Adding zero makes -0.0, which is the same coordinate, the same bytes.
        "sha256": hashlib.sha256((values + 0.0).astype("<f8").tobytes()).hexdigest(),
    }


def _summary(axis: dict[str, Any]) -> str:
    return f"{axis['size']} values from {axis['first']:g} to {axis['last']:g}"


def _sha256(*texts: str) -> str:
    digest = hashlib.sha256()
    for text in texts:
        # The length keeps ("ab", "c") and ("a", "bc") apart.
        digest.update(f"{len(text)}:{text}".encode())
    return digest.hexdigest()
