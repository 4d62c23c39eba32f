"""What a model file declares: parameters, order parameters, conjugates, definitions, observables, options.

A declaration is a class attribute; on an instance the same attribute is a sympy symbol (or matrix of symbols, for an
indexed order parameter), so a name is typed once: attribute = symbol = HDF5 variable.  Nothing numeric lives here.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from copy import copy
from functools import cache, cached_property
from typing import Any, ClassVar

import sympy as sp

from .activations import Activation, make_activation
from .free_entropy import FreeEntropy, ModelError
from .losses import NAMED as LOSSES
from .losses import Loss, make_loss
from .output import OutputChannel


class OptionError(ValueError):
    """An unknown option, or a value an option does not take; one line, fit for a user."""


class Declaration:
    """Common part of all declarations: a name, a meaning, a range, LaTeX.

    Parameters
    ----------
    long_name : str
        One phrase of meaning; appears in errors, docs and files.
    latex : str
        Without dollar signs.
    lower, upper : float
        Allowed range, dimensionless; `lower_open` and `upper_open` exclude an end.
    only : mapping, optional
        Options with which it exists: their text, or a tuple of texts, by name.
    """

    def __init__(
        self,
        long_name: str,
        *,
        latex: str = "",
        lower: float = -math.inf,
        upper: float = math.inf,
        lower_open: bool = False,
        upper_open: bool = False,
        only: Mapping[str, str | tuple[str, ...]] | None = None,
    ) -> None:
        self.only = only or {}
        self.long_name, self._latex = long_name, latex
        self.lower, self.upper, self.lower_open, self.upper_open = lower, upper, lower_open, upper_open
        self.name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @property
    def latex(self) -> str:
        return self._latex or sp.latex(sp.Symbol(self.name))

    def __get__(self, model: Model | None, owner: type) -> Any:
        return self if model is None else model.symbol(self)

    def dims(self) -> tuple[str, ...]:
        """Names of the index dimensions; empty for a scalar."""
        return ()


class Parameter(Declaration):
    """A number given at run time.  `infinite` allows inf; `default` makes it optional; `whole`: no fractions.

    With an `index` it is a vector, given as one number ``name_0``, ``name_1``... per entry.
    """

    def __init__(
        self,
        long_name: str,
        *,
        infinite: bool = False,
        default: float | None = None,
        whole: bool = False,
        index: tuple[str, ...] = (),
        **kw: Any,
    ) -> None:
        super().__init__(long_name, **kw)
        self.infinite, self.default, self.whole, self.index = infinite, default, whole, index

    def dims(self) -> tuple[str, ...]:
        return self.index

    def entries(self, count: int) -> list[Parameter]:
        """One scalar parameter per entry of a vector."""
        out = []
        for i in range(count):
            entry = copy(self)
            entry.name, entry.index = f"{self.name}_{i}", ()
            entry.long_name, entry._latex = f"{self.long_name}, number {i}", rf"{{{self.latex}}}_{{{i}}}"
            out.append(entry)
        return out


class OrderParameter(Declaration):
    """An overlap, scalar or indexed.

    Parameters
    ----------
    start : float
        Where a cold start begins; of symmetric matrices only the diagonal begins there, and only the diagonal has bounds.
    informed : float, optional
        Where a start from next to the planted state begins, if that may lead elsewhere: models with first-order transitions.
    floor : float
        Size below which convergence is judged absolutely.  The default suits overlaps, whose equations cancel; lower it
        for a quantity computed without cancellation that may be small in honest units, such as a response.
    free : bool
        True if it has no conjugate (or one with some options only): fixed by its own stationarity.
    index : tuple of str
        Index dimensions (sizes from `Model.sizes`), at most two.
    symmetric : bool
        A symmetric matrix; entries above and below the diagonal are one variable.
    exceeds : (str, str or None), optional
        Of a variance: it is at least the square of the overlap named first divided by the parameter named second (or 1), and
        is solved for in the rest.
    """

    def __init__(
        self,
        long_name: str,
        *,
        start: float = 0.0,
        informed: float | None = None,
        floor: float = 1e-3,
        free: bool = False,
        index: tuple[str, ...] = (),
        symmetric: bool = False,
        exceeds: tuple[str, str | None] | None = None,
        **kw: Any,
    ) -> None:
        super().__init__(long_name, **kw)
        self.exceeds = exceeds
        self.start, self.informed, self.floor, self.free = start, informed, floor, free
        self.index, self.symmetric = index, symmetric

    def dims(self) -> tuple[str, ...]:
        return self.index


class Conjugate(Declaration):
    """Conjugate of an order parameter: the term ``coupling * x * xh`` of the free entropy."""

    def __init__(self, of: OrderParameter, coupling: Any, **kw: Any) -> None:
        self.of, self.coupling = of, sp.sympify(coupling, strict=True)
        super().__init__("", **kw)

    def __set_name__(self, owner: type, name: str) -> None:
        super().__set_name__(owner, name)
        self.long_name = f"conjugate to {self.of.name}"

    @property
    def latex(self) -> str:
        return self._latex or sp.latex(sp.Symbol(self.name.removesuffix("_hat"))).join((r"\hat{", "}"))

    def dims(self) -> tuple[str, ...]:
        return self.of.index


class Definition(Declaration):
    """A named quantity made of parameters only, or of parameters and one Gaussian variable (`of`).

    Used as ``self.c`` or, with a variable, ``self.mu0(kappa)``; `index` makes it a vector or matrix of such.
    """

    def __init__(self, long_name: str, *, of: str = "", index: tuple[str, ...] = (), **kw: Any) -> None:
        super().__init__(long_name, **kw)
        self.of, self.index = of, index

    def dims(self) -> tuple[str, ...]:
        return self.index


class Observable(Declaration):
    """A number reported at the solution; a finite `lower` is a physical constraint every converged point satisfies.

    `index` makes it a vector or matrix (in models that move in time).
    """

    def __init__(self, long_name: str, *, index: tuple[str, ...] = (), **kw: Any) -> None:
        super().__init__(long_name, **kw)
        self.index = index

    def dims(self) -> tuple[str, ...]:
        return self.index


class Option:
    """A choice that changes a formula."""

    def __init__(self, long_name: str, default: str) -> None:
        self.long_name, self.default, self.name = long_name, default, ""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def parse(self, value: Any) -> Any:
        """The object a user's value stands for; ValueError with one line if there is none."""
        raise ModelError(f"option {self.name}: {type(self).__name__} does not say how to read a value")


