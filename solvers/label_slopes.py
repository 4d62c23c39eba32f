"""Derivatives of channel averages in what moves the label: its field (T, rho), noise and flips.

Only derivatives of a solution in parameters need them, so they have passes of their own beside those of `channels`, which a
solve calls.  A pass gives the change of all `SLOPES` as one argument of the channel (`direction`) is `moved`, and is the
same average with another law of the label; nothing moved costs nothing.  No derivative falls on loss or label:

* with a linear target the law of a class given omega is closed, and is differentiated itself;
* otherwise the field is shifted together with zeta, ``E[v d/d zeta f] = E[(v score - v') f]`` with the Gaussian score
  ``zeta - Psi d/d omega`` and v = 1 or zeta, over rho; noise inside a sign smears it, and its law is differentiated.

Losses of the residual with a linear target, and all noise of real labels, need no pass: label and prediction enter as their
difference (`replica.output`).  A derivative that does not exist (a step, moved) comes out as nan.

The fraction of wrong fits moves with the response V as well: where the prox passes zero, it does so at the speed g there.
"""

import math

import numpy as np
from numba import njit

from . import quadrature
from .channels import cdf, density, place, room_for

#: What is differentiated, in this order; in direction V only the fraction of wrong fits.
SLOPES = ("envelope", "g", "g2", "k", "zg", "square", "residual", "wrong", "wrong_fit", "margin")
#: Directions, numbered as `replica.output.ARGUMENTS`.
DIRECTIONS = {"T": 1, "rho": 2, "V": 5, "noise": 6, "flip": 7}

#: What the passes call, in the order of definition; before them, of `channels`:
CHANNEL_PARTS = ("density", "cdf", "place", "room_for")
PARTS = ("teacher_nodes", "add_slopes", "add_passing", "one_field_slope", "score_weights")

_jit = njit(error_model="numpy")


@_jit
def teacher_nodes(features, kinks, count, labels, C, T, rho, Psi, s, V, width, x, wx, nodes, weights):
    """Nodes for zeta: panels at jumps of the label, and where the mean prediction passes features of the prox.

    The label does not depend on zeta if rho is zero; what the prox does is smeared by the spread s of the prediction.
    """
    places = np.empty(2 * kinks.size + 4 * count)
    filled = 0
    if rho != 0.0:
        for kink in kinks:
            places[filled], places[filled + 1] = (kink - T) / rho, width / abs(rho)
            filled += 2
    if Psi != 0.0:
        for label in range(labels):
            more = 2 * features(1.0 - 2.0 * label, V, places[filled:])
            for i in range(filled, filled + more, 2):
                places[i], places[i + 1] = (places[i] - C) / Psi, (places[i + 1] + s) / abs(Psi)
            filled += more
    return quadrature.panels(places[:filled], x, wx, nodes, weights)


@_jit
def add_slopes(value, out, a, b, y, w, V, z, g, k):
    """Add one node: weights of 1 and zeta."""
    out[0] += a * (value(y, z) + 0.5 * V * g * g)
    out[1] += a * g
    out[2] += a * g * g
    out[3] += a * k
    out[4] += b * g
    out[5] += a * (y - w) ** 2
    out[6] += a * (y - z) ** 2
    out[7] += a * (1.0 if y * w < 0.0 else 0.5 if w == 0.0 else 0.0)
    out[8] += a * (1.0 if y * z < 0.0 else 0.5 if z == 0.0 else 0.0)
    out[9] += a * y * z


@_jit
def add_passing(at_zero, out, d, y, z):
    """Add one node to the slope in V of the wrong fits: d the weight of d/d omega.

    A loss that bends at z = 0 holds the fit there, half wrong, between two values of omega, each with its own speed.
    """
    left, right = at_zero(y)
    inner = right if y > 0.0 else left
    if y * z < 0.0:
        out[8] -= 0.5 * d * (left + right)
    elif z == 0.0:
        out[8] -= 0.5 * d * inner


