"""Averages over an output channel: label, prediction and the proximal map of a loss.

The teacher field is ``T + rho zeta``, the prediction ``omega = C + ...`` with variance S and covariance Psi with zeta, both
Gaussian.  One pass over quadrature nodes gives every moment that a saddle point, its Jacobian and the observables need;
what each is called, and how they differentiate into each other, is in `replica.output`.  No derivative falls on the
loss or on the label beyond the prox: derivatives of kinked functions are averages against derivatives of the Gaussian.

The ways over the fields, by what is known of labels:

* `sign_linear`: labels sign(T + rho zeta + noise): the law of the label given omega is closed, one integral;
* `residual_linear`: labels T + rho zeta + noise and a loss of the residual: omega - y is Gaussian, one integral;
* `sign_general`, `residual_general`: any function of the teacher field, two integrals.

Rules are composite Gauss-Legendre with panels refined at every feature of prox and label (`quadrature.panels`).  The prox
and its features are functions of the loss; a generated kernel holds a copy of this source with its own
(`replica.channel_kernel`).
"""

import math

import numpy as np
from numba import njit

from . import quadrature

#: Order of the moments; E over everything, d = d/d omega on the Gaussian weight.
MOMENTS = (
    "envelope",  # M, the Moreau envelope
    "g", "g2", "k", "zg",  # g = -dM/d omega, k = -dg/d omega, z the teacher's zeta
    "gk", "g2k", "zk", "zgk", "zzk",
    "d_gk", "d_k", "dd_k", "z_d_k",
    "fit", "square", "residual", "wrong", "wrong_fit", "margin",
    *(prefix + name for prefix in ("d_", "dd_", "z_d_") for name in ("square", "residual", "wrong", "wrong_fit", "margin")),
    "v_residual", "v_margin",  # derivatives in V
)  # fmt: skip
COUNT = len(MOMENTS)
#: First moment that only observables need.
OBSERVED = MOMENTS.index("fit")

#: What the channels call, in the order of definition.
PARTS = ("is_odd", "density", "cdf", "add", "observe_one", "place", "teacher_nodes", "room_for", "one_field")

_jit = njit(error_model="numpy")


@_jit
def is_odd(n):
    """Whether a moment changes its sign under reflection of fields and label: g, gk, zk, d_k, and d_ of observables."""
    return n == 1 or n == 5 or n == 7 or n == 11 or 20 <= n < 25


@_jit
def density(x):
    """Density of N(0, 1)."""
    return math.exp(-0.5 * x * x) / math.sqrt(2.0 * math.pi)


@_jit
def cdf(x):
    return 0.5 * math.erfc(-x * math.sqrt(0.5))


@_jit
def add(out, a, b, bb, d, dd, bd, g, k):
    """Add one node: weights of 1, zeta, zeta^2, and of d/d omega once, twice, and with zeta."""
    gk = g * k
    out[1] += a * g
    out[2] += a * g * g
    out[3] += a * k
    out[4] += b * g
    out[5] += a * gk
    out[6] += a * g * gk
    out[7] += b * k
    out[8] += b * gk
    out[9] += bb * k
    out[10] += d * gk
    out[11] += d * k
    out[12] += dd * k
    out[13] += bd * k


@_jit
def observe_one(value, out, a, d, dd, bd, y, w, V, z, g, k):
    """Add one node to the moments of observables; for a residual (y = 0) signs mean nothing."""
    fit = value(y, z)
    out[0] += a * (fit + 0.5 * V * g * g)
    out[14] += a * fit
    wrong = 1.0 if y * w < 0.0 else 0.5 if w == 0.0 else 0.0
    wrong_fit = 1.0 if y * z < 0.0 else 0.5 if z == 0.0 else 0.0
    seen = ((y - w) ** 2, (y - z) ** 2, wrong, wrong_fit, y * z)
    for n in range(5):
        out[15 + n] += a * seen[n]
        out[20 + n] += d * seen[n]
        out[25 + n] += dd * seen[n]
        out[30 + n] += bd * seen[n]
    moved = g * (1.0 - V * k)
    out[35] -= 2.0 * a * (y - z) * moved
    out[36] += a * y * moved


