"""An output channel as generated code: the loss, the target, and the pass over the fields written for them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from typing import Any

import sympy as sp

from solvers import channels

from .loss_kernel import feature_count, loss_text
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
    return "\n\n".join([*parts, *_specialised(output)])


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
    kind = "sign" if output.sign else "residual"
    return f"{kind}_places({loss}, _kinks, {', '.join(given)}, {mean}, _places, _seen[_i0, {{first}}:])"


def places_count(output: OutputChannel) -> int:
    """Most places of one channel."""
    features, steps = feature_count(output.loss, output.labels), 1 if output.linear else len(output.kinks)
    return steps + 2 * (features + 1) * (1 + steps)


def _function(output: OutputChannel) -> str:
    return ("sign" if output.sign else "residual") + ("_linear" if output.linear else "_general")


def _specialised(output: OutputChannel) -> list[str]:
    """Source of a channel with the loss's own functions in place of its arguments.

    Numba cannot keep on disk what gets functions as arguments, so the text is copied, not called.
    """
    out = []
    for part in (*channels.PARTS["sign" if output.sign else "residual"], _function(output)):
        text = inspect.getsource(getattr(channels, part).py_func)
        text = re.sub(r"\b(prox|value|features|target|kinks), ", "", text)
        text = re.sub(r"\b(prox|value|features)\(", r"_loss_\1(", text)
        text = re.sub(r"\btarget\(", "_target(", text)
        text = re.sub(r"\bkinks(\.size|:|\[)", r"_kinks\1", text)
        for constant in ("MOST_EVEN",):
            text = text.replace(constant, str(getattr(channels, constant)))
        out.append(text.replace("quadrature.", "_quadrature.").replace("special.", "_special."))
    return out
