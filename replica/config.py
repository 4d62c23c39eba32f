"""Scan configs: TOML text from a stranger -> checked objects, or one clear line.  Nothing is evaluated.

    model = "srf"
    [options]
    activation = "tanh"
    [parameters]            # fixed values
    eta = 3.0
    [grid]                  # axes, in order; a list, linspace or logspace (base-10 exponents)
    alpha = { linspace = [0.2, 3.0, 15] }
    reg = { logspace = [-4, 1, 6] }
    [method]
    name = "newton"
    rtol = 1e-10
    [simulation]            # optional: finite-size experiments stored beside the theory
    size = 400
    repeats = 8
    points = { alpha = [0.5, 1.0, 2.0] }   # axes not named here take all their values
"""

from __future__ import annotations

import difflib
import math
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, get_args

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from .validation import REPEATS, SEEDS, SIZES

#: Longest axis a config may ask for; a typing slip in a count should not fill the disk.
MAX_AXIS = 1_000_000
MAX_FILE_BYTES = 1_000_000
#: Largest power of ten of an axis; values given in place of exponents are found out.
MAX_POWER = 30
AXIS = "give a list of values, { linspace = [first, last, count] } or { logspace = [first exponent, last exponent, count] }"

Number = Annotated[float, Field(strict=True)] | Annotated[int, Field(strict=True)]


class ConfigError(ValueError):
    """The config cannot be used; one line naming the file, the place, and what is known there."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Spacing(_Strict):
    """``{ linspace = [first, last, count] }`` or ``{ logspace = [first exponent, last exponent, count] }``."""

    linspace: tuple[Number, Number, int] | None = None
    logspace: tuple[Number, Number, int] | None = None

    @model_validator(mode="after")
    def _one(self) -> Spacing:
        if (self.linspace is None) == (self.logspace is None):
            raise ValueError(AXIS)
        first, last, count = self.linspace or self.logspace or (0, 0, 0)
        if not 1 <= count <= MAX_AXIS:
            raise ValueError(f"the count {count} is outside its range [1, {MAX_AXIS}]")
        if not (math.isfinite(first) and math.isfinite(last)):
            raise ValueError("the ends must be finite; use a list for infinite values")
        if self.logspace and not all(abs(e) <= MAX_POWER for e in (first, last)):
            raise ValueError(f"logspace takes exponents of ten, between -{MAX_POWER} and {MAX_POWER}: [-2, 2, 5] is 0.01 to 100")
        return self

    def values(self) -> np.ndarray:
        return np.linspace(*self.linspace) if self.linspace else np.logspace(*(self.logspace or ()))


class SimulationConfig(_Strict):
    """Finite-size simulations to store beside the theory."""

    size: Annotated[int, Field(ge=SIZES[0], le=SIZES[1])]
    repeats: Annotated[int, Field(ge=REPEATS[0], le=REPEATS[1])]
    seed: Annotated[int, Field(ge=SEEDS[0], le=SEEDS[1])] = 0
    points: dict[str, list[Number]] = {}


class ScanConfig(_Strict):
    """A whole scan."""

    model: str
    options: dict[str, str] = {}
    parameters: dict[str, Number] = {}
    grid: dict[str, list[Number] | Spacing]
    method: dict[str, str | Number] = {}
    simulation: SimulationConfig | None = None

    @model_validator(mode="after")
    def _axes(self) -> ScanConfig:
        for name, axis in self.grid.items():
            if name in self.parameters:
                raise ValueError(f"{name} is given twice: as an axis under [grid] and under [parameters]")
            if isinstance(axis, list) and not 1 <= len(axis) <= MAX_AXIS:
                raise ValueError(f"grid axis {name} has {len(axis)} values; it needs between 1 and {MAX_AXIS}")
        for name in self.simulation.points if self.simulation else ():
            if name not in self.grid:
                raise ValueError(f"simulation.points: {name} is not an axis of [grid] ({', '.join(self.grid)})")
        return self

    def axes(self) -> dict[str, np.ndarray]:
        """Values by axis."""
        return {
            name: axis.values() if isinstance(axis, Spacing) else np.array(axis, dtype=float)
            for name, axis in self.grid.items()
        }


def read_config(path: str | Path) -> ScanConfig:
    """Read and check a TOML config.

    Raises
    ------
    ConfigError
        If there is no such file, it is not TOML, or a key or value is wrong.
    """
    path = Path(path)
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ConfigError(f"{path}: larger than {MAX_FILE_BYTES} bytes; a scan config is short TOML text")
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not a text file; a scan is described in TOML, its results go to --output") from None
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{path}: not valid TOML: {' '.join(str(error).split())}{_line(path, str(error))}") from None
    try:
        return ScanConfig.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(f"{path}: {_explain(_relevant(error.errors()))}") from None


def _line(path: Path, message: str) -> str:
    """The line a TOML error speaks of."""
    found = re.search(r"at line (\d+)", message)
    if not found:
        return ""
    line = path.read_text(encoding="utf-8", errors="replace").splitlines()[int(found.group(1)) - 1].strip()
    return f": {line[:80]!r}" + (", a key given twice" if "overwrite" in message else "")


def _relevant(errors: list[Any]) -> Any:
    """Of the errors of all branches of a union, one of the branch the user meant."""
    wrong_branch = [("list_type", dict), ("model_type", list), ("dict_type", list)]
    meant = [e for e in errors if not any(e["type"] == t and isinstance(e["input"], kind) for t, kind in wrong_branch)]
    return (meant or errors)[0]


def _explain(problem: Any) -> str:
    """One line from one pydantic error."""
    # Branches of a union appear in the location; a reader wants the path in the file.
    branches = ("list[", "float", "int", "Spacing", "constrained", "function-")
    place = [str(p) for p in problem["loc"] if not str(p).startswith(branches)]
    if problem["type"] == "extra_forbidden":
        known = _known_keys(place[:-1])
        close = difflib.get_close_matches(place[-1], known, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        section = f" in [{'.'.join(place[:-1])}]" if place[:-1] else ""
        return f"unknown key {place[-1]!r}{section}{hint} The keys there are {', '.join(known)}".replace("? The", "? the")
    value = problem.get("input")
    shown = f" (got {value!r})" if isinstance(value, str | int | float | bool) else ""
    if place[:1] == ["grid"] and len(place) > 1 and problem["type"] in ("list_type", "missing", "too_long", "model_type"):
        return f"grid.{place[1]}: {AXIS}{shown}; a single value belongs under [parameters]"
    if problem["type"] == "missing":
        return f"key {'.'.join(place)!r} is missing"
    text = problem["msg"].removeprefix("Value error, ")
    where = f"{'.'.join(place)}: " if place else ""
    return f"{where}{text[0].lower() + text[1:]}{shown}"


def _known_keys(place: list[str]) -> list[str]:
    model: type[BaseModel] = ScanConfig
    for key in place:
        if model is ScanConfig and key == "grid":
            return list(Spacing.model_fields)
        field = model.model_fields.get(key)
        inner = [a for a in get_args(field.annotation) if isinstance(a, type) and issubclass(a, BaseModel)] if field else []
        model = inner[0] if inner else model
    return list(model.model_fields)
