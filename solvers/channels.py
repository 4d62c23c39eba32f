"""Averages over an output channel: label, prediction and the proximal map of a loss.

The teacher field is ``T + rho zeta``, the prediction ``omega = C + ...`` with variance S and covariance Psi with zeta, both
Gaussian.  One pass over quadrature nodes gives every moment that a saddle point, its Jacobian and the observables need;
what each is called, and how they differentiate into each other, is in `replica.output`.  No derivative falls on the
loss or on the label beyond the prox: derivatives of kinked functions are averages against derivatives of the Gaussian.

The ways over the fields, by what is known of labels:

* `sign_linear`: labels sign(T + rho zeta + noise): the law of the label given omega is closed, one integral;
* `residual_linear`: labels T + rho zeta + noise and a loss of the residual: omega - y is Gaussian, one integral;
* `sign_general`: the sign of any function of the teacher field; closed too without noise inside the sign, else an integral
  without a prox at every node of the first;
* `residual_general`: any function of the teacher field, two integrals.

Rules are composite Gauss-Legendre with panels refined at every feature of prox and label (`quadrature.panels`); for a loss
without kinks equidistant nodes, as long as they are fewer, and the probabilities of wrong signs are closed.  The prox and its
features are functions of the loss; a generated kernel holds a copy of this source with its own (`replica.channel_kernel`).

`sign_places` and `residual_places` say where an average over a further, outer field turns sharp (`quadrature.outer_rule`).
"""

import math

import numpy as np
from numba import njit

from . import quadrature, special

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
PARTS = {
    "sign": ("is_odd", "density", "cdf", "add", "observe_one", "place", "bends", "even_nodes", "wrong_signs", "add_class",
             "sign_steps", "sign_places"),
    "residual": ("density", "cdf", "add", "observe_one", "place", "bends", "even_nodes", "room_for", "one_field",
                 "residual_places"),
}  # fmt: skip
#: Equidistant nodes are used while they are at most so many times the order of the panels.
MOST_EVEN = 26

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
def observe_one(value, sharp, out, a, d, dd, bd, y, w, V, z, g, k):
    """Add one node to the moments of observables; for a residual (y = 0) signs mean nothing, and not `sharp` leaves them out."""
    fit = value(y, z)
    out[0] += a * (fit + 0.5 * V * g * g)
    out[14] += a * fit
    wrong = (1.0 if y * w < 0.0 else 0.5 if w == 0.0 else 0.0) if sharp else 0.0
    wrong_fit = (1.0 if y * z < 0.0 else 0.5 if z == 0.0 else 0.0) if sharp else 0.0
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
def bends(features, smooth, y, V, spread, places):
    """Inverse square of the scale on which a smooth prox bends, in units of the standard normal."""
    n, narrowest = 2 * features(y, V, places), math.inf
    for i in range(0, n, 2):
        if places[i + 1] > 0.0:
            narrowest = min(narrowest, places[i + 1])
    return (spread / (smooth * narrowest)) ** 2


@_jit
def even_nodes(sharpness, order, nodes, weights):
    """Equidistant nodes, if they are few; returns their number or 0."""
    h = quadrature.spacing(sharpness, order)
    return quadrature.uniform(h, nodes, weights) if 2.0 * quadrature.REACH <= MOST_EVEN * order * h else 0


@_jit
def sign_linear(prox, value, features, count, even, smooth, x, wx, observe, C, T, rho, Psi, S, V, noise, flip, out):
    """Labels ``sign(T + rho zeta + sqrt(noise) xi)``, flipped with probability `flip`; `even`: a loss of the product y z.

    `smooth` is 0 for a loss with kinks, otherwise the scale of its prox in units of the width of its features.
    """
    steps, levels = np.zeros(1), np.array([0.0, 1.0])
    sign_steps(
        prox, value, features, count, even, smooth, x, wx, observe, steps, levels, C, T, rho, Psi, S, V, noise, flip, out
    )  # fmt: skip


