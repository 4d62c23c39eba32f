"""Symbols for the pieces of closed-form relaxations; their jitted twins of the same names are in `solvers.relaxation`.

Each is an opaque function in printed equations and in generated code, so that no simplification can bring back the
cancellations and the 0/0 that it is there to avoid; `spelled_out` gives the elementary formula, which is what certificates
work on.
"""

from __future__ import annotations

import inspect
from typing import Any

import sympy as sp


class Piece(sp.Function):
    """A function of several real arguments with an elementary formula."""

    is_real = True

    @classmethod
    def formula(cls, *arguments: Any) -> Any:
        raise TypeError(f"{cls.__name__} does not say what it stands for")

    @classmethod
    def meaning(cls) -> str:
        """Arguments, and what it stands for."""
        return f"of ({', '.join(inspect.signature(cls.formula).parameters)}): {cls.__doc__}"

    @classmethod
    def sign(cls) -> str:
        """How its name is set in LaTeX."""
        return r"\mathrm{" + cls.__name__.replace("_", r"\_") + "}"

    def _latex(self, printer: Any, exp: Any = None) -> str:
        arguments = r",\, ".join(printer._print(a) for a in self.args)
        text = rf"{self.sign()}\left({arguments}\right)"
        return text if exp is None else rf"{{{text}}}^{{{exp}}}"

    def fdiff(self, argindex: int = 1) -> Any:
        dummies = [sp.Dummy(real=True) for _ in self.args]
        slope = sp.diff(self.formula(*dummies), dummies[argindex - 1])
        return slope.xreplace(dict(zip(dummies, self.args, strict=True)))


class pace(Piece):
    """2 rate / (exp(rate t) - 1)."""

    nargs = 2

    @classmethod
    def formula(cls, rate: Any, t: Any) -> Any:
        return 2 * rate / (sp.exp(rate * t) - 1)


class pace_time(Piece):
    """The t at which pace(rate, t) = x."""

    nargs = 2

    @classmethod
    def formula(cls, rate: Any, x: Any) -> Any:
        return sp.log(1 + 2 * rate / x) / rate


class ratio(Piece):
    """(a + x)/(b + x)."""

    nargs = 3

    @classmethod
    def formula(cls, a: Any, b: Any, x: Any) -> Any:
        return (a + x) / (b + x)


class part(Piece):
    """a/b."""

    nargs = 2

    @classmethod
    def formula(cls, a: Any, b: Any) -> Any:
        return a / b


class times(Piece):
    """a b."""

    nargs = 2

    @classmethod
    def formula(cls, a: Any, b: Any) -> Any:
        return a * b


class upper_root(Piece):
    """s + sqrt(s^2 + 4 c)."""

    nargs = 2

    @classmethod
    def formula(cls, s: Any, c: Any) -> Any:
        return s + sp.sqrt(s**2 + 4 * c)


class half_log(Piece):
    """log(a/b)/(2 kappa), where a - b = kappa slope."""

    nargs = 4

    @classmethod
    def formula(cls, a: Any, b: Any, slope: Any, kappa: Any) -> Any:
        return sp.log(a / b) / (2 * kappa)


class hypotenuse(Piece):
    """sqrt(a^2 + b^2)."""

    nargs = 2

    @classmethod
    def formula(cls, a: Any, b: Any) -> Any:
        return sp.sqrt(a**2 + b**2)


class layer_norm(Piece):
    """The y >= 0 with other y^2 - own z^2 = imbalance and y z = product."""

    nargs = 5

    @classmethod
    def formula(cls, imbalance: Any, product: Any, own: Any, other: Any, start: Any) -> Any:
        return sp.sqrt((imbalance + sp.sqrt(imbalance**2 + 4 * own * other * product**2)) / (2 * other))


class elapsed(Piece):
    """(exp(rate s) - 1)/rate."""

    nargs = 2

    @classmethod
    def formula(cls, rate: Any, s: Any) -> Any:
        return (sp.exp(rate * s) - 1) / rate


class fade(Piece):
    """exp(-rate t)."""

    nargs = 2

    @classmethod
    def formula(cls, rate: Any, t: Any) -> Any:
        return sp.exp(-rate * t)


class finite_part(Piece):
    """1, or 0 in the ridgeless limit below interpolation, where responses are measured in 1/reg."""

    nargs = 3

    @classmethod
    def formula(cls, reg: Any, samples: Any, weights: Any) -> Any:
        return sp.S.One

    def fdiff(self, argindex: int = 1) -> Any:
        """In units of 1/reg the 1 of 1 + V is reg, so in the limit it grows with it."""
        return 1 - self if argindex == 1 else sp.S.Zero


class penalty(Piece):
    """reg, or 1 in the ridgeless limit below interpolation, where responses are measured in 1/reg."""

    nargs = 3

    @classmethod
    def formula(cls, reg: Any, samples: Any, weights: Any) -> Any:
        return reg

    def fdiff(self, argindex: int = 1) -> Any:
        return finite_part(*self.args) if argindex == 1 else sp.S.Zero


class variance(Piece):
    """x; 0 where rounding has made it negative.  Where x may be negative for another reason a constraint has to say so."""

    nargs = 1

    @classmethod
    def formula(cls, x: Any) -> Any:
        return x


PIECES: dict[str, type[Piece]] = {
    piece.__name__: piece
    for piece in (
        pace, pace_time, ratio, part, times, upper_root, half_log, hypotenuse, layer_norm, elapsed, fade, finite_part, penalty,
        variance,
    )
}  # fmt: skip


def spelled_out(expression: Any) -> Any:
    """The expression with every piece replaced by its elementary formula."""
    return expression.replace(lambda e: isinstance(e, Piece), lambda e: e.formula(*e.args))
