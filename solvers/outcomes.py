"""What a scan file holds, in short: how many points of which outcome, which failed and why, which methods were tried."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .layout import add_variable, described, flags
from .result import Result
from .store import SIMULATION, edited_copy, opened


@dataclass(frozen=True)
class Status:
    """What a scan file holds, in short.

    Attributes
    ----------
    axes : dict of str to int
        Number of values by axis.
    counts : dict of Result to int
        Points by outcome; outcomes without points are left out.
    worst_residual, worst_error, worst_quadrature_error : float or None
        Largest over the converged points; None if there are none.
    simulation_points : int
    bytes : int
    """

    path: Path
    model: str
    title: str
    created: str
    method: dict[str, Any]
    axes: dict[str, int]
    counts: dict[Result, int]
    worst_residual: float | None
    worst_error: float | None
    worst_quadrature_error: float | None
    simulation_points: int
    bytes: int


def status(path: str | Path) -> Status:
    """Summary of a scan file; reads only, also while a scan is running.

    Raises
    ------
    StoreError
        If there is no such file, or it is not a readable scan file.
    """
    path = Path(path)
    with opened(path) as file:
        result = file["result"][...]
        converged = result == Result.CONVERGED
        worst = {
            name: float(np.fmax.reduce(file[name][...][converged])) if converged.any() else None
            for name in ("residual", "error", "quadrature_error")
        }
        plan = json.loads(file.attrs["plan"])
        return Status(
            path=path,
            model=str(file.attrs["model"]),
            title=str(file.attrs["title"]),
            created=str(file.attrs["created"]),
            method=json.loads(file.attrs["method"]),
            axes={name: plan["grid"][name]["size"] for name in plan["axes"]},
            counts={code: n for code in Result if (n := int(np.count_nonzero(result == code)))},
            worst_residual=worst["residual"],
            worst_error=worst["error"],
            worst_quadrature_error=worst["quadrature_error"],
            simulation_points=len(file[SIMULATION]["point"]) if SIMULATION in file else 0,
            bytes=path.stat().st_size,
        )


@dataclass(frozen=True)
class Failure:
    """A point of a scan file that is not converged.

    Attributes
    ----------
    parameters : dict of str to float
        Its coordinates.
    result : Result
    violated : str
        Which bound or constraint, if the point left the domain; else empty.
    rung : str
        The last method that was tried; empty if the file does not say.
    """

    parameters: dict[str, float]
    result: Result
    violated: str
    rung: str

    @property
    def reason(self) -> str:
        """Code, what is violated, last method, and what to try."""
        detail = "; ".join(filter(None, [self.violated, self.rung and f"last tried: {self.rung}"]))
        return f"{self.result.name}{f' ({detail})' if detail else ''}: {self.result.message}"


def failures(path: str | Path, limit: int) -> list[Failure]:
    """The first points of a scan file, in the order of the file, that were computed and did not converge.

    Raises
    ------
    StoreError
        If there is no such file, or it is not a readable scan file.
    """
    with opened(path) as file:
        result = file["result"][...]
        found = np.argwhere((result != Result.CONVERGED) & (result != Result.PENDING))[:limit]
        names = json.loads(file.attrs["plan"])["axes"]
        axes = [file[name][...] for name in names]
        rungs = file["rung"].attrs["flag_meanings"].split() if "rung" in file else []
        limits = json.loads(file["violated"].attrs["limits"]) if "violated" in file else []
        out = []
        for index in map(tuple, found):
            rung = int(file["rung"][index]) if rungs else -1
            violated = int(file["violated"][index]) if limits else -1
            out.append(
                Failure(
                    {name: float(axis[i]) for name, axis, i in zip(names, axes, index, strict=True)},
                    Result(int(result[index])),
                    limits[violated] if violated >= 0 else "",
                    rungs[rung] if rung >= 0 else "",
                )
            )
        return out


def add_rung(path: str | Path, options: Mapping[str, Any], own: int) -> int:
    """Code of ``rung`` for a method with these options, other than the file's `own` first ones; added if it is new.

    Raises
    ------
    StoreError
        If it is not a scan file, or a scan is running.
    """
    with opened(path) as file:
        known = _rungs(file)
    if dict(options) in known[own:]:
        return known.index(dict(options), own)
    with edited_copy(path) as file:
        if "rung" not in file:  # from before there were rungs
            result = file["result"]
            rung = np.where(result[...] == Result.PENDING, -1, 0).astype("i1")
            scales = [result.dims[axis][0] for axis in range(result.ndim)]
            add_variable(file, "rung", rung, scales, described("method that the point needed, or the last one tried"))
        known.append(dict(options))
        words = [rung["name"] for rung in known]
        distinct = [word if words.index(word) == i else f"{word}_{i}" for i, word in enumerate(words)]
        file["rung"].attrs.update(flags(distinct, range(len(known))))
        file.attrs["rungs"] = json.dumps(known)
    return len(known) - 1


def _rungs(file: Any) -> list[dict[str, Any]]:
    return list(json.loads(file.attrs["rungs"])) if "rungs" in file.attrs else [json.loads(file.attrs["method"])]