@_jit
def one_field_slope(
    prox, value, features, at_zero, count, x, wx, direction, y, p, q, mean, s, V, places, nodes, weights, out
):
    """Add E f(y, mean + s xi) with weights ``p[0] + p[1] xi/s`` of 1 and ``q[0] + q[1] xi/s`` of zeta."""
    n = quadrature.panels(places[: place(features, y, V, mean, s, count, places)], x, wx, nodes, weights)
    guess, last_w, last_k = math.nan, 0.0, 0.0
    for i in range(n):
        xi = nodes[i]
        w = mean + s * xi
        z, g, k = prox(y, w, V, guess + (1.0 - V * last_k) * (w - last_w))
        guess, last_w, last_k = z, w, k
        a, b = weights[i] * (p[0] + p[1] * xi / s), weights[i] * (q[0] + q[1] * xi / s)
        if direction == 5:
            add_passing(at_zero, out, a, y, z)
        else:
            add_slopes(value, out, a, b, y, w, V, z, g, k)


@_jit
def score_weights(direction, zeta, weight, Psi, p, q):
    """Weights ``(v score - v') `` with v = 1 (T) or zeta (rho), of 1 and of zeta, as coefficients of 1 and d/d omega."""
    v, slope = (1.0, 0.0) if direction == 1 else (zeta, 1.0)
    p[0], p[1] = weight * (v * zeta - slope), -weight * v * Psi
    q[0], q[1] = weight * (v * zeta * zeta - slope * zeta - v), -weight * v * zeta * Psi


@_jit
def sign_linear_slope(
    prox, value, features, at_zero, count, x, wx, direction, moved, C, T, rho, Psi, S, V, noise, flip, out
):
    """Labels ``sign(T + rho zeta + sqrt(noise) xi)``, flipped with probability `flip`."""
    out[:] = 0.0
    if moved == 0.0:
        return
    s = math.sqrt(S)
    R = Psi / s
    rest = (1.0 - R) * (1.0 + R)  # variance of zeta given omega
    tau = math.sqrt(rho * rho * rest + noise)
    smooth = tau > 0.0 or direction == 5 or direction == 7
    if not (math.isfinite(C + T + rho + Psi + s + V + R) and rest >= 0.0 and s > 0.0 and V > 0.0 and smooth):
        out[:] = math.nan
        return
    pull = rho * rest / tau if tau > 0.0 else 0.0
    kept, sigma = 1.0 - 2.0 * flip, s * math.sqrt(rest)
    places = np.empty(2 * count + 6)
    size = quadrature.panel_room(count + 2) * x.size
    nodes, weights = np.empty(size), np.empty(size)
    for label in range(2):
        y = 1.0 - 2.0 * label
        filled = place(features, y, V, C, s, count, places)
        if rho * R != 0.0:
            places[filled], places[filled + 1] = -T / (rho * R), tau / abs(rho * R)
            filled += 2
        n = quadrature.panels(places[:filled], x, wx, nodes, weights)
        guess, last_w, last_k = math.nan, 0.0, 0.0
        for i in range(n):
            xi = nodes[i]
            w = C + s * xi
            z, g, k = prox(y, w, V, guess + (1.0 - V * last_k) * (w - last_w))
            guess, last_w, last_k = z, w, k
            arg = T + rho * R * xi
            arg = arg / tau if tau > 0.0 else (math.inf if arg > 0.0 else -math.inf if arg < 0.0 else 0.0)
            phi = density(arg) if math.isfinite(arg) else 0.0
            mean, weight = R * xi, moved * weights[i]
            if direction == 5:
                a = kept * cdf(y * arg) + flip
                b = mean * a + kept * y * pull * phi
                add_passing(at_zero, out, weight * (s * xi * a - Psi * b) / (sigma * sigma), y, z)
                continue
            # The law of the label given omega is kept cdf(y arg) + flip, with zeta that and kept y pull phi.
            if direction == 7:
                a, b = 1.0 - 2.0 * cdf(y * arg), -2.0 * y * pull * phi
            else:
                shift, pulled = 1.0 / tau, 0.0
                if direction == 2:
                    shift = R * xi / tau - arg * pull / tau
                    pulled = rest * noise / (tau * tau * tau)
                elif direction == 6:
                    shift = -0.5 * arg / (tau * tau)
                    pulled = -0.5 * pull / (tau * tau)
                a, b = kept * y * phi * shift, kept * y * phi * (pulled - pull * arg * shift)
            add_slopes(value, out, weight * a, weight * (mean * a + b), y, w, V, z, g, k)


