"""Expressions of a user, from text to sympy, without ever executing the text.

The text (from TOML or the command line) is parsed by `ast` into a tree that is never compiled; only whitelisted nodes
are rebuilt as sympy objects. `eval`, `sympify` and `parse_expr` are not used: the last two call `eval`.
Bounds on length, depth, exponents and the size of every constant keep a short text from becoming a long computation.
This file also owns `check_real`, which asks whether the function has a second moment under N(0, 1).
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import NamedTuple, NoReturn

import numpy as np
import sympy as sp

from .functions import NOT_REAL, absolute, evaluate, logcosh, normal_cdf, relu, sgn, sigmoid, softplus

MAX_LENGTH = 500
MAX_DEPTH = 50
MAX_NODES = 300
MAX_EXPONENT = 20
MAX_DEGREE = 60
MAX_SIZE = 2000  # nodes of the result; he4 and max repeat their argument, so nesting them would double at each level
MAX_CONSTANT = 1e15  # below 2^53: integers stay exact as float64

_FUNCTIONS: dict[str, Callable] = {
    "tanh": sp.tanh,
    "erf": sp.erf,
    "sin": sp.sin,
    "cos": sp.cos,
    "exp": sp.exp,
    "log": sp.log,
    "sqrt": sp.sqrt,
    "arctan": sp.atan,
    "abs": absolute,
    "sign": sgn,
    "relu": relu,
    "softplus": softplus,
    "sigmoid": sigmoid,
    "logcosh": logcosh,
    "normal_cdf": normal_cdf,
    "he2": lambda x: x**2 - 1,
    "he3": lambda x: x**3 - 3 * x,
    "he4": lambda x: x**4 - 6 * x**2 + 3,
    "max": lambda a, b: b + relu(a - b),
    "min": lambda a, b: b - relu(b - a),
}
_TWO_ARGUMENTS = ("max", "min")
#: What to write for a function under another name, or one that overflows.
_INSTEAD = {
    "cosh": "log(cosh(x)) is logcosh(x); else (exp(x) + exp(-x))/2", "sinh": "(exp(x) - exp(-x))/2", "ln": "log",
    "atan": "arctan", "Abs": "abs", "fabs": "abs", "sgn": "sign", "logistic": "sigmoid", "erfc": "1 - erf(x)",
    "Max": "max", "Min": "min",
}  # fmt: skip
_ONE = Fraction(1)
_GROWTH = {"sqrt": _ONE / 2, "he2": 2 * _ONE, "he3": 3 * _ONE, "he4": 4 * _ONE, "max": _ONE, "min": _ONE}  # degree in x
_COPIES = {"he3": 2, "he4": 2, "max": 2, "min": 2}  # how often f(x) contains x
_CONSTANTS = {"pi": sp.pi, "e": sp.E}
_OPERATORS: dict[type, Callable] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a / b,
}


class ExpressionError(ValueError):
    """The text is not an admissible expression; one line: what was found, where, what is allowed."""


class _Part(NamedTuple):
    expr: sp.Expr
    degree: Fraction  # polynomial degree, were everything expanded; 1 for a function of anything
    size: int


def parse_expression(text: str, variables: Sequence[str] = ("z",)) -> sp.Expr:
    """Translate text such as ``"tanh(2*z) + he3(z)/6"`` into a sympy expression.

    Parameters
    ----------
    text : str
        Numbers, the variables, ``pi``, ``e``, ``+ - * / **``, and calls of tanh, erf, sin, cos, exp, log, sqrt, arctan,
        abs, sign, relu, softplus, sigmoid, logcosh, normal_cdf, he2, he3, he4 (probabilists' Hermite polynomials), max and min
        of two. Exponents are rational numbers between -20 and 20.
    variables : sequence of str
        Names that become real symbols.

    Returns
    -------
    sympy expression
        Integers are exact. Decimals become floats of 17 digits, not rationals: 17 digits name the float64 of the
        kernel exactly, whereas powers of long exact decimals grow without bound. Decimal exponents are exact rationals,
        so that ``z**0.5`` is ``sqrt(z)``.

    Raises
    ------
    ExpressionError
        For everything else.
    """
    return _Reader(text, tuple(variables)).read()


class _Reader:
    def __init__(self, text: str, variables: tuple[str, ...]):
        self.text, self.variables = text, variables

    def read(self) -> sp.Expr:
        if not isinstance(self.text, str):
            raise ExpressionError(f"an expression is a text, found {type(self.text).__name__}; {self._allowed()}")
        if len(self.text) > MAX_LENGTH:
            self._refuse(MAX_LENGTH, f"a text of {len(self.text)} characters (at most {MAX_LENGTH})")
        odd = re.search(r"[^A-Za-z0-9_+\-*/()., ]", self.text)
        if odd:
            hint = " (a power is written **)" if odd.group() == "^" else ""
            self._refuse(odd.start(), f"the character {odd.group()!a}{hint}")
        self.lead = len(self.text) - len(self.text.lstrip(" "))  # ast refuses leading blanks
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # "1if z" only warns here, its tree is refused below
                tree = ast.parse(self.text.lstrip(" "), mode="eval").body
        except SyntaxError as error:
            self._refuse(self.lead + (error.offset or 1) - 1, "an incomplete or malformed expression")
        except (ValueError, RecursionError, MemoryError):
            self._refuse(0, "a text that cannot be parsed")
        self._measure(tree)
        # (z**2)**0.5 comes back from sympy as Abs(z), which has no kink attribute.
        return self._part(tree).expr.replace(sp.Abs, absolute)

    def _measure(self, tree: ast.expr) -> None:
        """Refuse a large or deep tree, level by level: nothing recursive may touch it before."""
        level, depth, count = [tree], 0, 0
        while level:
            depth, count = depth + 1, count + len(level)
            if depth > MAX_DEPTH:
                self._refuse_node(level[0], f"nesting deeper than {MAX_DEPTH}")
            if count > MAX_NODES:
                self._refuse(0, f"more than {MAX_NODES} operations")
            level = [child for node in level for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr)]

    def _part(self, node: ast.expr) -> _Part:
        part = self._build(node)
        if part.degree > MAX_DEGREE:
            self._refuse_node(node, f"nested powers of total degree {float(part.degree):g} (at most {MAX_DEGREE})")
        if part.size > MAX_SIZE:
            self._refuse_node(node, f"an expression of more than {MAX_SIZE} terms once written out")
        if part.expr.has(*NOT_REAL):
            self._refuse_node(node, "a division by zero or a complex number")
        # Refused level by level: exp(exp(exp(30.0))) must be stopped before sympy tries to compute it.
        if not part.expr.free_symbols and not abs(float(evaluate(part.expr, {}))) < MAX_CONSTANT:
            self._refuse_node(node, f"a constant that is not real or not below {MAX_CONSTANT:.0e}")
        return part

    def _build(self, node: ast.expr) -> _Part:
        number = _literal(node)
        if number is not None:
            if not abs(number) < MAX_CONSTANT:
                self._refuse_node(node, f"the number {self._source(node)}, not below {MAX_CONSTANT:.0e}")
            expr = sp.Integer(number) if isinstance(number, int) else sp.Float(number, 17)
            return _Part(expr, Fraction(0), 1)
        if isinstance(node, ast.Name):
            return self._name(node)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.UAdd, ast.USub)):
            part = self._part(node.operand)
            return part if isinstance(node.op, ast.UAdd) else part._replace(expr=-part.expr)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
            base, exponent = self._part(node.left), self._exponent(node.right)
            # A bare number counts as degree 1, or (1/2)**20**20... would make ever longer fractions.
            degree = max(base.degree, _ONE) * abs(exponent)
            return _Part(base.expr ** sp.Rational(exponent.numerator, exponent.denominator), degree, base.size + 2)
        if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
            left, right = self._part(node.left), self._part(node.right)
            adds = isinstance(node.op, (ast.Add, ast.Sub))
            degree = max(left.degree, right.degree) if adds else left.degree + right.degree
            return _Part(_OPERATORS[type(node.op)](left.expr, right.expr), degree, left.size + right.size + 1)
        if isinstance(node, ast.Call):
            return self._call(node)
        self._refuse_node(node, f"{type(node).__name__} {self._source(node)}")

    def _name(self, node: ast.Name) -> _Part:
        if node.id in self.variables:
            return _Part(sp.Symbol(node.id, real=True), _ONE, 1)
        if node.id in _CONSTANTS:
            return _Part(_CONSTANTS[node.id], Fraction(0), 1)
        hint = " without its argument" if node.id in _FUNCTIONS else ""
        self._refuse_node(node, f"the name {self._source(node)}{hint}")

    def _call(self, node: ast.Call) -> _Part:
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name not in _FUNCTIONS:
            hint = f" (write {_INSTEAD[name]})" if name in _INSTEAD else ""
            self._refuse_node(node, f"a call of {self._source(node.func)}{hint}")
        expected = 2 if name in _TWO_ARGUMENTS else 1
        if node.keywords or len(node.args) != expected:
            self._refuse_node(node, f"{name} with other than {expected} plain argument(s)")
        parts = [self._part(argument) for argument in node.args]
        degree = max(part.degree for part in parts) * _GROWTH[name] if name in _GROWTH else _ONE
        size = _COPIES.get(name, 1) * sum(part.size for part in parts) + 5
        return _Part(_FUNCTIONS[name](*(part.expr for part in parts)), degree, size)

    def _exponent(self, node: ast.expr) -> Fraction:
        value = self._rational(node)
        if value is None or abs(value) > MAX_EXPONENT or value.denominator > MAX_CONSTANT:
            self._refuse_node(
                node,
                f"the exponent {self._source(node)}, not a number like 2, -1, 0.5 or 1/3 of size at most {MAX_EXPONENT}"
                " (for powers of e write exp)",
            )
        return value

    def _rational(self, node: ast.expr) -> Fraction | None:
        """Exact value of an exponent; None if it is not a plain fraction of two numbers."""
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.UAdd, ast.USub)):
            inner = self._rational(node.operand)
            return -inner if inner is not None and isinstance(node.op, ast.USub) else inner
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            above, below = self._rational(node.left), self._rational(node.right)
            return above / below if above is not None and below else None
        number = _literal(node)
        # repr, the decimal text: 0.1 is 1/10
        return Fraction(repr(number)) if number is not None and abs(number) < MAX_CONSTANT else None

    def _source(self, node: ast.expr) -> str:
        source = self.text[self.lead + node.col_offset :][: (node.end_col_offset or 0) - node.col_offset]
        return ascii(source if len(source) <= 30 else source[:27] + "...")

    def _allowed(self) -> str:
        names = ", ".join((*self.variables, *_CONSTANTS))
        return f"allowed are numbers, {names}, + - * / ** and the functions {', '.join(sorted(_FUNCTIONS))}"

    def _refuse_node(self, node: ast.expr, found: str) -> NoReturn:
        self._refuse(self.lead + node.col_offset, found)

    def _refuse(self, column: int, found: str) -> NoReturn:
        raise ExpressionError(f"column {column + 1}: found {found}; {self._allowed()}") from None


def _literal(node: ast.expr) -> int | float | None:
    """The number written at this node; None for anything else, True and 2j included."""
    value = node.value if isinstance(node, ast.Constant) else None
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def check_real(expr: sp.Expr, variable: sp.Symbol) -> None:
    """Refuse an expression that is not a finite real, square-integrable function of z ~ N(0, 1).

    Raises
    ------
    ExpressionError
        If a value on 201 points in [-8, 8] (zero included) is complex, undefined or infinite; if a denominator changes
        sign between two of them; or if ``f(z)^2 exp(-z^2/2)`` does not decay.

    Notes
    -----
    A test on samples, not a proof. Decay: on either side the largest value for \\|z\\| in [29, 30] must be below the one
    in [24, 25] by a factor e; bounded functions and polynomials lose 100 and more in the exponent, ``exp(z**2/4)``
    nothing. The function must also be computable there, because quadrature nodes lie that far out.
    """
    name = str(expr) if len(str(expr)) <= 60 else str(expr)[:57] + "..."
    z = np.linspace(-8.0, 8.0, 201)

    def values_at(points: np.ndarray, part: sp.Expr = expr) -> np.ndarray:
        return np.broadcast_to(evaluate(part, {variable: points}), points.shape)

    bad = z[~np.isfinite(values_at(z))]
    if bad.size:
        worst = bad[np.argmin(np.abs(bad))]
        raise ExpressionError(f"{name} is complex, undefined or infinite at {variable} = {worst:g}")
    for power in expr.atoms(sp.Pow):
        if power.exp.is_negative:
            sign = np.sign(values_at(z, power.base))
            jumps = np.flatnonzero(sign[1:] * sign[:-1] < 0)
            if jumps.size:
                raise ExpressionError(
                    f"{name} has a pole: {power.base} changes sign near {variable} = {z[jumps[0]]:.2g}"
                )
    for side in (-1.0, 1.0):
        inner, outer = side * np.linspace(24.0, 25.0, 21), side * np.linspace(29.0, 30.0, 21)
        if not np.isfinite([values_at(inner), values_at(outer)]).all():
            raise ExpressionError(
                f"{name} cannot be computed at {variable} = {side * 30:g}: it overflows or is undefined"
            )
        with np.errstate(divide="ignore"):
            logs = [np.max(2 * np.log(np.abs(values_at(points))) - points**2 / 2) for points in (inner, outer)]
        if logs[1] > logs[0] - 1.0:
            raise ExpressionError(
                f"{name} is not square integrable under N(0, 1): it grows too fast towards {variable} = {side * 30:g}"
            )
