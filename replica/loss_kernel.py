"""A loss as numerical code: its prox, its value, and where its prox is not smooth.

The prox goes through the pieces of the loss from left to right.  A piece with a linear slope is solved by a formula, any
other by Newton's method inside a bracket (``z + V loss'(y, z)`` increases at least as fast as z); a kink holds z for an
interval of w.  Labels are numbers here: 0 for a loss of the residual, -1 and 1 for a class.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import sympy as sp

from .losses import Loss, Piece, Y, Z
from .printing import code

JIT = '@njit(error_model="numpy")\n'


def loss_text(loss: Loss, labels: Sequence[float]) -> str:
    """Helpers ``_loss_prox(y, w, V, guess)``, ``_loss_value(y, z)`` and ``_loss_features(y, V, out)`` of a kernel."""
    return "\n\n".join([_prox(loss, labels), _value(loss, labels), _features(loss, labels)])


def _branches(labels: Sequence[float]) -> list[tuple[str, float]]:
    """The condition on y of every label."""
    if len(labels) == 1:
        return [("if True:", labels[0])]
    return [("if y > 0.0:", 1.0), ("else:", -1.0)]


def _number(x: float) -> str:
    return "math.inf" if x == math.inf else "-math.inf" if x == -math.inf else repr(x)


def _prox(loss: Loss, labels: Sequence[float]) -> str:
    """Minimiser z, minus the slope there (g), and d^2 M/dw^2 (k)."""
    lines = ["def _loss_prox(y, w, V, guess):"]
    for condition, label in _branches(labels):
        lines.append(f"    {condition}")
        pieces = loss.pieces(label)
        for piece, after in zip(pieces, [*pieces[1:], None], strict=True):
            pad = " " * 8
            if after is not None:
                left, right = piece.slope_at(piece.upper), after.slope_at(piece.upper)
                lines.append(f"{pad}if w < {_number(piece.upper)} + V * ({left!r}):")
                lines += [pad + "    " + line for line in _inside_piece(piece)]
                lines.append(f"{pad}if w <= {_number(piece.upper)} + V * ({right!r}):")
                lines.append(f"{pad}    return {_number(piece.upper)}, ({_number(piece.upper)} - w) / V, 1.0 / V")
            else:
                lines += [pad + line for line in _inside_piece(piece)]
    return JIT + "\n".join(lines) + "\n"


def _inside_piece(piece: Piece) -> list[str]:
    slope, curvature = code(piece.slope), code(piece.curvature)
    if piece.linear:
        constant = code(piece.slope.xreplace({Z: sp.S.Zero}))
        return [
            f"_c = {curvature}",
            f"z = (w - V * ({constant})) / (1.0 + V * _c)",
            f"return z, -({slope}), _c / (1.0 + V * _c)",
        ]
    lower, upper = _number(piece.lower), _number(piece.upper)
    shared, (slope_of, curvature_of) = sp.cse([piece.slope, piece.curvature], symbols=sp.numbered_symbols("_e"), order="none")
    at_z = [*(f"{name} = {code(e)}" for name, e in shared), f"_s = {code(slope_of)}", f"_c = {code(curvature_of)}"]
    return [
        f"z = min(max(w, {lower}), {upper})",
        *at_z,
        "_h = z - w + V * _s",
        f"_lo, _hi = (max({lower}, z - _h), z) if _h > 0.0 else (z, min({upper}, z - _h))",
        "z = guess if _lo < guess < _hi else z - _h / (1.0 + V * _c)",
        "if not _lo <= z <= _hi:",
        "    z = 0.5 * (_lo + _hi)",
        "_moved, _newton = _hi - _lo, 0.0",
        "for _ in range(200):",
        *("    " + line for line in at_z),
        "    _h = z - w + V * _s",
        "    if _h > 0.0:",
        "        _hi = z",
        "    else:",
        "        _lo = z",
        "    _new = z - _h / (1.0 + V * _c)",
        # Inside the bracket Newton's method can jump to and fro: a step must be half the one before.
        "    _fine = _lo <= _new <= _hi and abs(_new - z) <= 0.5 * _moved",
        "    if not _fine:",
        "        _new = 0.5 * (_lo + _hi)",
        "    _step, _size = abs(_new - z), abs(w) + abs(z)",
        "    z = _new",
        # Two Newton steps tell the constant of the third: stop where that is rounding, or the equation itself is.
        "    if (_fine and _step**3 <= 1e-17 * _size * _newton**2) or abs(_h) <= 2e-16 * _size:",
        "        break",
        "    if not _step > 1e-15 * abs(z) + 1e-300:",
        "        break",
        "    _moved, _newton = _step, (_step if _fine else 0.0)",
        *at_z,
        "return z, -_s, _c / (1.0 + V * _c)",
    ]


def _value(loss: Loss, labels: Sequence[float]) -> str:
    lines = ["def _loss_value(y, z):"]
    for condition, label in _branches(labels):
        lines += [f"    {condition}", f"        return {code(loss.expression.xreplace({Y: sp.Integer(round(label))}))}"]
    return JIT + "\n".join(lines) + "\n"


def _features(loss: Loss, labels: Sequence[float]) -> str:
    """Centre and width in w of the kinks of the prox, and of the images of what bends the loss smoothly."""
    lines = ["def _loss_features(y, V, out):"]
    for condition, label in _branches(labels):
        lines.append(f"    {condition}")
        pieces = loss.pieces(label)
        entries: list[tuple[str, str]] = []
        for left, right in pairwise(pieces):
            slopes = {p.slope_at(left.upper) for p in (left, right)}
            entries += [(f"{left.upper!r} + V * ({s!r})", "0.0") for s in sorted(slopes)]
        for centre, width in loss.features(label):
            piece = next(p for p in pieces if p.lower <= centre <= p.upper)
            for side in (-1, 0, 1):
                z = f"({centre!r} + {side * width!r} * (1.0 + math.log1p(V)))" if side else f"{centre!r}"
                slope = code(piece.slope.xreplace({Z: sp.Symbol("_z", real=True)}))
                lines.append(f"        _z = {z}")
                lines.append(f"        _w{len(entries)} = _z + V * ({slope})")
                entries.append((f"_w{len(entries)}", repr(float(width))))
        if len(labels) > 1:  # the sign of the fit changes where the prox passes zero
            piece = next(p for p in pieces if p.lower <= 0 <= p.upper)
            entries.append((f"V * ({piece.slope_at(0.0)!r})", "0.0"))
        for i, (centre_text, width_text) in enumerate(entries):
            lines += [f"        out[{2 * i}] = {centre_text}", f"        out[{2 * i + 1}] = {width_text}"]
        lines.append(f"        return {len(entries)}")
    return JIT + "\n".join(lines) + "\n"


def at_zero_text(loss: Loss, labels: Sequence[float]) -> str:
    """Helper ``_loss_at_zero(y)``: slopes of the loss on both sides of z = 0."""
    lines = ["def _loss_at_zero(y):"]
    for condition, label in _branches(labels):
        left = next(p for p in loss.pieces(label) if p.lower < 0 <= p.upper)
        right = next(p for p in loss.pieces(label) if p.lower <= 0 < p.upper)
        lines += [f"    {condition}", f"        return {left.slope_at(0.0)!r}, {right.slope_at(0.0)!r}"]
    return JIT + "\n".join(lines) + "\n"


def feature_count(loss: Loss, labels: Sequence[float]) -> int:
    """Most features at any label."""
    return max(2 * (len(loss.pieces(y)) - 1) + 3 * len(loss.features(y)) + 1 for y in labels)
