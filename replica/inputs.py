"""JSON inputs of `replica solve MODEL --input FILE.json`: arrays from a stranger -> a checked model, or one clear line."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .model import Model
from .models import AnyLossLineNetwork, WeightedLineNetwork
from .models.schemes import WeightError, check_weights, data_moments, sample_weights

MAX_FILE_BYTES = 200_000_000

Number = Annotated[float, Field(strict=True)]
Vector = list[Number]
Matrix = list[list[Number]]


class InputError(ValueError):
    """The input cannot be used; one line naming the file, the key, and what is wanted there."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")

    times: list[Number | Literal["inf"]] = Field(min_length=1)

    def time_values(self) -> np.ndarray:
        return np.array([math.inf if t == "inf" else t for t in self.times])


class _Weights(_Strict):
    """Weights one by one, or a scheme, a width and a seed."""

    u: Vector | None = None
    w: Vector | None = None
    scheme: str | None = None
    width: Annotated[int, Field(ge=1, le=10_000_000)] | None = None
    seed: Annotated[int, Field(ge=0)] = 0
    gamma: Number | None = None
    eta_u: Number = 1.0
    eta_w: Number = 1.0
    x: Vector | None = None
    y: Vector | None = None

    def weights(self) -> tuple[np.ndarray, np.ndarray, float]:
        """Both layers and the multiplier."""
        if self.scheme is not None:
            if self.u is not None or self.w is not None or self.width is None:
                raise WeightError("give either u and w, or scheme and width")
            u, w, gamma = sample_weights(self.scheme, self.width, self.seed)
        else:
            if self.u is None or self.w is None:
                raise WeightError("initial weights are missing: give u and w, or scheme and width")
            (u, w), gamma = check_weights(self.u, self.w), 1.0
        return u, w, gamma if self.gamma is None else self.gamma


class LineInput(_Weights):
    """Input of `line-network`; data as x and y, or as their moments A, B and C (null means B^2/A)."""

    A: Number | None = None
    B: Number | None = None
    C: Number | None = None
    c_loss: Number = 1.0
    loss_level: Number = 0.0

    def moments(self) -> dict[str, float]:
        if self.x is not None or self.y is not None:
            if self.x is None or self.y is None or self.A is not None or self.B is not None or self.C is not None:
                raise WeightError("give either data x and y, or their moments A, B and C")
            return data_moments(self.x, self.y)
        if self.A is None or self.B is None:
            raise WeightError("data are missing: give x and y, or A = E[x^2] and B = E[xy]")
        if not self.A > 0 or not math.isfinite(self.A):
            raise WeightError(f"A = {self.A:g} is outside its range (0, inf): it is E[x^2]")
        noise = 0.0 if self.C is None else self.C - self.B**2 / self.A
        if noise < 0 and noise > -1e-12 * abs(self.C or 0.0):
            noise = 0.0  # C typed as B^2/A, up to rounding
        if not noise >= 0:
            raise WeightError(f"C = {self.C} is below B^2/A = {self.B**2 / self.A:g}: no data have these moments")
        return {"A": self.A, "B": self.B, "noise": noise}


class AnyLossInput(_Weights):
    """Input of `any-loss-line-network`."""

    loss: str = "softplus(-y*f)"
    decay: Number = 0.0


class MixtureInput(BaseModel):
    """Input of `mixture`: any clusters; `covariances` is one variance, one per cluster, one matrix, or one matrix per cluster."""

    model_config = ConfigDict(extra="forbid")

    means: Matrix = Field(min_length=1)
    labels: Vector = Field(min_length=1)
    weights: Vector | None = None
    covariances: Number | Vector | Matrix | list[Matrix] = 1.0
    gamma: Number = 0.1
    p: Number = 0.05
    norm: str = "sphere"
    bias_law: str = "fixed"
    bias: Number = 0.0
    least: Number = 0.0
    neurons: Annotated[int, Field(ge=1)] = 100
    batch: Number = math.inf


class BalancedInput(_Strict):
    """Input of `balanced-network`."""

    W1: Matrix
    W2: Matrix
    Sigma: Matrix
    eta_1: Number = 1.0
    eta_2: Number = 1.0


@dataclass(frozen=True)
class LineProblem:
    """A line network read from a file."""

    model: Model
    parameters: dict[str, float]
    times: np.ndarray


