"""Activation functions: a name and one formula in z.

The formula is made of the primitives of `functions`, so that kernels, derivatives and simulations all follow from it.
A new activation is one line in `_FORMULAS`; any expression in z works without one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import sympy as sp

from .expressions import ExpressionError, check_real, parse_expression
from .functions import Primitive, almost_everywhere_derivative, evaluate, sgn

Z = sp.Symbol("z", real=True)


@dataclass(frozen=True)
class Activation:
    """A scalar function sigma(z) with the name the user gave it.

    Parameters
    ----------
    name : str
        ``"tanh"``, or the text of the expression.
    expression : sympy expression
        sigma as a function of `Z`, dimensionless.
    """

    name: str
    expression: sp.Expr

    def __str__(self) -> str:
        return self.name

    def formula(self, z: sp.Expr) -> sp.Expr:
        """sigma at the symbol or expression z."""
        return self.expression.xreplace({Z: z})

    def derivative(self, z: sp.Expr) -> sp.Expr:
        """sigma'(z) almost everywhere, as back-propagation uses it (0 for `sign`); not for Price's theorem."""
        return almost_everywhere_derivative(self.expression, Z).xreplace({Z: z})

    @property
    def kinks(self) -> tuple[float, ...]:
        """Points z where sigma is not smooth, increasing; the quadrature rule is split there.

        Kinks whose argument is not a polynomial in z, as in ``relu(tanh(z))``, are not found: the rule then
        converges slowly, which its error estimate reports.
        """
        found: list[float] = []
        for node in self.expression.atoms(Primitive):
            if node.args[0].is_polynomial(Z):
                for kink in node.kinks:
                    found += _real_roots(node.args[0] - kink)
        # A double root comes out of the eigenvalue solver as a pair some 1e-8 apart.
        distinct: list[float] = []
        for root in sorted(found):
            if not distinct or root - distinct[-1] > 1e-6 * (1 + abs(root)):
                distinct.append(root)
        return tuple(distinct)

    def signed(self) -> Activation:
        """The sign of this function, with its kinks where this function changes sign."""
        return _Signed(f"sign({self.name})", sgn(self.expression), self.zeros)

    @property
    def zeros(self) -> tuple[float, ...]:
        """Points in [-12, 12] where sigma changes its sign, increasing."""
        return self.zeros_within(12.0)

    def zeros_within(self, reach: float) -> tuple[float, ...]:
        """Points in [-reach, reach] where sigma changes its sign, increasing."""
        from scipy.optimize import brentq  # slow to import, seldom needed

        f = self.numeric()
        grid = np.linspace(-reach, reach, 2 * round(400 * reach) + 2)  # no node at 0, where many functions vanish
        with np.errstate(over="ignore"):
            signs = np.sign(f(grid))
        found = []
        for i in np.flatnonzero(signs[1:] * signs[:-1] < 0):
            found.append(float(brentq(lambda z: float(f(np.array([z]))[0]), grid[i], grid[i + 1], xtol=1e-15)))
        return tuple(found)

    def numeric(self) -> Callable[[np.ndarray], np.ndarray]:
        """sigma on arrays, elementwise, for simulations; the callable can be pickled."""
        return partial(_on_array, self.expression)

    def numeric_derivative(self) -> Callable[[np.ndarray], np.ndarray]:
        """`derivative` on arrays, elementwise."""
        return partial(_on_array, self.derivative(Z))


@dataclass(frozen=True)
class _Signed(Activation):
    """The sign of a function; jumps are found by their numbers, not by formula."""

    jumps: tuple[float, ...] = ()

    @property
    def kinks(self) -> tuple[float, ...]:
        return self.jumps


def _real_roots(polynomial: sp.Expr) -> list[float]:
    coefficients = [float(c) for c in sp.Poly(polynomial, Z).all_coeffs()]
    roots = np.roots(coefficients)
    return [float(root.real) for root in roots if abs(root.imag) < 1e-7 * (1 + abs(root))]


def _on_array(expression: sp.Expr, z: np.ndarray) -> np.ndarray:
    z = np.asarray(z, dtype=np.float64)
    value = np.asarray(evaluate(expression, {Z: z}))
    return value if value.shape == z.shape else np.full(z.shape, value)  # the derivative may be a constant


_FORMULAS = {
    "tanh": "tanh(z)",
    "erf": "erf(z)",
    "relu": "relu(z)",
    "leaky_relu": "relu(z) - relu(-z)/100",
    "softplus": "softplus(z)",
    "gelu": "z*normal_cdf(z)",
    "silu": "z*sigmoid(z)",
    "sigmoid": "sigmoid(z)",
    "sin": "sin(z)",
    "cos": "cos(z)",
    "sign": "sign(z)",
    "abs": "abs(z)",
    "identity": "z",
    "square": "z**2",
    "he2": "he2(z)",
    "he3": "he3(z)",
    "he4": "he4(z)",
}

NAMED: dict[str, Activation] = {name: Activation(name, parse_expression(text)) for name, text in _FORMULAS.items()}
"""Activations with a name of their own. `erf` is erf(z), not erf(z/sqrt(2)); the slope of `leaky_relu` is 0.01."""


def make_activation(text: str) -> Activation:
    """Activation from a name in `NAMED` or an expression in z such as ``"tanh(2*z) + he3(z)/6"``.

    Raises
    ------
    ExpressionError
        If the text is neither, or the function or its derivative is not real, finite and square integrable under
        N(0, 1), or it is a constant.
    """
    if isinstance(text, str) and text in NAMED:
        return NAMED[text]
    try:
        expression = parse_expression(text)
        if Z not in expression.free_symbols:
            raise ExpressionError(f"{expression} is a constant, which has no features")
        check_real(expression, Z)
        try:
            check_real(almost_everywhere_derivative(expression, Z), Z)
        except ExpressionError as error:
            raise ExpressionError(f"its derivative: {error}") from None
    except ExpressionError as error:
        shown = ascii(str(text) if len(str(text)) <= 60 else str(text)[:57] + "...")
        raise ExpressionError(
            f"activation {shown}: {error}. Known names: {', '.join(NAMED)}; otherwise write an expression in z"
        ) from None
    return Activation(text, expression)
