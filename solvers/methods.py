"""Methods: frozen options of one driver each.  How they work is in `iteration` and `newton`.

Convention, said once: ``damping`` in [0, 1) is the weight of the *old* value.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any, ClassVar


class MethodError(ValueError):
    """A method name or option that does not exist or is out of range; one line, fit for a user."""


@dataclass(frozen=True, kw_only=True)
class Method:
    """Options every method has.

    Attributes
    ----------
    rtol : float
        Converged when the residual of the undamped map is at most this (see `solvers.result.Solution`).
    max_steps : int
    nodes, max_nodes : int
        Quadrature nodes per average to begin with, and the most to try: nodes are doubled until the solution moves
        by less than `quadrature_rtol` (relative, absolute below 1).
    quadrature_rtol : float
    """

    name: ClassVar[str] = ""
    rtol: float = 1e-10
    max_steps: int = 400
    nodes: int = 72
    max_nodes: int = 1152
    quadrature_rtol: float = 1e-10

    def __post_init__(self) -> None:
        for option in ("rtol", "quadrature_rtol"):
            value = getattr(self, option)
            if not (isinstance(value, int | float) and 0 < value < 1):
                raise MethodError(f"method {self.name}: {option} = {value!r} is outside its range (0, 1)")
        for option, low in (("max_steps", 1), ("nodes", 4), ("max_nodes", 4)):
            value = getattr(self, option)
            if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= 10**9:
                raise MethodError(f"method {self.name}: {option} = {value!r} is not a whole number of at least {low}")
        if self.max_nodes < self.nodes:
            raise MethodError(f"method {self.name}: max_nodes = {self.max_nodes} is below nodes = {self.nodes}")
        if self.max_nodes > 4096:
            raise MethodError(f"method {self.name}: max_nodes = {self.max_nodes} is above its limit 4096")

    @property
    def levels(self) -> int:
        """How many doublings of the nodes are allowed."""
        return int(math.log2(self.max_nodes / self.nodes))

    def options(self) -> dict[str, float | int]:
        return {f.name: getattr(self, f.name) for f in fields(self)}


@dataclass(frozen=True, kw_only=True)
class DampedIteration(Method):
    """``x <- damping x + (1 - damping) F(x)``: the plain, always available method."""

    name: ClassVar[str] = "damped"
    max_steps: int = 100_000
    damping: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (isinstance(self.damping, int | float) and 0 <= self.damping < 1):
            raise MethodError(f"method damped: damping = {self.damping!r} is outside its range [0, 1)")


@dataclass(frozen=True, kw_only=True)
class Anderson(Method):
    """Anderson acceleration of the damped iteration over the last `depth` steps."""

    name: ClassVar[str] = "anderson"
    max_steps: int = 10_000
    damping: float = 0.3
    depth: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (isinstance(self.damping, int | float) and 0 <= self.damping < 1):
            raise MethodError(f"method anderson: damping = {self.damping!r} is outside its range [0, 1)")
        if not isinstance(self.depth, int) or not 1 <= self.depth <= 20:
            raise MethodError(f"method anderson: depth = {self.depth!r} is not a whole number in [1, 20]")


@dataclass(frozen=True, kw_only=True)
class Newton(Method):
    """Safeguarded Newton, block by block along the derived structure; linear blocks in one step."""

    name: ClassVar[str] = "newton"


@dataclass(frozen=True, kw_only=True)
class Ladder(Method):
    """Newton's method; where it fails Anderson's, where that fails the damped iteration.

    A point stays as Newton's method left it unless a later rung solves it.  In a scan there is one rung more: Newton's method
    from the solutions at neighbouring points.  `max_steps` bounds each rung, Newton's by its own default too.
    """

    name: ClassVar[str] = "ladder"
    max_steps: int = 2000

    @property
    def rungs(self) -> tuple[Method, ...]:
        """The methods, in the order in which they are tried."""
        same: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(Method)}
        newton = {**same, "max_steps": min(self.max_steps, Newton.max_steps)}
        return Newton(**newton), Anderson(**same), DampedIteration(**same)


@dataclass(frozen=True, kw_only=True)
class Integrate(Method):
    """Trajectories in time: a formula is evaluated, a flow integrated (Dormand-Prince 8(5,3)), a map repeated.

    `rtol` bounds the change of the values under a hundred times smaller tolerance; `max_steps` counts steps of the
    integrator, or of the map.
    """

    name: ClassVar[str] = "integrate"
    max_steps: int = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Evaluate(Method):
    """Closed integrals by quasi-Monte Carlo: `nodes` points per replicate (a power of two), doubled until the error estimate is
    below `quadrature_rtol` (relative, absolute below 1); the other options play no part.
    """

    name: ClassVar[str] = "evaluate"
    nodes: int = 1024
    max_nodes: int = 4096
    quadrature_rtol: float = 5e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nodes & (self.nodes - 1):
            raise MethodError(f"method evaluate: nodes = {self.nodes} is not a power of two")


METHODS: dict[str, type[Method]] = {m.name: m for m in (DampedIteration, Anderson, Newton, Ladder, Integrate, Evaluate)}


def make_method(name: str = "newton", **options: object) -> Method:
    """Method by name, its options checked.

    Raises
    ------
    MethodError
        Naming the known methods, or the options this method has.
    """
    if name not in METHODS:
        raise MethodError(f"unknown method {name!r}; the methods are {', '.join(METHODS)}")
    known = [f.name for f in fields(METHODS[name])]
    for option in options:
        if option not in known:
            raise MethodError(f"method {name}: unknown option {option!r}; its options are {', '.join(known)}")
    return METHODS[name](**options)  # type: ignore[arg-type]
