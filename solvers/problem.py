"""The data that crosses from symbols to numbers: quantities, layouts, and the problem itself.

Everything here is plain, frozen and picklable; no callables.  A worker rebuilds the compiled functions
from the kernel text (see `kernels`).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np


class ParameterError(ValueError):
    """A parameter is missing, unknown, or outside its range.  The message is one line, fit for a user."""


@dataclass(frozen=True)
class Quantity:
    """One named thing of a model: a parameter, an order parameter, a conjugate or an observable.

    Attributes
    ----------
    name : str
        The one name it has everywhere, from the model's attribute to the HDF5 variable.
    long_name, latex, units : str
    lower, upper : float
        Allowed range; `lower_open` and `upper_open` exclude an end.  Parameters must be finite unless
        ``upper`` is inf and `infinite` is true.
    whole : bool
        Only whole numbers (and inf, if allowed).
    dims : tuple of str
        Names of the index dimensions (empty for a scalar).
    shape : tuple of int
    symmetric : bool
        A symmetric matrix: only the upper triangle is independent.
    default : float or None
        For parameters: the value if none is given; None means it must be given.
    start : float
        For order parameters: where a cold start begins.
    informed : float or None
        For order parameters: where a start from next to the planted state begins; None if that is no different.
    floor : float
        For order parameters: size below which convergence is judged absolutely, not relative to the value.
    """

    name: str
    long_name: str
    latex: str = ""
    units: str = "1"
    lower: float = -math.inf
    upper: float = math.inf
    lower_open: bool = False
    upper_open: bool = False
    infinite: bool = False
    whole: bool = False
    dims: tuple[str, ...] = ()
    shape: tuple[int, ...] = ()
    symmetric: bool = False
    default: float | None = None
    start: float = 0.0
    informed: float | None = None
    floor: float = 1e-3

    @property
    def components(self) -> list[tuple[Any, ...]]:
        """Indices of the independent components, in storage order."""
        every: list[tuple[Any, ...]] = list(np.ndindex(*self.shape))
        return [i for i in every if not self.symmetric or i[0] <= i[1]]

    @property
    def range_text(self) -> str:
        """The allowed range as a person writes it, for instance ``(0, inf)``."""
        left = "(" if self.lower_open or self.lower == -math.inf else "["
        right = "]" if self.infinite or (self.upper < math.inf and not self.upper_open) else ")"
        return f"{left}{self.lower:g}, {self.upper:g}{right}"

    def check(self, value: object, model: str) -> float:
        """Return `value` as a float, or raise ParameterError naming parameter, value and range."""
        try:
            number = float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            raise ParameterError(f"{model}: parameter {self.name} = {value!r} is not a number") from None
        inside = self.lower < number if self.lower_open else self.lower <= number
        inside = inside and (number < self.upper if self.upper_open else number <= self.upper)
        inside = inside and (self.infinite or math.isfinite(number))
        if not inside:
            raise ParameterError(
                f"{model}: parameter {self.name} = {number:g} is outside its range {self.range_text} ({self.long_name})"
            )
        if self.whole and math.isfinite(number) and number != math.floor(number):
            raise ParameterError(f"{model}: parameter {self.name} = {number:g} is not a whole number ({self.long_name})")
        return number


@dataclass(frozen=True)
class Layout:
    """How named quantities, scalar or indexed, lie in one flat vector."""

    quantities: tuple[Quantity, ...]

    @cached_property
    def size(self) -> int:
        return sum(len(q.components) for q in self.quantities)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(q.name for q in self.quantities)

    @cached_property
    def component_names(self) -> tuple[str, ...]:
        """Names of the flat components: ``m``, ``V1[0,1]``."""
        return tuple(
            q.name + (f"[{','.join(map(str, i))}]" if i else "") for q in self.quantities for i in q.components
        )

    def unpack(self, flat: np.ndarray) -> dict[str, np.ndarray]:
        """Split ``flat`` (shape ``(..., size)``) into arrays by name, of shape ``(..., *quantity.shape)``."""
        out, offset = {}, 0
        for q in self.quantities:
            block = np.empty(flat.shape[:-1] + q.shape, dtype=flat.dtype)
            for index in q.components:
                block[(..., *index)] = flat[..., offset]
                if q.symmetric:
                    block[(..., *index[::-1])] = flat[..., offset]
                offset += 1
            out[q.name] = block
        return out

    def pack(self, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
        """The flat vector that `unpack` splits into these arrays, shape ``(..., size)``."""
        return np.stack([arrays[q.name][(..., *index)] for q in self.quantities for index in q.components], axis=-1)

    def broadcast(self, attribute: str) -> np.ndarray:
        """One number per flat component, from an attribute of the quantities (``lower``, ``start``...).

        Off the diagonal of a symmetric matrix there are no bounds, and a cold start is 0.
        """
        beside = {"lower": -math.inf, "upper": math.inf, "start": 0.0}
        return np.array(
            [
                beside[attribute] if q.symmetric and i[0] != i[1] and attribute in beside else getattr(q, attribute)
                for q in self.quantities
                for i in q.components
            ],
            dtype=float,
        )


@dataclass(frozen=True)
class Block:
    """A strongly connected block of the equations: indices of its unknowns, and whether it is linear in them."""

    indices: tuple[int, ...]
    linear: bool


@dataclass(frozen=True)
class KernelSource:
    """Text of one generated module, and the names of its entry points."""

    text: str
    entries: tuple[str, ...]


@dataclass(frozen=True)
class TableShape:
    """Size of the table of parameter-only averages.

    Attributes
    ----------
    scalars, columns : int
        Numbers stored once, and numbers stored at every node of the grid.
    features : int
        Kinks or sharp features the grid must respect; 0 means a smooth integrand (Gauss-Hermite grid).
    grid : bool
        Whether any average is left to do at solve time.
    panels : bool
        Whether output channels need a panel rule at the end of the table.
    """

    scalars: int
    columns: int
    features: int
    grid: bool
    panels: bool = False


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What every problem says of itself: parameters with their ranges, outputs, options and provenance.

    `options` and `provenance` are text by name; `provenance` holds equations, references and versions.
    """

    name: str
    title: str
    parameters: tuple[Quantity, ...]
    outputs: Layout
    options: Mapping[str, str] = field(default_factory=dict)
    provenance: Mapping[str, str] = field(default_factory=dict)

    @property
    def values(self) -> Layout:
        """Everything a solution contains."""
        return self.outputs

    @property
    def limits(self) -> tuple[str, ...]:
        """What a solution must satisfy, in words: bounds, then constraints."""
        return ()

    @property
    def sources(self) -> Mapping[str, str]:
        """Generated texts by name, and a digest of numbers the problem carries: what the results depend on."""
        raise TypeError(f"{type(self).__name__} does not say what its results depend on")

    @property
    def table_parameters(self) -> tuple[str, ...]:
        """Parameters whose change costs most; a scan lets them vary slowest."""
        return ()

    @property
    def joint_parameters(self) -> tuple[str, ...]:
        """Parameters that have to go together, each in its range or not; a scan checks all their combinations."""
        return ()

    def parameter(self, name: str) -> Quantity:
        for q in self.parameters:
            if q.name == name:
                return q
        known = ", ".join(q.name for q in self.parameters)
        if name in self.options:
            raise ParameterError(
                f"{self.name}: {name} is no parameter but an option: --option {name}=..., in Python an argument of the model; "
                f"its parameters are {known}"
            )
        raise ParameterError(f"{self.name}: unknown parameter {name!r}; its parameters are {known}")

    def point(self, parameters: Mapping[str, object]) -> np.ndarray:
        """Checked parameter vector, in the problem's order.

        Raises
        ------
        ParameterError
            Naming the parameter, its value, the allowed range and, for a wrong name, the known names.
        """
        for name in parameters:
            self.parameter(name)
        out = np.empty(len(self.parameters))
        for i, q in enumerate(self.parameters):
            value = parameters.get(q.name, q.default)
            if value is None:
                raise ParameterError(
                    f"{self.name}: parameter {q.name} ({q.long_name}, in {q.range_text}) was not given"
                )
            out[i] = q.check(value, self.name)
        return out