class FunctionOption(Option):
    """A scalar function: a name, or a safe expression of z.  Stays opaque in the equations."""

    def __init__(self, long_name: str, default: str, latex: str) -> None:
        super().__init__(long_name, default)
        self.latex = latex

    def parse(self, value: Any) -> Activation:
        return value if isinstance(value, Activation) else make_activation(value)

    def __get__(self, model: Model | None, owner: type) -> Any:
        return self if model is None else opaque(self.name, self.latex)


class LossOption(Option):
    """One of the losses in `replica.losses`, or an expression of y and z."""

    known: ClassVar[tuple[str, ...]] = tuple(LOSSES)

    def parse(self, value: Any) -> Loss:
        return value if isinstance(value, Loss) else make_loss(value)

    def __get__(self, model: Model | None, owner: type) -> Any:
        return self if model is None else model.choices[self.name]


class ChoiceOption(Option):
    """One of a few words."""

    def __init__(self, long_name: str, default: str, choices: tuple[str, ...]) -> None:
        super().__init__(long_name, default)
        self.choices = choices

    def parse(self, value: Any) -> str:
        if value not in self.choices:
            raise OptionError(f"unknown value {value!r}; it takes {', '.join(self.choices)}")
        return str(value)

    def __get__(self, model: Model | None, owner: type) -> Any:
        return self if model is None else model.choices[self.name]


class WholeOption(Option):
    """A whole number that is not negative: a seed, a number of units."""

    def __init__(self, long_name: str, default: str, lowest: int = 0, highest: int = 2**31) -> None:
        super().__init__(long_name, default)
        self.lowest, self.highest = lowest, highest

    def parse(self, value: Any) -> int:
        try:
            number = int(str(value))
        except ValueError:
            number = self.lowest - 1
        if not self.lowest <= number <= self.highest:
            raise OptionError(f"{value!r} is not a whole number in [{self.lowest}, {self.highest}]")
        return number

    def __get__(self, model: Model | None, owner: type) -> Any:
        return self if model is None else model.choices[self.name]


