"""From a target and an activation to numbers: the questions of this package asked with text, the way a user asks them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..activations import Activation
from ..functions import Kinked
from ..targets import Target, make_target
from .alignment import Alignment, align
from .averages import Student
from .forms import ErfForm, erf_form
from .moments import GiantStepError, as_activation, formula, has_jumps, lowest_order, step_moments
from .recursion import GiantSteps, Labels
from .reuse import SecondStep, second_step

Array = np.ndarray

#: Largest degree of a polynomial target whose drift is a sum over its Hermite tensors.
MAX_DEGREE = 12


def alignment(
    target: Target | str, activation: Activation | str = "relu", *, alpha: float, noise: float = 0.0, leap: int | None = None,
    **options: Any,
) -> Alignment:  # fmt: skip
    """Alignment after one step; see `align` for the options.

    Parameters
    ----------
    target, activation : text, or the objects
        Such as ``"z1 + z1*z2"`` and ``"relu"``; a bias is written into the activation, ``"relu(z + 0.5)"``.
    alpha, noise : float
    leap : int, optional
        l of n = alpha d^l; the leap of the target if left out (its lowest order that is not 0, that the removal leaves).
    """
    target, activation = make_target(target), as_activation(activation)
    removed = {"mean": 0, "moments": 1, "least-squares": 1}.get(options.get("removal", "none"), 0)
    chosen = lowest_order(target, above=removed) if leap is None else leap
    if not (isinstance(chosen, int) and 1 <= chosen <= 8):
        raise GiantStepError(f"alignment: leap = {chosen!r} is not a whole number in [1, 8]")
    return align(step_moments(target, activation, chosen), alpha, noise, leap=chosen, **options)


def labels(target: Target | str) -> Labels:
    """What the recursion knows of a target."""
    target = make_target(target)
    tensors, second = None, math.nan
    if target.degree is not None and target.degree <= MAX_DEGREE and target.r**target.degree <= 1_000_000:
        tensors = [np.array(target.tensor(k), dtype=float) for k in range(max(1, target.degree) + 1)]
        second = float(target.second_moment())
    expression, z = getattr(target, "expression", None), getattr(target, "z", None)
    form: ErfForm | None = erf_form(expression, z) if expression is not None and z is not None else None
    smooth = expression is not None and not expression.atoms(Kinked)
    return Labels(target.r, target.numeric, tensors, second, form, smooth)


def make_student(
    activation: Activation | str, readout: Sequence[float] | Array, biases: Sequence[float] | Array | None = None,
    loss: str = "square",
) -> Student:  # fmt: skip
    """A network from text and lists."""
    a = np.atleast_1d(np.asarray(readout, dtype=float))
    b = np.zeros_like(a) if biases is None else np.atleast_1d(np.asarray(biases, dtype=float))
    return Student(as_activation(activation), a, b, loss)


def giant_steps(
    target: Target | str, activation: Activation | str = "relu", *, readout: Sequence[float] | Array,
    biases: Sequence[float] | Array | None = None, loss: str = "square", **options: Any,
) -> GiantSteps:  # fmt: skip
    """Training by giant steps; see `GiantSteps` for alpha, eta, noise, M, Q, rule and power."""
    student = make_student(activation, readout, biases, loss)
    return GiantSteps(labels(target), student, jumps=has_jumps(student.activation), **options)


def reuse(
    target: Target | str, activation: Activation | str = "relu", *, alpha: float, step: float, noise: float = 0.0,
    reused: bool = True,
) -> SecondStep:  # fmt: skip
    """Overlap of the second gradient, on the same batch or on a fresh one; see `second_step`."""
    target, activation = make_target(target), as_activation(activation)
    moments = step_moments(target, activation)
    return second_step(target.numeric, activation, moments, alpha=alpha, step=step, noise=noise, reused=reused)


__all__ = ["alignment", "formula", "giant_steps", "labels", "lowest_order", "make_student", "reuse", "step_moments"]