@dataclass(frozen=True, kw_only=True)
class FixedPointProblem(Problem):
    """A saddle point ready to be solved: kernels as text, layouts, ranges and provenance.

    `constraints` label expressions that are non-negative at a physical solution (the kernel `observe` returns their
    values after the outputs); `free` are the indices of unknowns without conjugate; `tabulated` are the parameters that
    the table depends on; `squares` are (unknown, root, parameter): the unknown exceeds root^2/parameter (no parameter: -1);
    `method` names what solves it if nothing is asked for.
    """

    unknowns: Layout
    squares: tuple[tuple[int, int, int], ...] = ()
    constraints: tuple[str, ...]
    blocks: tuple[Block, ...]
    free: tuple[int, ...]
    table: TableShape
    tabulated: tuple[str, ...]
    tabulate_source: KernelSource
    kernel_source: KernelSource
    method: str = "newton"

    @property
    def values(self) -> Layout:
        """Everything a solution contains: order parameters, then conjugates and observables."""
        return Layout(self.unknowns.quantities + self.outputs.quantities)

    @property
    def limits(self) -> tuple[str, ...]:
        return (*(f"bounds of {name}" for name in self.unknowns.component_names), *self.constraints)

    @property
    def sources(self) -> Mapping[str, str]:
        return {"tabulate_source": self.tabulate_source.text, "kernel_source": self.kernel_source.text}

    @property
    def table_parameters(self) -> tuple[str, ...]:
        return self.tabulated