@_jit
def sign_steps(
    prox, value, features, count, even, smooth, x, wx, observe, steps, levels, C, T, rho, Psi, S, V, noise, flip, out
):
    """The label is 1 with probability `levels` between the `steps` of the teacher's field plus noise."""
    out[:] = 0.0
    s = math.sqrt(S)
    R = Psi / s
    rest = (1.0 - R) * (1.0 + R)  # variance of zeta given omega
    if not (math.isfinite(C + T + rho + Psi + s + V + R) and rest >= 0.0 and s > 0.0 and V > 0.0):
        out[:] = math.nan
        return
    tau = math.sqrt(rho * rho * rest + noise)
    pull = rho * rest / tau if tau > 0.0 else 0.0
    kept = 1.0 - 2.0 * flip
    back = 1.0 / max(S * rest, 1e-300)
    places = np.empty(2 * (count + 1 + steps.size))
    size = quadrature.panel_room(count + 1 + steps.size) * x.size
    nodes, weights = np.empty(size), np.empty(size)
    # Reflected fields with the other label give the same, up to a sign, if nothing else tells the labels apart.
    mirrored = even and C == 0.0 and T == 0.0
    for label in range(1 if mirrored else 2):
        y = 1.0 - 2.0 * label
        base = levels[0] if y > 0.0 else 1.0 - levels[-1]
        n = 0
        if smooth > 0.0:
            blur = (rho * R / tau) ** 2 if rho * R != 0.0 else 0.0
            n = even_nodes(1.0 + bends(features, smooth, y, V, s, places) + blur, x.size, nodes, weights)
        if n == 0:
            filled = place(features, y, V, C, s, count, places)
            if rho * R != 0.0:
                for at in steps:
                    places[filled], places[filled + 1] = (at - T) / (rho * R), tau / abs(rho * R)
                    filled += 2
            n = quadrature.panels(places[:filled], x, wx, nodes, weights)
        guess, last_w, last_k = math.nan, 0.0, 0.0
        for i in range(n):
            xi = nodes[i]
            w = C + s * xi
            z, g, k = prox(y, w, V, guess + (1.0 - V * last_k) * (w - last_w))
            guess, last_w, last_k = z, w, k
            # Law of the label given omega, with 1, zeta and zeta^2.
            mean = R * xi
            a, b, bb = base, 0.0, 0.0
            for j in range(steps.size):
                arg, jump = T - steps[j] + rho * mean, levels[j + 1] - levels[j]
                arg = arg / tau if tau > 0.0 else (math.inf if arg > 0.0 else -math.inf if arg < 0.0 else 0.0)
                a += jump * cdf(y * arg)
                if abs(arg) < 40.0 and tau > 0.0:
                    phi = y * jump * pull * density(arg)
                    b += phi
                    bb += (2.0 * mean - pull * arg) * phi
            a = kept * a + flip
            b, bb = mean * a + kept * b, (mean * mean + rest) * a + kept * bb
            add_class(
                value, smooth == 0.0, observe, out, weights[i], a, b, bb, s * xi, Psi, back, y, w, V, z, g, k
            )  # fmt: skip
        if observe and smooth > 0.0:
            edge = places[2 * features(y, V, places) - 2]  # the last feature: where the prox passes zero
            wrong_signs(steps, levels, base, 17, y, -C / s, T, rho, R, noise, tau, pull, kept, flip, s, Psi, back, out)
            wrong_signs(steps, levels, base, 18, y, (edge - C) / s, T, rho, R, noise, tau, pull, kept, flip, s, Psi, back, out)
    if mirrored:
        for n in range(out.size):
            out[n] = 0.0 if is_odd(n) else 2.0 * out[n]


@_jit
def add_class(value, sharp, observe, out, wt, a, b, bb, off, Psi, back, y, w, V, z, g, k):
    """Add one node of a class: `a`, `b`, `bb` its label's law with 1, zeta, zeta^2, `off` the prediction less its mean."""
    d = (off * a - Psi * b) * back
    dd = ((off * off * a - 2.0 * off * Psi * b + Psi * Psi * bb) * back - a) * back
    bd = (off * b - Psi * bb) * back
    add(out, wt * a, wt * b, wt * bb, wt * d, wt * dd, wt * bd, g, k)
    if observe:
        observe_one(value, sharp, out, wt * a, wt * d, wt * dd, wt * bd, y, w, V, z, g, k)


