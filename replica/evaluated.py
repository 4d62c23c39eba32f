"""Models whose numbers are closed integrals: declared like every other model, evaluated point by point, each with its own error.

There is nothing to derive and nothing to iterate; a model says what it computes (`formulas`) and computes it (`evaluate`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

from .free_entropy import ModelError
from .model import Model


class Formula(NamedTuple):
    """What an observable is, for a terminal and in LaTeX."""

    text: str
    latex: str


class EvaluatedModel(Model):
    """Base of the models whose numbers are closed integrals.

    Subclasses declare parameters, options and observables, and give `formulas` and `evaluate`.

    Attributes
    ----------
    text : tuple of str
        Modules (or packages) on whose text the numbers depend; a scan file remembers their digest.
    slowest : tuple of str
        Parameters whose change costs most.
    joint : tuple of str
        Parameters that `check` looks at.
    """

    method: ClassVar[str] = "evaluate"
    text: ClassVar[tuple[str, ...]] = ()
    slowest: ClassVar[tuple[str, ...]] = ()
    joint: ClassVar[tuple[str, ...]] = ()

    def formulas(self) -> Mapping[str, Formula]:
        """Observable -> formula."""
        return {}

    def check(self, parameters: Mapping[str, float]) -> None:
        """ValueError with one line if parameters that are each in range do not go together."""

    def evaluate(self, parameters: Mapping[str, float], nodes: int) -> Mapping[str, tuple[Any, Any]]:
        """Observable -> (value, largest absolute error), with `nodes` points per average."""
        raise ModelError(f"{type(self).__name__} has no evaluate()")

    def compile(self) -> Any:
        """The numerical problem (`solvers.EvaluatedProblem`) of this model."""
        from .evaluations import (
            compile_evaluated,  # the upward call, made at run time so that models stay numerics-free
        )

        return compile_evaluated(self)
