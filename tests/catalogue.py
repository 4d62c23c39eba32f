"""Targets with known staircases, their random rotations, and the recursion by plain quadrature."""

import itertools
import math

import numpy as np
import sympy as sp

from replica.targets import half_line_rule, make_target

#: text -> (leaps, dims)
CATALOGUE = {
    "z1": ([1], [1]),
    "he2(z1)": ([2], [1]),
    "he3(z1)/6": ([3], [1]),
    "z1**3": ([1], [1]),
    "he4(z1) + he2(z2)": ([2, 4], [1, 2]),
    "z1 + z1*z2 + z1*z2*z3": ([1, 1, 1], [1, 2, 3]),
    "z1*z2*z3": ([3], [3]),
    "he2(z1) + z1*z2": ([2], [2]),
    "sign(z1*z2)": ([2], [2]),
    "sign(z1*z2*z3)": ([3], [3]),
    "sign(z1) + z1*z2": ([1, 1], [1, 2]),
    "abs(z1) + z1*z2*z3": ([2, 2], [1, 3]),
    "relu(z1) + sign(z1)*he2(z2)*z3": ([1, 3], [1, 3]),
    "z1 + he2(z2)*z3": ([1, 3], [1, 3]),
    "z1*z2 + z1*z2*z3": ([2, 1], [2, 3]),
    "z1**2*z2": ([1, 2], [1, 2]),
    "z1*z2 + z2*z3": ([2], [2]),
    "z1**2*z2 + z1": ([1, 1], [1, 2]),
    "z1 + z2 + z1*z2": ([1, 2], [1, 2]),
    "z1 + 2*z2 + z1*z2": ([1, 1], [1, 2]),
    "z1 + z1*z2 + z3*z4": ([1, 1, 2], [1, 2, 4]),
    "(4*z1 + z1**2 + z2)/2": ([1, 1], [1, 2]),
    "z1 + z1*z2": ([1, 1], [1, 2]),
    "z1 + he2(z1)*z2": ([1, 1], [1, 2]),
    "z1 + z2*z3": ([1, 2], [1, 3]),
    "z1*z2*z3*z4": ([4], [4]),
    "z1 + z1*z2*z3*z4": ([1, 3], [1, 4]),
    "z1 + z1*z2 + z2*z3 + z3*z4": ([1, 1, 1, 1], [1, 2, 3, 4]),
    "z1 + z1*z2 + z1*z2*z3*z4": ([1, 1, 2], [1, 2, 4]),
    "z1 + z1*z2 + he2(z1)*z3": ([1, 1], [1, 3]),
    "z1 + z1**2*z2 + z1*z3": ([1, 1], [1, 3]),
    "z1 + z1*z2 + he2(z1)*z2/3": ([1, 1], [1, 2]),
    "(z1 + z2)**3": ([1], [1]),
    "(z1 + z2)**2 - z1*z2*z3": ([2, 1, 2], [1, 2, 3]),
    "(z1 + z2 + z3)*(z1 - z2)": ([2], [2]),
    "z1**2 + z2**2": ([2], [2]),
    "z1**2 - z2**2 + z1*z2*z3": ([2, 1], [2, 3]),
    "he3(z1) + he3(z2) + z1*z2": ([2], [2]),
    "he2(z1)*z2 + he2(z2)*z3 + he2(z3)*z1": ([3], [3]),
    "1 + z1/2 + z1*z2*z3/10": ([1, 2], [1, 3]),
    "5": ([], []),
}


def rotation(r, seed):
    """A random orthogonal matrix with small rational entries: products of (2, 2, 1)/3 blocks, or Cayley transforms."""
    rng = np.random.default_rng(seed)
    if r == 1:
        return sp.Matrix([[-1]])
    if r == 3 and seed % 2:
        block = sp.Matrix([[2, -2, 1], [1, 2, 2], [2, 1, -2]]) / 3
        return block[:, [int(i) for i in rng.permutation(3)]]
    skew = sp.zeros(r, r)
    for i, j in itertools.combinations(range(r), 2):
        skew[i, j] = sp.Rational(int(rng.integers(-2, 3)), int(rng.integers(1, 4)))
        skew[j, i] = -skew[i, j]
    return (sp.eye(r) - skew) * (sp.eye(r) + skew).inv()


def rotated(text, matrix):
    """The target g(R z) as an expression."""
    target = make_target(text)
    z = sp.Matrix(target.z)
    turned = matrix * z
    expression = target.expression.xreplace(dict(zip(target.z, turned, strict=True)))
    return make_target(sp.expand(expression) if target.polynomial else expression, [s.name for s in target.z])


def by_quadrature(target, nodes=8, threshold=1e-9):
    """Leaps, dimensions and bases by conditional averages on a grid: h(z_U) and T^(k)(z_U) are computed point by point."""
    r, frame, m = target.r, np.eye(target.r), 0
    leaps, dims, bases = [], [], []
    x, w = half_line_rule(nodes)
    while m < r:
        values = grid_values(target, frame, x)
        for k in range(1, 7):
            gram = averaged_square(values, x, w, m, k)
            size, vectors = np.linalg.eigh(gram)
            new = vectors[:, size > threshold * max(1.0, size.max())].T
            if len(new):
                break
        else:
            break
        rest = vectors[:, size <= threshold * max(1.0, size.max())].T
        frame = np.vstack([frame[:m], new @ frame[m:], rest @ frame[m:]])
        m += len(new)
        leaps.append(k)
        dims.append(m)
        bases.append(frame[:m])
    return leaps, dims, bases


def grid_values(target, frame, x):
    t = np.stack(np.meshgrid(*[x] * target.r, indexing="ij"), axis=-1)
    return target.numeric(t @ frame)


def conditional(values, x, w, m, nu):
    """E[He_nu(z_perp) g | z_U] on the grid of z_U."""
    for n in reversed(nu):
        he = np.polynomial.hermite_e.HermiteE.basis(n)(x)
        values = values @ (he * w)
    return values


def averaged_square(values, x, w, m, k):
    """E_{z_U} T^(k) T^(k)^T, entries of T^(k) being E[He_nu(z_perp) g | z_U]."""
    n = values.ndim - m
    weight = np.ones(())
    for _ in range(m):
        weight = np.multiply.outer(weight, w)
    known = {}
    gram = np.zeros((n, n))
    for nu in itertools.product(range(k), repeat=n):
        if sum(nu) == k - 1:
            rows = []
            for j in range(n):
                raised = tuple(a + (i == j) for i, a in enumerate(nu))
                if raised not in known:
                    known[raised] = conditional(values, x, w, m, raised)
                rows.append(known[raised])
            scale = math.factorial(k - 1) / math.prod(map(math.factorial, nu))
            gram += scale * np.array([[np.sum(weight * a * b) for a in rows] for b in rows])
    return gram