@_jit
def place(features, y, V, mean, spread, count, places):
    """Features of the prox in units of the standard normal; returns how many numbers are filled."""
    n = 2 * features(y, V, places)
    for i in range(0, n, 2):
        places[i] = (places[i] - mean) / spread
        places[i + 1] = places[i + 1] / spread
    # Zero of the prediction, where the sign of the decision changes.
    places[n], places[n + 1] = -mean / spread, 0.0
    return n + 2 if y != 0.0 else n


@_jit
def sign_linear(prox, value, features, count, even, x, wx, observe, C, T, rho, Psi, S, V, noise, flip, out):
    """Labels ``sign(T + rho zeta + sqrt(noise) xi)``, flipped with probability `flip`; `even`: a loss of the product y z."""
    out[:] = 0.0
    s = math.sqrt(S)
    R = Psi / s
    rest = (1.0 - R) * (1.0 + R)  # variance of zeta given omega
    if not (math.isfinite(C + T + rho + Psi + s + V + R) and rest >= 0.0 and s > 0.0 and V > 0.0):
        out[:] = math.nan
        return
    tau = math.sqrt(rho * rho * rest + noise)
    pull = rho * rest / tau if tau > 0.0 else 0.0
    kept, sigma = 1.0 - 2.0 * flip, s * math.sqrt(rest)
    back = 1.0 / max(sigma, 1e-300)
    places = np.empty(2 * count + 6)
    size = quadrature.panel_room(count + 2) * x.size
    nodes, weights = np.empty(size), np.empty(size)
    # Reflected fields with the other label give the same, up to a sign, if nothing else tells the labels apart.
    mirrored = even and C == 0.0 and T == 0.0
    for label in range(1 if mirrored else 2):
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
            mean = R * xi
            # Law of the label given omega, with 1, zeta and zeta^2.
            a = kept * cdf(y * arg) + flip
            b = mean * a + kept * y * pull * phi
            bb = (mean * mean + rest) * a
            if phi > 0.0:
                bb += kept * y * (2.0 * mean * pull - pull * pull * arg) * phi
            d = (s * xi * a - Psi * b) * back
            dd = (s * s * xi * xi * a - 2.0 * s * xi * Psi * b + Psi * Psi * bb) * back * back - a
            bd = (s * xi * b - Psi * bb) * back
            wt = weights[i]
            add(out, wt * a, wt * b, wt * bb, wt * d * back, wt * dd * back * back, wt * bd * back, g, k)
            if observe:
                observe_one(
                    value, out, wt * a, wt * d * back, wt * dd * back * back, wt * bd * back, y, w, V, z, g, k
                )  # fmt: skip
    if mirrored:
        for n in range(out.size):
            out[n] = 0.0 if is_odd(n) else 2.0 * out[n]


@_jit
def residual_linear(prox, value, features, count, x, wx, observe, C, T, rho, Psi, S, V, noise, flip, out):
    """Labels ``T + rho zeta + sqrt(noise) xi`` and a loss of the residual: prediction minus label is one Gaussian."""
    out[:] = 0.0
    variance = S + rho * rho + noise - 2.0 * Psi * rho
    if not (math.isfinite(C + T + rho + Psi + variance + V) and variance > 0.0 and V > 0.0):
        out[:] = math.nan
        return
    s, R = math.sqrt(variance), (Psi - rho) / math.sqrt(variance)
    places, nodes, weights = room_for(count, x)
    one_field(
        prox, value, features, count, x, wx, observe, 0.0, 1.0, 0.0, R, max(1.0 - R * R, 0.0), C - T, s, V, places, nodes,
        weights, out,
    )  # fmt: skip


@_jit
def room_for(count, x):
    """Work space of `one_field`: features, nodes and weights."""
    size = quadrature.panel_room(count + 1) * x.size
    return np.empty(2 * count + 2), np.empty(size), np.empty(size)


