"""EvaluatedModel -> EvaluatedProblem: layouts and ranges as for every model, and the model's own function with its error."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from solvers.problem import Evaluated, EvaluatedProblem, Layout, ParameterError

from .compile import check_names, quantity
from .evaluated import EvaluatedModel
from .free_entropy import ModelError
from .model import Observable, Parameter


def compile_evaluated(model: EvaluatedModel) -> EvaluatedProblem:
    """Everything numeric about a model of closed integrals.

    Raises
    ------
    ModelError
        If an observable has no formula.
    """
    check_names(model)
    observables = model.active(Observable)
    formulas = model.formulas()
    for name in observables:
        if name not in formulas:
            raise ModelError(f"{model.name}: no formula is given for {name}")
    return EvaluatedProblem(
        name=model.name,
        title=model.title,
        parameters=tuple(quantity(model, p) for p in model.active(Parameter).values()),
        outputs=Layout(tuple(quantity(model, o) for o in observables.values())),
        options=model.options,
        provenance={
            "references": model.references,
            **model.statement(),
            "equations": json.dumps([f"{observables[name].latex} = {formulas[name].latex}" for name in observables]),
        },
        evaluate=_Evaluator(model, tuple(observables)),
        check=_Checker(model),
        digest=text_digest(type(model).__module__, *model.text),
        slowest=model.slowest,
        joint=model.joint,
    )


@dataclass(frozen=True)
class _Evaluator:
    """The model's function, with the errors of all observables put together."""

    model: EvaluatedModel
    names: tuple[str, ...]

    def __call__(self, parameters: Mapping[str, float], nodes: int) -> Evaluated:
        found = self.model.evaluate(parameters, nodes)
        error = relative = 0.0
        for name in self.names:
            value, bound = (np.asarray(part, dtype=float) for part in found[name])
            error = max(error, float(bound.max()))
            relative = max(relative, float((bound / np.maximum(1.0, np.abs(value))).max()))
        return Evaluated({name: found[name][0] for name in self.names}, error, relative)


@dataclass(frozen=True)
class _Checker:
    """The model's check, its message headed by the model's name."""

    model: EvaluatedModel

    def __call__(self, parameters: Mapping[str, float]) -> None:
        try:
            self.model.check(parameters)
        except ValueError as error:
            raise ParameterError(f"{self.model.name}: {error}") from None


def text_digest(*modules: str) -> str:
    """Digest of the source of modules and packages."""
    digest = hashlib.sha256()
    for name in modules:
        spec = find_spec(name)
        if spec is None or spec.origin is None:
            raise ModelError(f"no source of {name}")
        path = Path(spec.origin)
        for file in sorted(path.parent.glob("*.py")) if path.name == "__init__.py" else [path]:
            digest.update(file.read_bytes())
    return digest.hexdigest()