def read_line(path: str | Path) -> LineProblem:
    """`line-network` from a file; InputError, WeightError or ParameterError in one line."""
    given: Any = _read(path, LineInput)
    u, w, gamma = given.weights()
    rates = {"gamma": gamma, "eta_u": given.eta_u, "eta_w": given.eta_w}
    return LineProblem(
        WeightedLineNetwork(u, w),
        {**rates, **given.moments(), "c_loss": given.c_loss, "loss_level": given.loss_level},
        given.time_values(),
    )


def read_any_loss(path: str | Path) -> LineProblem:
    """`any-loss-line-network` from a file."""
    given: Any = _read(path, AnyLossInput)
    u, w, gamma = given.weights()
    if given.x is None or given.y is None:
        raise WeightError("data are missing: give x and y")
    norm_u, norm_w = float(np.linalg.norm(u)), float(np.linalg.norm(w))
    cos = float(u @ w) / (norm_u * norm_w) if norm_u * norm_w else 0.0
    start = {"norm_u0": norm_u, "norm_w0": norm_w, "cos_angle0": max(-1.0, min(1.0, cos))}
    rates = {"gamma": gamma, "eta_u": given.eta_u, "eta_w": given.eta_w, "decay": given.decay}
    return LineProblem(AnyLossLineNetwork(given.x, given.y, given.loss), {**rates, **start}, given.time_values())


def read_balanced(path: str | Path) -> tuple[Any, np.ndarray]:
    """`balanced-network` from a file (a `BalancedNetwork`), and the times."""
    from .balanced_network import BalancedNetwork  # brings scipy's linear algebra, which the others do without

    given: Any = _read(path, BalancedInput)
    matrices = []
    for name in ("W1", "W2", "Sigma"):
        rows = getattr(given, name)
        if not rows or len({len(row) for row in rows}) != 1 or not rows[0]:
            raise InputError(f"{path}: {name} is not a matrix: its rows must have one length, at least 1")
        matrices.append(np.array(rows, dtype=float))
    W1, W2, Sigma = matrices
    return BalancedNetwork(W1, W2, Sigma, eta_1=given.eta_1, eta_2=given.eta_2), given.time_values()


def read_mixture(path: str | Path) -> dict[str, Any]:
    """Gradient features of any `mixture`, from a file: its feature set, coverage and Bayes error, as plain data."""
    from .gradient_features import (  # compiles kernels; the others do without
        GaussianMixture,
        Initialisation,
        ProblemError,
    )
    from .gradient_features.report import mixture_report

    given: Any = _read(path, MixtureInput)
    for name in ("means", "covariances"):
        rows = getattr(given, name)
        if isinstance(rows, list) and isinstance(rows[0], list) and len({len(row) for row in rows}) != 1:
            raise InputError(f"{path}: {name} is ragged: its rows must have one length")
    try:
        problem = GaussianMixture(given.means, given.labels, given.weights, given.covariances)
        init = Initialisation(given.norm, given.bias_law, given.bias)
        return mixture_report(problem, given.p, given.gamma, init, given.least, given.neurons, given.batch)
    except (ProblemError, ValueError) as error:
        raise InputError(f"{path}: {error}") from None


#: Models that are read from a file, because their arrays do not fit a command line.
READERS = {"line-network": read_line, "any-loss-line-network": read_any_loss, "balanced-network": read_balanced,
           "mixture": read_mixture}  # fmt: skip


def _read(path: str | Path, kind: type[BaseModel]) -> BaseModel:
    path = Path(path)
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise InputError(f"{path}: larger than {MAX_FILE_BYTES} bytes")
        raw: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None
    except (UnicodeDecodeError, RecursionError, json.JSONDecodeError) as error:
        raise InputError(f"{path}: not valid JSON: {' '.join(str(error).split())}") from None
    if not isinstance(raw, dict):
        raise InputError(f"{path}: not a JSON object with the keys {', '.join(kind.model_fields)}")
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        first: Any = error.errors()[0]
        place = ".".join(str(p) for p in first["loc"] if not str(p).startswith(("list[", "float", "literal", "constrained")))
        if first["type"] == "extra_forbidden":
            raise InputError(f"{path}: unknown key {place!r}; the keys are {', '.join(kind.model_fields)}") from None
        shown = first.get("input")
        value = f" (got {shown!r})" if isinstance(shown, str | int | float | bool) or shown is None else ""
        raise InputError(f"{path}: {place}: {first['msg'].lower()}{value}") from None