@_jit
def residual_general_slope(
    prox, value, features, at_zero, count, x, wx, direction, moved, target, kinks, C, T, rho, Psi, S, V, noise, flip, out
):
    """Labels ``target(T + rho zeta) + sqrt(noise) xi`` and a loss of the residual."""
    out[:] = 0.0
    if moved == 0.0:
        return
    variance = S - Psi * Psi + noise
    if not (math.isfinite(C + T + rho + Psi + variance + V) and variance > 0.0 and V > 0.0 and rho != 0.0):
        out[:] = math.nan
        return
    room = quadrature.panel_room(kinks.size) * x.size
    outer, outer_weights = np.empty(room), np.empty(room)
    s = math.sqrt(variance)
    n = teacher_nodes(features, kinks, count, 0, C, T, rho, Psi, s, V, 0.0, x, wx, outer, outer_weights)
    places, nodes, weights = room_for(count, x)
    p, q = np.zeros(2), np.zeros(2)
    for j in range(n):
        zeta = outer[j]
        score_weights(direction, zeta, moved * outer_weights[j] / rho, Psi, p, q)
        mean = C + Psi * zeta - target(T + rho * zeta)
        one_field_slope(
            prox, value, features, at_zero, count, x, wx, direction, 0.0, p, q, mean, s, V, places, nodes, weights, out
        )


@_jit
def sign_general_slope(
    prox, value, features, at_zero, count, x, wx, direction, moved, target, kinks, C, T, rho, Psi, S, V, noise, flip, out
):
    """Labels ``sign(target(T + rho zeta) + sqrt(noise) xi)``, flipped with probability `flip`; kinks: zeros of the target."""
    out[:] = 0.0
    if moved == 0.0:
        return
    variance = S - Psi * Psi
    smooth = direction == 5 or direction == 7 or (noise > 0.0 if direction == 6 else rho != 0.0)
    if not (math.isfinite(C + T + rho + Psi + variance + V) and variance > 0.0 and V > 0.0 and smooth):
        out[:] = math.nan
        return
    room = quadrature.panel_room(kinks.size + 2 * count) * x.size
    outer, outer_weights = np.empty(room), np.empty(room)
    s = math.sqrt(variance)
    n = teacher_nodes(features, kinks, count, 2, C, T, rho, Psi, s, V, math.sqrt(noise), x, wx, outer, outer_weights)
    places, nodes, weights = room_for(count, x)
    p, q = np.zeros(2), np.zeros(2)
    for j in range(n):
        zeta, weight = outer[j], moved * outer_weights[j]
        field = target(T + rho * zeta)
        arg = field / math.sqrt(noise) if noise > 0.0 else math.inf if field > 0.0 else -math.inf if field < 0.0 else 0.0
        for label in range(2):
            y = 1.0 - 2.0 * label
            likely = (1.0 - 2.0 * flip) * cdf(y * arg) + flip
            if direction == 6 or direction == 7:
                change = 1.0 - 2.0 * cdf(y * arg)
                if direction == 6:
                    change = -0.5 * (1.0 - 2.0 * flip) * y * arg * density(arg) / noise
                p[0], q[0] = weight * change, weight * change * zeta
            elif direction == 5:
                p[1] = weight * likely
            else:
                score_weights(direction, zeta, weight * likely / rho, Psi, p, q)
            if p[0] != 0.0 or p[1] != 0.0:
                one_field_slope(
                    prox, value, features, at_zero, count, x, wx, direction, y, p, q, C + Psi * zeta, s, V,
                    places, nodes, weights, out,
                )  # fmt: skip