@_jit
def one_field(
    prox, value, features, count, x, wx, observe, y, p, zeta, R, rest, mean, s, V, places, nodes, weights, out
):
    """Add ``p E f(y, mean + s xi)``, with the teacher's field equal to ``zeta + R xi`` plus an independent part."""
    n = quadrature.panels(places[: place(features, y, V, mean, s, count, places)], x, wx, nodes, weights)
    guess, last_w, last_k = math.nan, 0.0, 0.0
    for i in range(n):
        xi = nodes[i]
        w = mean + s * xi
        z, g, k = prox(y, w, V, guess + (1.0 - V * last_k) * (w - last_w))
        guess, last_w, last_k = z, w, k
        wt, b = p * weights[i], zeta + R * xi
        d, dd, bd = xi / s, (xi * xi - 1.0) / (s * s), (zeta * xi + R * (xi * xi - 1.0)) / s
        add(out, wt, wt * b, wt * (b * b + rest), wt * d, wt * dd, wt * bd, g, k)
        if observe:
            observe_one(value, out, wt, wt * d, wt * dd, wt * bd, y, w, V, z, g, k)


@_jit
def residual_general(prox, value, features, count, x, wx, observe, target, kinks, C, T, rho, Psi, S, V, noise, flip, out):
    """Labels ``target(T + rho zeta) + sqrt(noise) xi`` and a loss of the residual."""
    out[:] = 0.0
    variance = S - Psi * Psi + noise
    if not (math.isfinite(C + T + rho + Psi + variance + V) and variance > 0.0 and V > 0.0):
        out[:] = math.nan
        return
    room = quadrature.panel_room(kinks.size) * x.size
    outer, outer_weights = np.empty(room), np.empty(room)
    s = math.sqrt(variance)
    n = teacher_nodes(features, kinks, count, 0, C, T, rho, Psi, s, V, 0.0, x, wx, outer, outer_weights)
    places, nodes, weights = room_for(count, x)
    for j in range(n):
        zeta = outer[j]
        mean = C + Psi * zeta - target(T + rho * zeta)
        one_field(
            prox, value, features, count, x, wx, observe, 0.0, outer_weights[j], zeta, 0.0, 0.0, mean, s, V, places, nodes,
            weights, out,
        )  # fmt: skip


@_jit
def sign_general(prox, value, features, count, x, wx, observe, target, kinks, C, T, rho, Psi, S, V, noise, flip, out):
    """Labels ``sign(target(T + rho zeta) + sqrt(noise) xi)``, flipped with probability `flip`; kinks: zeros of the target."""
    out[:] = 0.0
    variance = S - Psi * Psi
    if not (math.isfinite(C + T + rho + Psi + variance + V) and variance > 0.0 and V > 0.0):
        out[:] = math.nan
        return
    room = quadrature.panel_room(kinks.size + 2 * count) * x.size
    outer, outer_weights = np.empty(room), np.empty(room)
    s = math.sqrt(variance)
    n = teacher_nodes(features, kinks, count, 2, C, T, rho, Psi, s, V, math.sqrt(noise), x, wx, outer, outer_weights)
    places, nodes, weights = room_for(count, x)
    for j in range(n):
        zeta = outer[j]
        field = target(T + rho * zeta)
        if noise > 0.0:
            likely = cdf(field / math.sqrt(noise))
        else:
            likely = 1.0 if field > 0.0 else 0.0 if field < 0.0 else 0.5
        likely = (1.0 - 2.0 * flip) * likely + flip
        for label in range(2):
            p = (likely if label == 0 else 1.0 - likely) * outer_weights[j]
            if p > 0.0:
                one_field(
                    prox, value, features, count, x, wx, observe, 1.0 - 2.0 * label, p, zeta, 0.0, 0.0, C + Psi * zeta, s, V,
                    places, nodes, weights, out,
                )  # fmt: skip


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
