"""Pieces of closed forms: the jitted twins are the formulas, and have one limit where those have none."""

import math

import mpmath as mp
import numpy as np
import pytest
import sympy as sp

from replica.relaxation import PIECES
from solvers import relaxation

rng = np.random.default_rng(20261124)


@pytest.mark.parametrize("name", PIECES)
def test_twin_equals_formula_at_random_points(name):
    piece, twin = PIECES[name], getattr(relaxation, name)
    count = min(piece.nargs)
    symbols = sp.symbols(f"x0:{count}", positive=True)
    formula = sp.lambdify(symbols, piece.formula(*symbols), "mpmath")
    for _ in range(100):
        x = [float(v) for v in 10 ** rng.uniform(-6, 2, count)]
        if name == "half_log":  # its third argument is the difference of the first two over the fourth
            b, slope, kappa = x[1:]
            x = [b + kappa * slope, b, slope, kappa]
        with mp.workdps(60):
            x_exact = [mp.mpf(v) for v in x]
            if name == "half_log":
                x_exact[0] = x_exact[1] + x_exact[3] * x_exact[2]
            exact = formula(*x_exact)
            product = math.prod(x[:2]) if name in ("fade", "pace", "elapsed") else 0.0
            if abs(exact) < 1e-300 or abs(exact) > 1e300:
                continue
            # The rounding of rate x time is its own size in an exponential.
            assert abs(mp.mpf(twin(*x)) / exact - 1) < 1e-14 + 3e-16 * product, (x, twin(*x), exact)


def test_negative_arguments_do_not_cancel():
    with mp.workdps(60):
        for s, c in ((-1.0, 1e-20), (-1e5, 1e-8), (3.0, 1e-30)):
            exact = mp.mpf(s) + mp.sqrt(mp.mpf(s) ** 2 + 4 * mp.mpf(c))
            assert abs(relaxation.upper_root(s, c) / exact - 1) < 1e-15
        for x, product in ((-1.0, 1e-18), (1.0, 1e-18), (-1e4, 1.0)):
            exact = mp.sqrt((mp.mpf(x) + mp.sqrt(mp.mpf(x) ** 2 + 4 * mp.mpf(product) ** 2)) / 2)
            assert abs(relaxation.layer_norm(x, product, 1.0, 1.0, 7.0) / exact - 1) < 1e-15
            assert relaxation.layer_norm(-1.0, 1e-250, 1.0, 1.0, 7.0) == pytest.approx(1e-250, rel=1e-15)


LIMITS = [
    ("pace", (2.0, 0.0), math.inf), ("pace", (2.0, math.inf), 0.0), ("pace", (0.0, 4.0), 0.5), ("pace", (0.0, math.inf), 0.0),
    ("pace", (1.0, 1e4), 0.0), ("pace_time", (2.0, 0.0), math.inf), ("pace_time", (0.0, 0.5), 4.0),
    ("pace_time", (1.0, math.inf), 0.0),
    ("ratio", (0.0, 0.0, 0.0), 1.0), ("ratio", (1.0, 2.0, math.inf), 1.0), ("ratio", (1.0, 0.0, 0.0), math.inf),
    ("part", (0.0, 0.0), 0.0), ("part", (2.0, 0.0), math.inf), ("part", (2.0, math.inf), 0.0),
    ("times", (0.0, math.inf), 0.0), ("times", (math.inf, 0.0), 0.0),
    ("upper_root", (0.0, 0.0), 0.0), ("upper_root", (-3.0, 0.0), 0.0),
    ("half_log", (2.0, 2.0, 1.0, 0.0), 0.25), ("half_log", (math.inf, math.inf, 1.0, 1.0), 0.0),
    ("half_log", (0.0, 1.0, -1.0, 1.0), -math.inf), ("half_log", (1.0, 0.0, 1.0, 1.0), math.inf),
    ("layer_norm", (0.0, 0.0, 0.0, 1.0, 7.0), 7.0), ("layer_norm", (0.0, 0.0, 1.0, 1.0, 7.0), 0.0),
    ("elapsed", (0.0, math.inf), math.inf), ("elapsed", (-2.0, math.inf), 0.5), ("elapsed", (0.0, 3.0), 3.0),
    ("elapsed", (1.0, 2000.0), math.inf), ("hypotenuse", (3e-200, 4e-200), 5e-200),
    ("fade", (0.0, math.inf), 1.0), ("fade", (1.0, math.inf), 0.0),
]  # fmt: skip


@pytest.mark.parametrize("name, arguments, limit", LIMITS)
def test_limits(name, arguments, limit):
    assert getattr(relaxation, name)(*arguments) == limit


def test_an_elapsed_clock_is_finite_wherever_the_quotient_is():
    for rate, s in ((1.0, 709.5), (1e10, 7.15e-8), (1e-3, 705e3)):
        with mp.workdps(30):
            exact = mp.expm1(mp.mpf(rate) * mp.mpf(s)) / mp.mpf(rate)
        assert relaxation.elapsed(rate, s) == pytest.approx(float(exact), rel=1e-12)