#: The parameter along which a trajectory runs.
TIME = "time"


@dataclass(frozen=True, kw_only=True)
class TrajectoryProblem(Problem):
    """A motion in time, ready to be evaluated: one kernel text, sizes, and the numbers it starts from.

    Attributes
    ----------
    kind : {"closed", "flow", "map"}
        A formula in time; an ordinary differential equation; a map repeated at whole times.
    scalars : int
        Numbers made once per trajectory.
    state, state_per_node : int
        Components of the state that are integrated: global ones, and ones for every node of the spectrum.
    spectrum : bool
        Whether averages over the Marchenko-Pastur law are done by quadrature.
    data : tuple of ndarray
        Columns of equal length: initial weights, or data points.
    """

    kind: str
    scalars: int
    state: int
    state_per_node: int
    spectrum: bool
    data: tuple[np.ndarray, ...] = ()
    kernel_source: KernelSource

    @property
    def sources(self) -> Mapping[str, str]:
        digest = hashlib.sha256(b"".join(np.asarray(c, dtype="<f8").tobytes() for c in self.data)).hexdigest()
        return {"kernel_source": self.kernel_source.text, **({"data_digest": digest} if self.data else {})}

    @property
    def table_parameters(self) -> tuple[str, ...]:
        return tuple(q.name for q in self.parameters if q.name != TIME)


@dataclass(frozen=True)
class Evaluated:
    """What an `EvaluatedProblem` finds at one point: every output by name, and the error of its quadrature.

    `error` is the largest absolute error over the outputs by the problem's own estimate, `relative` the same relative to
    values above 1; `rounding` what is left of a closed formula.
    """

    values: Mapping[str, Any]
    error: float
    relative: float
    rounding: float = 1e-15


@dataclass(frozen=True, kw_only=True)
class EvaluatedProblem(Problem):
    """Numbers that are closed integrals: nothing is iterated, each point is evaluated by a function that says its error.

    Attributes
    ----------
    evaluate : callable
        ``evaluate(parameters, nodes) -> Evaluated``, deterministic; `nodes` is doubled until the error is small enough.
    check : callable
        ``check(parameters)`` raises ParameterError if parameters, each in its range, do not go together.
    digest : str
        Of the text that `evaluate` depends on.
    slowest : tuple of str
        Parameters whose change costs most.
    joint : tuple of str
        Parameters that `check` looks at.
    """

    evaluate: Callable[[Mapping[str, float], int], Evaluated]
    check: Callable[[Mapping[str, float]], None]
    digest: str
    slowest: tuple[str, ...] = ()
    joint: tuple[str, ...] = ()

    @property
    def sources(self) -> Mapping[str, str]:
        return {"evaluator_digest": self.digest}

    def point(self, parameters: Mapping[str, object]) -> np.ndarray:
        out = super().point(parameters)
        self.check(dict(zip([q.name for q in self.parameters], out.tolist(), strict=True)))
        return out

    @property
    def table_parameters(self) -> tuple[str, ...]:
        return self.slowest

    @property
    def joint_parameters(self) -> tuple[str, ...]:
        return self.joint


def as_problem(model: object) -> Problem:
    """A problem itself, or what an object's own ``compile()`` makes (a symbolic model, seen from here as a stranger)."""
    if isinstance(model, Problem):
        return model
    if isinstance(model, type):
        raise TypeError(f"expected a model, got the class {model.__name__}; write {model.__name__}()")
    compiled = getattr(model, "compile", None)
    problem = compiled() if callable(compiled) else None
    if not isinstance(problem, Problem):
        raise TypeError(f"expected a problem or a model with compile(), got {type(model).__name__}")
    return problem