@cache
def opaque(name: str, latex: str, order: int = 0) -> Any:
    """A function whose formula is put in only when code is printed, so that equations read alike for every choice.

    Its ``almost_everywhere`` attribute is the derivative a trained network sees: singular parts dropped.
    """

    def fdiff(self: Any, argindex: int = 1) -> Any:
        raise ModelError(
            f"the derivative of option {name} was needed inside an average; write the average so that Stein's lemma "
            f"applies, or use {name}.almost_everywhere if the derivative a network is trained with is meant"
        )

    def _latex(self: Any, printer: Any, exp: Any = None) -> str:
        text = latex + "'" * order + rf"\left({printer._print(self.args[0])}\right)"
        return text if exp is None else rf"{{{text}}}^{{{printer._print(exp) if not isinstance(exp, str) else exp}}}"

    cls: Any = type(
        f"{name}_prime" if order else name,
        (sp.Function,),
        {"nargs": 1, "is_real": True, "fdiff": fdiff, "_latex": _latex, "option": name, "order": order},
    )
    if not order:
        cls.almost_everywhere = opaque(name, latex, 1)
    return cls


class Model:
    """Base of all models.  Subclasses are final: one file, one class.

    Subclasses declare attributes and give `free_entropy`, `observables` and, where used, `definitions`, `constraints`,
    `sizes` and `simulate`.  ``Model(activation="tanh")`` sets options by keyword.

    Raises
    ------
    OptionError
        For an unknown option or value.
    """

    name: ClassVar[str] = ""
    title: ClassVar[str] = ""
    references: ClassVar[str] = ""
    #: What solves it if no method is asked for; "damped" where the fixed point that iteration finds is meant, among several.
    method: ClassVar[str] = "newton"

    def __init__(self, **options: Any) -> None:
        known = self.declared(Option)
        for option in options:
            if option not in known:
                names = ", ".join(known) or "none"
                raise OptionError(f"{self.name}: unknown option {option!r}; its options are {names}")
        self.choices: dict[str, Any] = {}
        for name, option in known.items():
            try:
                self.choices[name] = option.parse(options.get(name, option.default))
            except ValueError as error:
                raise OptionError(f"{self.name}: option {name}: {error}") from None

    @classmethod
    def declared(cls, kind: type) -> dict[str, Any]:
        """Declarations of one kind, in the order of the file."""
        found: dict[str, Any] = {}
        for base in reversed(cls.__mro__):
            found |= {k: v for k, v in vars(base).items() if isinstance(v, kind)}
        return found

    def active(self, kind: type) -> dict[str, Any]:
        """Declarations of one kind that exist with the chosen options."""
        chosen = {name: getattr(value, "name", str(value)) for name, value in self.choices.items()}
        out: dict[str, Any] = {}
        for name, d in self.declared(kind).items():
            wanted = getattr(d, "only", {}).items()
            if not all(chosen.get(o) in (texts if isinstance(texts, tuple) else (texts,)) for o, texts in wanted):
                continue
            entries = d.entries(self.shape(d)[0]) if isinstance(d, Parameter) and self.shape(d) else [d]
            out |= {e.name: e for e in entries} if entries != [d] else {name: d}
        return out

    @property
    def options(self) -> dict[str, str]:
        """Options as the text that sets them."""
        return {name: getattr(self.choices[name], "name", str(self.choices[name])) for name in self.declared(Option)}

    def sizes(self) -> dict[str, int | None]:
        """Sizes of the index dimensions, by name; None if with the chosen options there is no such index."""
        return {}

    def definitions(self) -> Mapping[Any, Any]:
        """Definition -> expression, in order of use."""
        return {}

    def free_entropy(self) -> FreeEntropy:
        """The free entropy, from `self.couplings` and two potentials."""
        raise ModelError(f"{type(self).__name__} has no free_entropy()")

    def observables(self) -> Mapping[Any, Any]:
        """Observable -> expression in order parameters, conjugates and definitions."""
        return {}

    def output_channel(self) -> OutputChannel | None:
        """The channel behind the model's `channel` nodes; None if it has none."""
        return None

    def constraints(self) -> Mapping[str, Any]:
        """Label -> expression that is non-negative at every physical solution."""
        return {}

    def statement(self) -> dict[str, str]:
        """What kind of statement the numbers are with these options: `claim` (exact, asymptotic, conjectured) and `regime`."""
        return {}

    def simulate(self, parameters: Mapping[str, float], size: int, rng: Any) -> dict[str, float]:
        """One finite-size experiment on the original problem; returns observables by name."""
        raise ModelError(f"{self.name} has no simulation")

    def parameter_defaults(self) -> dict[str, float]:
        """Values of the parameters that need not be given."""
        return {name: p.default for name, p in self.active(Parameter).items() if p.default is not None}

    def compile(self) -> Any:
        """Derive, lower and print: the numerical problem (`solvers.FixedPointProblem`) of this model."""
        from .compile import compile_model  # the one upward call, made at run time so that models stay numerics-free

        return compile_model(self)

    def index(self, declaration: Declaration) -> list[tuple[str, int]]:
        """Index dimensions that a declaration has with the chosen options, and their sizes."""
        sizes = self.sizes()
        for d in declaration.dims():
            if d not in sizes:
                raise ModelError(f"{self.name}: {declaration.name} is indexed by {d}, but sizes() knows {list(sizes)}")
        return [(d, n) for d in declaration.dims() if (n := sizes[d]) is not None]

    def shape(self, declaration: Declaration) -> tuple[int, ...]:
        """Shape of an indexed declaration."""
        return tuple(size for _, size in self.index(declaration))

    def symbol(self, declaration: Declaration) -> Any:
        """The symbol, matrix of symbols or function a declaration stands for."""
        shape = self.shape(declaration)
        if isinstance(declaration, Definition) and declaration.of:
            if not shape:
                return definition_function(declaration.name, declaration.latex)
            functions = [
                definition_function(f"{declaration.name}_{i}", rf"{{{declaration.latex}}}_{{{i}}}") for i in range(shape[0])
            ]
            return lambda z: sp.ImmutableMatrix([f(z) for f in functions])
        if not shape:
            # A "real" symbol is finite to sympy, which then decides alpha0 == oo on its own.
            kind = "extended_real" if getattr(declaration, "infinite", False) else "real"
            return sp.Symbol(declaration.name, **{kind: True})
        source = declaration.of if isinstance(declaration, Conjugate) else declaration

        def entry(*index: int) -> Any:
            key = sorted(index) if getattr(source, "symmetric", False) else index
            return sp.Symbol("_".join([declaration.name, *map(str, key)]), real=True)

        rows, columns = (*shape, 1)[:2]
        return sp.ImmutableMatrix(rows, columns, lambda i, j: entry(i, j) if len(shape) == 2 else entry(i))

    def components(self, declaration: Declaration) -> list[Any]:
        """Independent scalar symbols of a declaration, in storage order."""
        value = self.symbol(declaration)
        if not self.shape(declaration):
            return [value]
        source = declaration.of if isinstance(declaration, Conjugate) else declaration
        return [
            value[i, j]
            for i in range(value.rows)
            for j in range(value.cols)
            if not getattr(source, "symmetric", False) or i <= j
        ]

    @cached_property
    def couplings(self) -> list[tuple[Any, Any, Any]]:
        """(order parameter, conjugate, coefficient), component by component."""
        out = []
        for conjugate in self.active(Conjugate).values():
            for x, h in zip(self.components(conjugate.of), self.components(conjugate), strict=True):
                i_and_j = str(x).removeprefix(conjugate.of.name).split("_")[1:]
                off_diagonal = conjugate.of.symmetric and len(set(i_and_j)) == 2
                out.append((x, h, conjugate.coupling * (2 if off_diagonal else 1)))
        coupled = [c.of.name for c in self.active(Conjugate).values()]
        optional = [c.of.name for c in self.declared(Conjugate).values() if c.only]
        for name, x in self.declared(OrderParameter).items():
            if x.free == (name in coupled) and name not in optional:
                raise ModelError(
                    f"{self.name}: order parameter {name} must either have a conjugate or be declared free"
                )
        return out

    @cached_property
    def free(self) -> list[Any]:
        """Free order parameters, component by component."""
        coupled = [c.of.name for c in self.active(Conjugate).values()]
        loose = [x for name, x in self.declared(OrderParameter).items() if x.free and name not in coupled]
        return [s for x in loose for s in self.components(x)]

    def latex_names(self) -> dict[Any, str]:
        """LaTeX of every scalar symbol, for printing."""
        names: dict[Any, str] = {}
        for d in self.active(Declaration).values():
            if isinstance(d, Definition) and d.of:
                continue
            for s in self.components(d):
                index = ",".join(str(s).removeprefix(d.name).split("_")[1:])
                names[s] = rf"{{{d.latex}}}_{{{index}}}" if index else d.latex
        return names

    @classmethod
    def summary(cls) -> str:
        """First line of the docstring."""
        return (inspect.getdoc(cls) or cls.title).splitlines()[0]


@cache
def definition_function(name: str, latex: str) -> Any:
    """Function symbol of a definition that depends on a Gaussian variable."""

    def _latex(self: Any, printer: Any, exp: Any = None) -> str:
        text = latex + rf"({printer._print(self.args[0])})"
        return text if exp is None else rf"{{{text}}}^{{{printer._print(exp) if not isinstance(exp, str) else exp}}}"

    return type(name, (sp.Function,), {"nargs": 1, "is_real": True, "_latex": _latex, "is_definition": True})
