"""The saddle point is the stationarity of the free entropy, and of nothing else."""

import pytest
import sympy as sp

from replica.averages import GaussianAverage, gaussian, marginalise
from replica.free_entropy import FreeEntropy, ModelError
from replica.lowering import substitute_formulas
from replica.model import Conjugate, Model, OrderParameter, Parameter
from replica.models import MODELS, RidgeRegression
from replica.relaxation import spelled_out

half = sp.Rational(1, 2)
V, q, m, V_hat, q_hat, m_hat = sp.symbols("V q m V_hat q_hat m_hat", real=True)
alpha, reg, noise, rho = sp.symbols("alpha reg noise rho", real=True)
COUPLINGS = [(V, q_hat, -half), (q, V_hat, half), (m, m_hat, -1)]


def textbook(overlap=1, power=1):
    """Ridge for a teacher of first Hermite coefficient `overlap` and second moment `power`."""
    return {
        m_hat: alpha * overlap / (1 + V),
        V_hat: alpha / (1 + V),
        q_hat: alpha * (power + noise + q - 2 * overlap * m) / (1 + V) ** 2,
        V: 1 / (reg + V_hat),
        q: (m_hat**2 + q_hat) / (reg + V_hat) ** 2,
        m: m_hat / (reg + V_hat),
    }


def derived(model):
    """The saddle point with the formula of the target put in and all averages done."""
    saddle = model.free_entropy().saddle_point
    assert not saddle.stationarity
    equations = {**saddle.hats, **saddle.overlaps}
    return {x: spelled_out(marginalise(substitute_formulas(model, e))).xreplace({rho: sp.S.One}) for x, e in equations.items()}


def test_linear_teacher_gives_textbook_ridge_symbol_for_symbol():
    equations = derived(RidgeRegression(target="identity"))
    assert equations.keys() == textbook().keys()
    for x, expected in textbook().items():
        assert sp.cancel(equations[x] - expected) == 0, x


def test_polynomial_teacher_enters_by_its_first_hermite_coefficient_and_its_second_moment():
    # z + z^2/2: coefficient 1, second moment 1 + 3/4.
    equations = derived(RidgeRegression(target="z + z**2/2"))
    for x, expected in textbook(1, sp.Rational(7, 4)).items():
        assert sp.cancel(equations[x] - expected) == 0, x


def test_equations_read_alike_for_every_target_until_its_formula_is_put_in():
    one, other = (RidgeRegression(target=name).free_entropy().saddle_point for name in ("identity", "sign"))
    assert one.hats == other.hats
    assert one.overlaps == other.overlaps


@pytest.mark.parametrize("name", [n for n, m in MODELS.items() if m.method in ("newton", "damped")])
def test_the_gradient_of_the_free_entropy_is_couplings_times_the_violation_of_the_equations(name):
    phi = MODELS[name]().free_entropy()
    saddle = phi.saddle_point
    for x, h, c in phi.couplings:
        assert sp.expand(sp.diff(phi.expression, x) - c * (h - saddle.hats[h])) == 0
        assert sp.expand(sp.diff(phi.expression, h) - c * (x - saddle.overlaps[x])) == 0
    for free, expression in saddle.stationarity.items():
        assert sp.expand(sp.diff(phi.expression, free) - expression) == 0


def test_mixed_potentials_are_refused_by_name():
    with pytest.raises(ModelError, match=r"potential \(order parameters\) contains q_hat"):
        FreeEntropy(COUPLINGS, V_hat, q * q_hat)
    with pytest.raises(ModelError, match=r"potential_hat \(conjugates\) contains V, m"):
        FreeEntropy(COUPLINGS, V_hat * V + m, q)
    with pytest.raises(ModelError, match=r"potential_hat.*contains m"):
        FreeEntropy(COUPLINGS[:2], V_hat + m, q, free=[m])


def test_an_order_parameter_that_hides_in_a_covariance_counts_as_mixed():
    u = gaussian("u")
    with pytest.raises(ModelError, match="contains q_hat"):
        FreeEntropy(COUPLINGS, V_hat, GaussianAverage(sp.tanh(u), u, [[1 + q_hat**2]]) * q)


def test_a_mixed_term_puts_conjugates_into_conjugates():
    free = FreeEntropy([(q, V_hat, 1), (V, q_hat, 1)], q_hat**2 + V_hat, V**3, mixed=q * q_hat)
    saddle = free.saddle_point
    assert saddle.hats == {V_hat: -q_hat, q_hat: -3 * V**2}
    assert saddle.explicit_hats() == {V_hat: 3 * V**2, q_hat: -3 * V**2}
    assert saddle.overlaps == {q: -1, V: -2 * q_hat - q}


def test_circles_and_free_parameters_in_mixed_terms_are_refused():
    with pytest.raises(ModelError, match="in a circle: V_hat, q_hat"):
        _ = FreeEntropy([(q, V_hat, 1), (V, q_hat, 1)], 0, 0, mixed=q * V * q_hat * V_hat).saddle_point
    with pytest.raises(ModelError, match="contains m, which have no conjugate"):
        FreeEntropy(COUPLINGS[:2], V_hat, q, free=[m], mixed=m * q_hat)


def test_declaring_twice_is_refused_by_name():
    with pytest.raises(ModelError, match=r"twice.*: q$"):
        FreeEntropy([*COUPLINGS, (q, m_hat * 2, 1)], V_hat, q)
    with pytest.raises(ModelError, match=r"twice.*: m_hat$"):
        FreeEntropy([*COUPLINGS[:2], (m, m_hat, 1), (V, m_hat, 1)][1:], V_hat, q)
    with pytest.raises(ModelError, match=r"twice.*: m$"):
        FreeEntropy(COUPLINGS, V_hat, q, free=[m])


class Toy(Model):
    """A model with one coupled order parameter."""

    name = "toy"
    alpha = Parameter("slope")
    a = OrderParameter("coupled")
    a_hat = Conjugate(a, -1)


def test_an_order_parameter_needs_a_conjugate_or_must_be_declared_free():
    class Loose(Toy):
        """b floats."""

        b = OrderParameter("neither coupled nor free")

    class Torn(Toy):
        """b is both."""

        b = OrderParameter("both coupled and free", free=True)
        b_hat = Conjugate(b, 1)

    for model in (Loose, Torn):
        with pytest.raises(ModelError, match="order parameter b must either have a conjugate or be declared free"):
            _ = model().couplings


def test_a_free_order_parameter_is_fixed_by_its_own_stationarity():
    saddle = FreeEntropy(COUPLINGS[:2], V_hat + q_hat, V * (m - q) ** 2, free=[m]).saddle_point
    assert sp.expand(saddle.stationarity[m] - 2 * V * (m - q)) == 0
    assert m not in saddle.overlaps


def test_averages_are_integrated_out_on_construction_so_that_no_derivative_falls_on_a_discontinuous_teacher():
    saddle = RidgeRegression(target="sign").free_entropy().saddle_point
    assert not any(e.has(sp.DiracDelta) for e in saddle.hats.values())
