"""Flows and certificates: what sympy gets wrong in silence is refused."""

import sympy as sp

from replica.flow import Flow, certify
from replica.line_certificates import derive

u1, u2, w1, w2, x, t = sp.symbols("u1 u2 w1 w2 x t", real=True)


def test_gradient_flow_of_two_neurons_has_the_four_quadratic_invariants():
    flow = Flow.gradient((u1 * w1 + u2 * w2 - 3) ** 2, dict.fromkeys((u1, u2, w1, w2), 1))
    found = flow.invariants(2)
    assert len(found) == 4
    assert all(flow.certify_invariant(str(e), e).holds for e in found)
    span = sp.Matrix([[sp.Poly(e, u1, u2, w1, w2).coeff_monomial(m) for e in (*found, u1 * w2 - u2 * w1)] for m in
                      (u1**2, u2**2, w1**2, w2**2, u1 * u2, w1 * w2, u1 * w2, u2 * w1)])  # fmt: skip
    assert span.rank() == 4  # the wedge is among them
    assert not flow.certify_invariant("u1", u1).holds


def test_every_certificate_of_the_line_network_holds():
    derivation = derive()
    assert len(derivation.invariants) == 4
    assert len(derivation.certificates) >= 15
    assert all(c.holds for c in derivation.certificates), [str(c) for c in derivation.certificates if not c.holds]


def test_a_sign_flipped_in_a_closed_form_is_refused():
    P0, Q0, S, D, rho, p, q = sp.symbols("P Q S D rho p q", real=True)
    riccati = Flow({p: p * (S - p + q), q: -q * (S - p + q)})
    pace, square = {rho: -rho * (rho + 2 * D) / 2}, [D**2 - S**2 - 4 * P0 * Q0]
    for sign in (1, -1):
        ratio = (D + S + 2 * Q0 + rho) / (D - sign * S + 2 * P0 + rho)
        closed = {p: P0 * ratio, q: Q0 / ratio}
        assert riccati.certify_solution("closed form", closed, pace, square).holds == (sign == 1)
        if sign == 1:  # the relation is needed, and used
            assert not riccati.certify_solution("closed form", closed, pace).holds


def _antiderivative_of_one_over_a_quadratic():
    b, c = sp.symbols("b c", real=True)
    return 1 / (x**2 - b * x - c)


def test_the_silent_zero_of_integrate_is_refused():
    """Some versions of sympy return 0 for this integral with real symbols, which makes dsolve answer nonsense."""
    integrand = _antiderivative_of_one_over_a_quadratic()
    assert not certify("zero is an antiderivative", sp.diff(sp.S.Zero, x) - integrand).holds
    claimed = sp.integrate(integrand, x)  # right or wrong, whatever this version says
    b, c = sp.symbols("b c", real=True)
    root = sp.sqrt(b**2 + 4 * c)
    right = sp.log((x - (b + root) / 2) / (x - (b - root) / 2)) / root
    assert certify("the logarithm is", sp.diff(right, x) - integrand).holds
    if claimed == 0:
        assert not certify("sympy's answer", sp.diff(claimed, x) - integrand).holds


def test_the_lost_roots_of_deep_modes_are_refused():
    """Dropping the complex roots of 1 - x^3 is what `integrate` may do at depths 3 and 5."""
    for depth in (3, 5):
        integrand = 1 / (x ** (depth - 1) * (1 - x**depth))
        dropped = -1 / ((depth - 2) * x ** (depth - 2)) - sp.log(1 - x) / depth
        assert not certify("without the complex roots", sp.diff(dropped, x) - integrand).holds
        whole = sp.integrate(sp.apart(integrand, x, full=True).doit(), x)
        assert certify("with them", sp.diff(whole, x) - integrand).holds


def test_a_solver_that_finds_nothing_is_not_taken_for_a_proof():
    """`dsolve` of the raw pair may answer with an empty list; a certificate needs an expression that vanishes."""
    u, w = sp.symbols("u w", real=True)
    flow = Flow({u: (1 - u * w) * w, w: (1 - u * w) * u})
    assert not flow.certify_solution("a wrong solution", {u: sp.tanh(t), w: sp.tanh(t)}, {t: sp.S.One}).holds


def test_weight_decay_keeps_one_equation():
    """P Q = P0 Q0 exp(-4 m t), and the Bessel form solves the equation that is left."""
    k, S, m = sp.Rational(7, 5), sp.Rational(11, 6), sp.Rational(3, 10)
    P0, Q0 = sp.Rational(2, 3), sp.Rational(1, 5)
    z0 = k * sp.sqrt(P0 * Q0) / (2 * m)
    drive = k * S - 2 * m
    nu, s, r = abs(drive) / (4 * m), sp.sign(drive), sp.sqrt(P0 / Q0)
    z = z0 * sp.exp(-2 * m * t)
    cI = sp.besselk(nu + s, z0) - r * sp.besselk(nu, z0)
    cK = sp.besseli(nu + s, z0) + r * sp.besseli(nu, z0)
    top = cK * sp.besselk(nu + s, z) - cI * sp.besseli(nu + s, z)
    P = sp.sqrt(P0 * Q0) * sp.exp(-2 * m * t) * top / (cK * sp.besselk(nu, z) + cI * sp.besseli(nu, z))
    residual = sp.diff(P, t) - (drive * P - k * P**2 + k * P0 * Q0 * sp.exp(-4 * m * t))
    for at in (sp.Rational(1, 10), sp.Rational(3, 2), sp.Integer(4)):
        assert abs(sp.N(residual.subs(t, at), 30)) < 1e-20
    assert abs(sp.N(P.subs(t, 0) - P0, 30)) < 1e-20
