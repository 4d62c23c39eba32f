"""Large dense products and solves of experiments: by numpy here, or by CuPy on a GPU where that is asked for.

What goes in and comes out is numpy's: moving it takes less time than is saved, from sizes of some hundreds on.  CuPy is used
through the array API standard only.
"""

from __future__ import annotations

import os
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

Array = NDArray[np.float64]

#: Environment variable that names the device; processes inherit it.
DEVICE = "REPLICA_DEVICE"
DEVICES = ("cpu", "gpu")


class DeviceError(RuntimeError):
    """The device asked for cannot be used; one line that says why."""


def library() -> Any:
    """CuPy if a GPU is asked for, None otherwise.

    Raises
    ------
    DeviceError
        If the device is not known, or there is no CuPy or no GPU.
    """
    name = os.environ.get(DEVICE, "cpu")
    if name not in DEVICES:
        raise DeviceError(f"{DEVICE} = {name!r} is not one of {', '.join(DEVICES)}")
    return _cupy() if name == "gpu" else None


@cache
def _cupy() -> Any:
    try:
        import cupy
    except ImportError:
        raise DeviceError("device gpu needs CuPy, which is not installed: pip install 'replica-solvers[gpu]'") from None
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except Exception as error:  # of CuPy's own kinds, by what is missing
        raise DeviceError(f"device gpu: no GPU can be used ({str(error).splitlines()[0]}); use device cpu") from error
    if count == 0:
        raise DeviceError("device gpu: there is no GPU; use device cpu")
    return cupy


def _here(array: Any) -> Array:
    found: Array = array.get() if hasattr(array, "get") else np.asarray(array)
    return found


def product(a: Array, b: Array) -> Array:
    """``a @ b`` of two matrices."""
    xp = library()
    if xp is None:
        return a @ b
    return _here(xp.matmul(xp.asarray(np.ascontiguousarray(a)), xp.asarray(np.ascontiguousarray(b))))


def solve_positive(matrix: Array, right: Array) -> Array:
    """Solution of a symmetric positive definite system; `matrix`, of which the lower triangle counts, may be overwritten.

    Raises
    ------
    numpy.linalg.LinAlgError
        If the matrix is not positive definite.
    """
    xp = library()
    if xp is None:
        found: Array = cho_solve(cho_factor(matrix, lower=True, overwrite_a=True), right)
        return found
    lower = xp.linalg.cholesky(xp.asarray(matrix))
    out = _here(xp.linalg.solve(lower.T, xp.linalg.solve(lower, xp.asarray(right))))
    if not np.isfinite(out).all():  # CuPy says it so
        raise np.linalg.LinAlgError("matrix is not positive definite")
    return out
