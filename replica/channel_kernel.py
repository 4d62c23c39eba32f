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

#: How far the target's sign is looked at: beyond fields of four standard deviations more than models of unit variance have.
KNOWN = 40.0


def channel_text(output: OutputChannel) -> str:
    """Helpers of a kernel that calls the channel."""
    parts = ['_jit = njit(error_model="numpy")\n', loss_text(output.loss, output.labels)]
    if not output.linear:
        t = sp.Symbol("_t", real=True)
        parts.append(f'@njit(error_model="numpy")\ndef _target(_t):\n    return {code(output.target.formula(t))}\n')
    parts.append(f"_kinks = np.array({[0.0] if output.sign and output.linear else list(output.kinks)}, dtype=np.float64)\n")
    if output.sign and not output.linear:
        steps, levels, known = output.steps(KNOWN)
        parts.append(f"_steps, _levels, _known = np.array({steps}, dtype=np.float64), np.array({levels}), {known}\n")
    return "\n\n".join([*parts, *_specialised(channels, (*channels.PARTS[_kind(output)], _function(output)))])


def slope_text(output: OutputChannel) -> str:
    """More helpers, of a kernel that also calls the passes for derivatives in what moves the label."""
    if not output.sign and output.linear:  # which needs none
        return ""
    more = [part for part in label_slopes.CHANNEL_PARTS if part not in channels.PARTS[_kind(output)]]
    parts = _specialised(channels, more)
    parts += _specialised(label_slopes, (*label_slopes.PARTS, f"{_function(output)}_slope"))
    return "\n\n".join([at_zero_text(output.loss, output.labels), *parts])


def channel_call(output: OutputChannel, arguments: Sequence[Any], observe: bool) -> str:
    """One call of the channel, its moments written to ``_chan``."""
    given = ", ".join(map(str, arguments))
    even = f"{output.even}, " if output.sign else ""
    steps = "_steps, _levels, _known, " if output.sign and not output.linear else ""
    loss = f"{feature_count(output.loss, output.labels)}, {even}{output.loss.smooth(output.labels)}"
    return f"{_function(output)}({loss}, _px, _pw, {observe}, {steps}{given}, _chan)"


def places_call(output: OutputChannel, arguments: Sequence[Any], observe: bool) -> str:
    """One call that writes to ``_seen[_i0]`` what an outer rule must resolve (`solvers.quadrature.outer_rule`)."""
    given, mean = list(map(str, arguments)), str(arguments[1])
    if not output.linear and not output.sign:  # the residual's law given the outer field, at the mean of the teacher's
        mean, given[3] = f"_target({mean})", "0.0"
    loss = f"{feature_count(output.loss, output.labels)}, {output.loss.smooth(output.labels)}, {observe}"
    return f"{_kind(output)}_places({loss}, _kinks, {', '.join(given)}, {mean}, _places, _seen[_i0, {{first}}:])"


def places_count(output: OutputChannel) -> int:
    """Most places of one channel."""
    features, steps = feature_count(output.loss, output.labels), 1 if output.linear else len(output.kinks)
    return steps + 2 * (features + 1) * (1 + steps)


def slope_call(output: OutputChannel, arguments: Sequence[Any], direction: str) -> str:
    """One pass for changes in a direction, written to ``_chan``; the first argument is how far it is moved."""
    given = ", ".join(map(str, arguments))
    number = label_slopes.DIRECTIONS[direction]
    size = len(label_slopes.SLOPES)
    return f"{_function(output)}_slope({feature_count(output.loss, output.labels)}, _px, _pw, {number}, {given}, _chan[:{size}])"


def _kind(output: OutputChannel) -> str:
    return "sign" if output.sign else "residual"


def _function(output: OutputChannel) -> str:
    return _kind(output) + ("_linear" if output.linear else "_general")


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
        text = re.sub(r"\bkinks(\.size|:|\[)", r"_kinks\1", text)
        text = text.replace("MOST_EVEN", str(channels.MOST_EVEN))
        out.append(text.replace("quadrature.", "_quadrature.").replace("special.", "_special."))
    return out
