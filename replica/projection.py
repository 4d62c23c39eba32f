"""A layer of random rows between weights and data: its share of a free entropy.

Weights w_i of p neurons, in groups k, act on the inputs through ``s_k = sqrt(c_k/p) sum_{i in k} w_i w0_i``, w0_i independent
unit vectors in d dimensions, p = ratio d.  At quadratic order around the minimum the weights respond with V2_k each
and the data pull on s with V1_hat, so that the layer contributes

    (1/(2 ratio)) d/de log det(1 + Gamma(V2 - e q2) (V1_hat + e A)),   Gamma(V) = diag(ratio c_k V_k),

at e = 0: A collects the forces on s.  Everything is rational in sums and products of positive numbers; with one group it is the
Marchenko-Pastur law in disguise (its resolvent is the fixed point in V2).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sympy as sp


def projection(responses: Sequence[Any], norms: Sequence[Any], pull: Any, forces: Any, c: Sequence[Any], ratio: Any) -> Any:
    """The mixed term of a free entropy.

    Parameters
    ----------
    responses, norms : sequence of K expressions
        V2 and q2 of every group: response, and squared norm, per neuron of the layer.
    pull, forces : matrix, shape (K, K)
        V1_hat and A, both symmetric.
    c : sequence of K expressions
        Variance of the rows of a group.
    ratio : expression
        p/d.

    References
    ----------
    .. [1] docs/theory/srf.md, section 5.
    """
    gamma = sp.diag(*[ratio * ck * v for ck, v in zip(c, responses, strict=True)])
    system = sp.eye(len(responses)) + gamma * pull
    # Cofactors: no pivots to choose, and the determinant is a sum of products of positive minors.
    inverse, determinant = system.adjugate(), system.det(method="berkowitz")
    forced = (inverse * gamma * forces).trace() / (ratio * determinant)
    held = pull * inverse / determinant
    return sp.Rational(1, 2) * (forced - sp.Add(*[ck * q * held[k, k] for k, (ck, q) in enumerate(zip(c, norms, strict=True))]))