@_jit
def wrong_signs(steps, levels, base, n, y, xi, T, rho, R, noise, tau, pull, kept, flip, s, Psi, back, out):
    """Probability that the label is y and the prediction on the wrong side of xi, with its derivatives, into moment n."""
    spread = math.sqrt(rho * rho + noise)
    below, mean = cdf(y * xi), R * xi
    both, a, b = base * below, base, 0.0
    for j in range(steps.size):
        arg, jump = T - steps[j], levels[j + 1] - levels[j]
        far = arg / spread if spread > 0.0 else (math.inf if arg > 0.0 else -math.inf if arg < 0.0 else 0.0)
        both += jump * special.both_below(y * far, y * xi, -rho * R / spread if spread > 0.0 else 0.0)
        arg += rho * mean
        arg = arg / tau if tau > 0.0 else (math.inf if arg > 0.0 else -math.inf if arg < 0.0 else 0.0)
        a += jump * cdf(y * arg)
        if abs(arg) < 40.0 and tau > 0.0:
            b += y * jump * pull * density(arg)
    a = kept * a + flip
    b = mean * a + kept * b
    edge = -y * density(xi) / s
    out[n] += kept * both + flip * below
    out[n + 5] += edge * a
    out[n + 10] += edge * (s * xi * a - Psi * b) * back
    out[n + 15] += edge * b


@_jit
def residual_linear(prox, value, features, count, smooth, x, wx, observe, C, T, rho, Psi, S, V, noise, flip, out):
    """Labels ``T + rho zeta + sqrt(noise) xi`` and a loss of the residual: prediction minus label is one Gaussian."""
    out[:] = 0.0
    variance = S + rho * rho + noise - 2.0 * Psi * rho
    if not (math.isfinite(C + T + rho + Psi + variance + V) and variance > 0.0 and V > 0.0):
        out[:] = math.nan
        return
    s, R = math.sqrt(variance), (Psi - rho) / math.sqrt(variance)
    places, nodes, weights = room_for(count, x)
    one_field(
        prox, value, features, count, smooth, x, wx, observe, 1.0, 0.0, R, max(1.0 - R * R, 0.0), C - T, s, V, places, nodes,
        weights, out,
    )  # fmt: skip


@_jit
def room_for(count, x):
    """Work space of `one_field`: features, nodes and weights."""
    size = quadrature.panel_room(count + 1) * x.size
    return np.empty(2 * count + 2), np.empty(size), np.empty(size)


@_jit
def one_field(
    prox, value, features, count, smooth, x, wx, observe, p, zeta, R, rest, mean, s, V, places, nodes, weights, out
):
    """Add ``p E f(mean + s xi)`` of a residual, with the teacher's field equal to ``zeta + R xi`` plus an independent part."""
    n = even_nodes(1.0 + bends(features, smooth, 0.0, V, s, places), x.size, nodes, weights) if smooth > 0.0 else 0
    if n == 0:
        n = quadrature.panels(places[: place(features, 0.0, V, mean, s, count, places)], x, wx, nodes, weights)
    guess, last_w, last_k = math.nan, 0.0, 0.0
    for i in range(n):
        xi = nodes[i]
        w = mean + s * xi
        z, g, k = prox(0.0, w, V, guess + (1.0 - V * last_k) * (w - last_w))
        guess, last_w, last_k = z, w, k
        wt, b = p * weights[i], zeta + R * xi
        d, dd, bd = xi / s, (xi * xi - 1.0) / (s * s), (zeta * xi + R * (xi * xi - 1.0)) / s
        add(out, wt, wt * b, wt * (b * b + rest), wt * d, wt * dd, wt * bd, g, k)
        if observe:
            observe_one(value, False, out, wt, wt * d, wt * dd, wt * bd, 0.0, w, V, z, g, k)


