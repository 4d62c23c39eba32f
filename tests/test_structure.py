"""The order of the equations is found, not declared."""

import pytest
import sympy as sp

from replica.free_entropy import SaddlePoint
from replica.model import OrderParameter
from replica.models import RidgeRegression, SpikedRandomFeatures
from replica.structure import analyse, slope_symbol

a, b, c, d = sp.symbols("a b c d", real=True)
a_hat, b_hat, c_hat, d_hat = sp.symbols("a_hat b_hat c_hat d_hat", real=True)
f, g = sp.Function("f"), sp.Function("g")


def blocks_of(model):
    unknowns = [s for x in model.active(OrderParameter).values() for s in model.components(x)]
    return analyse(model.free_entropy().saddle_point, unknowns)


def names(blocks):
    return [({str(x) for x in block.unknowns}, block.linear) for block in blocks]


def test_the_responses_of_spiked_random_features_close_on_themselves_and_the_rest_is_linear():
    first, *rest = names(blocks_of(SpikedRandomFeatures()))
    assert first == ({"V1", "V2"}, False)
    assert all(linear for _, linear in rest)
    order = [x for found, _ in rest for x in sorted(found)]
    assert sorted(order) == ["m", "psi", "q1", "q2", "theta"]
    assert [found for found, _ in rest][-1] == {"q1", "q2"}  # the variances need all means
    assert ({"m", "theta"}, True) in rest


def test_ridge_is_one_nonlinear_equation_and_two_linear_ones():
    assert names(blocks_of(RidgeRegression())) == [({"V"}, False), ({"m"}, True), ({"q"}, True)]


def saddle_with_a_cycle():
    """a drives the cycle b -> c -> b, in which c is nonlinear; d follows linearly."""
    hats = {a_hat: sp.S.One, b_hat: a * c, c_hat: f(b), d_hat: d + c + b}
    overlaps = {a: a_hat**2, b: b_hat, c: c_hat, d: d_hat / 3}
    return SaddlePoint(hats, overlaps, {})


@pytest.mark.parametrize("unknowns", [[a, b, c, d], [d, c, b, a], [c, a, d, b]], ids=str)
def test_a_cycle_is_one_block_whatever_the_order_of_declaration(unknowns):
    blocks = analyse(saddle_with_a_cycle(), unknowns)
    assert names(blocks) == [({"a"}, True), ({"b", "c"}, False), ({"d"}, True)]
    assert [x for x in unknowns if x in (b, c)] == list(blocks[1].unknowns)  # inside a block, the declared order


def full_jacobian(saddle, block):
    """By direct substitution of the conjugates, then differentiation."""
    residual = [e.subs(saddle.hats, simultaneous=True) for e in block.residual]
    return sp.Matrix(residual).jacobian(block.unknowns)


@pytest.mark.parametrize("linear_tail", [True, False])
def test_the_chain_rule_gives_the_jacobian_of_the_composed_map(linear_tail):
    saddle = saddle_with_a_cycle()
    if not linear_tail:
        saddle.overlaps[d] = g(d_hat) * b_hat
    for block in analyse(saddle, [a, b, c, d]):
        put = {slope_symbol(h, x): e for (h, x), e in block.hat_slopes.items()} | dict(saddle.hats)
        n = len(block.unknowns)
        chain = sp.Matrix(n, n, lambda i, j, block=block: block.jacobian(i, j)).subs(put, simultaneous=True)
        assert sp.simplify((chain - full_jacobian(saddle, block)).doit()) == sp.zeros(n, n)


def test_a_free_order_parameter_joins_the_block_that_needs_it():
    hats = {a_hat: b + 1}
    saddle = SaddlePoint(hats, {a: a_hat}, {b: b * 3 - a})
    (block,) = analyse(saddle, [a, b])
    assert block.linear
    assert set(block.unknowns) == {a, b}
    assert block.residual == (a_hat - a, 3 * b - a)


def test_a_product_of_two_unknowns_of_one_block_is_not_linear():
    saddle = SaddlePoint({a_hat: b, b_hat: a}, {a: a_hat * b_hat, b: b_hat}, {})
    (block,) = analyse(saddle, [a, b])
    assert not block.linear
    # nonlinear in the conjugates alone, so only seen through the chain rule
    saddle = SaddlePoint({a_hat: a}, {a: a_hat**2}, {})
    assert not analyse(saddle, [a])[0].linear
