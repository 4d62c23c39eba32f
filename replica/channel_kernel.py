"""An output channel as generated code: the loss, the target, and the pass over the fields written for them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import sympy as sp

from solvers import channels, label_slopes

from .loss_kernel import at_zero_text, feature_count, loss_text
from .output import OutputChannel
from .printing import code


def channel_text(output: OutputChannel) -> str:
    """Helpers of a kernel that calls the channel."""
    parts = ['_jit = njit(error_model="numpy")\n', loss_text(output.loss, output.labels)]
    if not output.linear:
        t = sp.Symbol("_t", real=True)
        parts.append(f'@njit(error_model="numpy")\ndef _target(_t):\n    return {code(output.target.formula(t))}\n')
        parts.append(f"_kinks = np.array({list(output.kinks)}, dtype=np.float64)\n")
    return "\n\n".join([*parts, *_specialised(channels, (*channels.PARTS, _function(output)))])


def slope_text(output: OutputChannel) -> str:
    """More helpers, of a kernel that also calls the passes for derivatives in what moves the label."""
    if not output.sign and output.linear:  # which needs none
        return ""
    parts = _specialised(label_slopes, (*label_slopes.PARTS, f"{_function(output)}_slope"))
    return "\n\n".join([at_zero_text(output.loss, output.labels), *parts])


def channel_call(output: OutputChannel, arguments: Sequence[Any], observe: bool) -> str:
    """One call of the channel, its moments written to ``_chan``."""
    given = ", ".join(map(str, arguments))
    even = f"{output.loss.even}, " if _function(output) == "sign_linear" else ""
    return f"{_function(output)}({feature_count(output.loss, output.labels)}, {even}_px, _pw, {observe}, {given}, _chan)"


def slope_call(output: OutputChannel, arguments: Sequence[Any], direction: str) -> str:
    """One pass for changes in a direction, written to ``_chan``; the first argument is how far it is moved."""
    given = ", ".join(map(str, arguments))
    number = label_slopes.DIRECTIONS[direction]
    size = len(label_slopes.SLOPES)
    return f"{_function(output)}_slope({feature_count(output.loss, output.labels)}, _px, _pw, {number}, {given}, _chan[:{size}])"


def _function(output: OutputChannel) -> str:
    return ("sign" if output.sign else "residual") + ("_linear" if output.linear else "_general")


def _specialised(module: ModuleType, names: Sequence[str]) -> list[str]:
    """Source of functions of a channel with the loss's own functions in place of their arguments.

    Numba cannot keep on disk what gets functions as arguments, so the text is copied, not called.
    """
    out = []
    for part in names:
        text = inspect.getsource(getattr(module, part).py_func)
        text = re.sub(r"\b(prox|value|features|at_zero|target|kinks), ", "", text)
        text = re.sub(r"\b(prox|value|features|at_zero)\(", r"_loss_\1(", text)
        text = re.sub(r"\btarget\(", "_target(", text)
        out.append(re.sub(r"\bkinks(\.size|:)", r"_kinks\1", text).replace("quadrature.", "_quadrature."))
    return out