@_jit
def residual_general(
    prox, value, features, count, smooth, x, wx, observe, target, kinks, C, T, rho, Psi, S, V, noise, flip, out
):
    """Labels ``target(T + rho zeta) + sqrt(noise) xi`` and a loss of the residual."""
    out[:] = 0.0
    variance = S - Psi * Psi + noise
    if not (math.isfinite(C + T + rho + Psi + variance + V) and variance > 0.0 and V > 0.0):
        out[:] = math.nan
        return
    room = quadrature.panel_room(kinks.size) * x.size
    outer, outer_weights = np.empty(max(room, MOST_EVEN * x.size)), np.empty(max(room, MOST_EVEN * x.size))
    s, n = math.sqrt(variance), 0
    if kinks.size == 0:
        # The spread s smears what the prox does: equidistant nodes while the mean moves slowly compared to it.
        steepest = 1.0
        for j in range(-16, 16):
            moved = 0.5 * Psi - target(T + rho * 0.5 * (j + 1)) + target(T + rho * 0.5 * j)
            steepest = max(steepest, abs(2.0 * moved))
        n = even_nodes(2.0 + (steepest / s) ** 2, x.size, outer, outer_weights)
    if n == 0:
        edges = np.empty(2 * kinks.size)
        for k in range(kinks.size if rho != 0.0 else 0):
            edges[2 * k], edges[2 * k + 1] = (kinks[k] - T) / rho, 0.0
        n = quadrature.panels(edges if rho != 0.0 else edges[:0], x, wx, outer, outer_weights)
    places, nodes, weights = room_for(count, x)
    for j in range(n):
        zeta = outer[j]
        mean = C + Psi * zeta - target(T + rho * zeta)
        one_field(
            prox, value, features, count, smooth, x, wx, observe, outer_weights[j], zeta, 0.0, 0.0, mean, s, V, places, nodes,
            weights, out,
        )  # fmt: skip


