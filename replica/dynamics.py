"""Models that move in time: a vector field (or a closed form certified against it), declared like every other model.

A dynamic model gives its flow once.  What is evaluated is either the flow itself, integrated, or a closed form that carries
certificates: substituted into the flow it leaves nothing.  This file owns the declarations; `trajectories` prints the code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import sympy as sp

from .free_entropy import ModelError
from .model import Declaration, Model, Parameter

if TYPE_CHECKING:
    from .flow import Certificate, Flow


class State(Declaration):
    """A component of the state of a flow or map; `per_mode`: one for every eigenvalue of the spectrum.

    `index` and `symmetric` as for an order parameter.
    """

    def __init__(
        self,
        long_name: str,
        *,
        index: tuple[str, ...] = (),
        symmetric: bool = False,
        per_mode: bool = False,
        **kw: Any,
    ) -> None:
        super().__init__(long_name, **kw)
        self.index, self.symmetric, self.per_mode = index, symmetric, per_mode

    def dims(self) -> tuple[str, ...]:
        return self.index


class _Node(sp.Function):
    """An unevaluated sum or average over something the generated code loops over."""

    nargs = 1
    is_real = True

    def fdiff(self, argindex: int = 1) -> Any:
        raise ModelError(f"{type(self).__name__} has no derivative; differentiate its argument")


class ModeAverage(_Node):
    """Average over the eigenvalues `EIGENVALUE` of X^T X / n (Marchenko-Pastur law, zero eigenvalues included)."""

    def _latex(self, printer: Any, exp: Any = None) -> str:
        text = rf"\left\langle {printer._print(self.args[0])} \right\rangle"
        return text if exp is None else f"{text}^{{{exp}}}"


class DataSum(_Node):
    """Sum over the rows of the model's data; columns appear as `column` symbols."""

    def _latex(self, printer: Any, exp: Any = None) -> str:
        text = rf"\sum_i {printer._print(self.args[0])}"
        return text if exp is None else f"({text})^{{{exp}}}"


#: An eigenvalue of X^T X / n, under a `ModeAverage` and in the field of a per-mode state.
EIGENVALUE = sp.Symbol("h", nonnegative=True)


def column(name: str) -> Any:
    """The entry of a data column in the current row of a `DataSum`."""
    return sp.Symbol(f"row_{name}", real=True)


@dataclass(frozen=True)
class Derivation:
    """What `replica show` prints of a dynamic model: derived from the flow, each statement with its certificate."""

    flow: Flow
    invariants: Sequence[Any]
    closed_form: Mapping[Any, Any]
    certificates: Sequence[Certificate]
    note: str = ""


class DynamicModel(Model):
    """Base of the models that move in time.

    Subclasses set `kind` and declare a parameter named ``time``; they give `definitions` (made once per trajectory),
    `observables` and, unless `kind` is "closed", `initial` and `field`.

    Attributes
    ----------
    kind : {"closed", "flow", "map"}
        A formula in time; a differential equation; a map repeated at whole times.
    """

    kind: ClassVar[str] = "closed"
    method: ClassVar[str] = "integrate"

    def data(self) -> Mapping[str, np.ndarray]:
        """Columns of equal length that `DataSum` runs over."""
        return {}

    def rows(self) -> Any:
        """How many rows of the data a `DataSum` runs over, as an expression of parameters; None for all of them."""
        return None

    def samples_per_dimension(self) -> Any:
        """n/d of the spectrum, as an expression of parameters; None if there are no `ModeAverage`."""
        return None

    def initial(self) -> Mapping[Any, Any]:
        """State -> value at time 0."""
        return {}

    def field(self) -> Mapping[Any, Any]:
        """State -> its time derivative, or its next value for a map."""
        return {}

    def derivation(self) -> Derivation | None:
        """Flow, invariants, closed form and certificates; None for a model that is its own flow."""
        return None

    def compile(self) -> Any:
        """Lower and print: the numerical problem (`solvers.TrajectoryProblem`) of this model."""
        from .trajectories import (
            compile_dynamics,  # the upward call, made at run time so that models stay numerics-free
        )

        return compile_dynamics(self)


def time_parameter(*, infinite: bool) -> Parameter:
    """The parameter along which a trajectory runs."""
    return Parameter("time", lower=0, infinite=infinite, latex="t")