@_jit
def sign_general(
    prox, value, features, count, even, smooth, x, wx, observe, target, kinks, steps, levels, known, C, T, rho, Psi, S, V, noise,
    flip, out,
):  # fmt: skip
    """Labels ``sign(target(T + rho zeta) + sqrt(noise) xi)``, flipped with probability `flip`; kinks: zeros of the target.

    The label without noise is 1 with probability `levels` between `steps`, for teacher fields up to `known`.
    """
    if noise == 0.0 and abs(T) + quadrature.CUT * abs(rho) < known:
        sign_steps(
            prox, value, features, count, even, smooth, x, wx, observe, steps, levels, C, T, rho, Psi, S, V, noise, flip, out
        )  # fmt: skip
        return
    out[:] = 0.0
    s = math.sqrt(S)
    R = Psi / s
    rest = (1.0 - R) * (1.0 + R)
    if not (math.isfinite(C + T + rho + Psi + s + V + R) and rest >= 0.0 and s > 0.0 and V > 0.0):
        out[:] = math.nan
        return
    kept, tau, back, blur = 1.0 - 2.0 * flip, abs(rho) * math.sqrt(rest), 1.0 / max(S * rest, 1e-300), math.sqrt(noise)
    places = np.empty(4 * count + 4 + 2 * kinks.size)
    size = quadrature.panel_room(2 * count + 2 + kinks.size) * x.size
    nodes, weights, inner, inner_weights = np.empty(size), np.empty(size), np.empty(size), np.empty(size)
    edges, n = np.empty(2 * kinks.size), 0
    if smooth > 0.0 and not observe:
        sharpest = max(bends(features, smooth, 1.0, V, s, places), bends(features, smooth, -1.0, V, s, places))
        across = 0.0 if rho * R == 0.0 else (rho * R) ** 2 / (tau * tau + noise)
        n = even_nodes(1.0 + sharpest + across, x.size, nodes, weights)
    if n == 0:
        filled = place(features, 1.0, V, C, s, count, places)
        filled += place(features, -1.0, V, C, s, count, places[filled:])
        if rho * R != 0.0:
            for at in kinks:
                places[filled], places[filled + 1] = (at - T) / (rho * R), math.hypot(tau, blur) / abs(rho * R)
                filled += 2
        n = quadrature.panels(places[:filled], x, wx, nodes, weights)
    guess, last_w, last_k = (math.nan, math.nan), 0.0, (0.0, 0.0)
    for i in range(n):
        w, mean = C + s * nodes[i], R * nodes[i]
        # Law of the label 1 given omega, with 1, zeta and zeta^2.
        field, filled, a, b, bb = T + rho * mean, 0, 0.0, 0.0, 0.0
        if tau > 0.0:
            for at in kinks:
                edges[filled], edges[filled + 1] = (at - field) / tau, blur / tau
                filled += 2
        for j in range(quadrature.panels(edges[:filled], x, wx, inner, inner_weights)):
            t = target(field + tau * inner[j])
            likely = cdf(t / blur) if noise > 0.0 else 1.0 if t > 0.0 else 0.0 if t < 0.0 else 0.5
            likely *= inner_weights[j]
            zeta = mean + math.copysign(math.sqrt(rest), rho) * inner[j]
            a += likely
            b += likely * zeta
            bb += likely * zeta * zeta
        a, b, bb = kept * a + flip, kept * b + flip * mean, kept * bb + flip * (mean * mean + rest)
        z, g, k = prox(1.0, w, V, guess[0] + (1.0 - V * last_k[0]) * (w - last_w))
        add_class(value, True, observe, out, weights[i], a, b, bb, s * nodes[i], Psi, back, 1.0, w, V, z, g, k)
        a, b, bb = 1.0 - a, mean - b, mean * mean + rest - bb
        z_, g, k_ = prox(-1.0, w, V, guess[1] + (1.0 - V * last_k[1]) * (w - last_w))
        add_class(value, True, observe, out, weights[i], a, b, bb, s * nodes[i], Psi, back, -1.0, w, V, z_, g, k_)
        guess, last_w, last_k = (z, z_), w, (k, k_)


@_jit
def sign_places(features, count, smooth, observe, steps, C, T, rho, Psi, S, V, noise, flip, mean, places, out):
    """How far, in units of what smears them, the label is from its steps and the prediction from features of the prox.

    An average over the fields given an outer one is as sharp as these numbers are steep in it.  Returns how many there are.
    """
    spread, n = math.sqrt(rho * rho + noise), 0
    for at in steps:
        out[n] = (T - at) / spread
        n += 1
    rest = max(1.0 - Psi * Psi / S, 0.0)
    tau = math.sqrt(rho * rho * rest + noise)
    for label in range(2):
        filled = place(features, 1.0 - 2.0 * label, V, C, 1.0, count, places)
        for i in range(0, filled, 2):
            seen = places[i + 1] > 0.0 or smooth == 0.0 or observe  # signs of smooth losses are for observables only
            near = places[i] / math.sqrt(S + places[i + 1] ** 2) if seen else 0.0
            out[n] = near
            n += 1
            for at in steps:  # the label, where the prediction is at that feature
                reach = min(max(near, -quadrature.REACH), quadrature.REACH)
                out[n] = (T - at + rho * Psi / math.sqrt(S) * reach) / tau if seen else 0.0
                n += 1
    return n


@_jit
def residual_places(features, count, smooth, observe, steps, C, T, rho, Psi, S, V, noise, flip, mean, places, out):
    """The same for a loss of the residual and labels of that mean; `steps` are kinks of the target in the teacher's field."""
    n, variance = 0, S + rho * rho + noise - 2.0 * Psi * rho
    for at in steps:
        out[n] = (T - at) / abs(rho)
        n += 1
    filled = place(features, 0.0, V, C - mean, 1.0, count, places)
    for i in range(0, filled, 2):
        out[n] = places[i] / math.sqrt(max(variance, 0.0) + places[i + 1] ** 2)
        n += 1
    return n
