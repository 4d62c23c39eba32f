"""The last rung of a ladder: which solved neighbours a failed point may be continued from.

A point at distance d (steps along axes) from the points that were solved from the model's own start is continued from
neighbours at distances below d, in rounds of growing d.  Distances and order depend on the first pass alone, so the outcome
does not depend on workers or interruptions.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.ndimage import distance_transform_cdt


def distances(solved: np.ndarray) -> np.ndarray:
    """Steps along axes from every point to the nearest solved one; -1 everywhere if there is none.

    Parameters
    ----------
    solved : ndarray of bool, of the shape of the grid

    Returns
    -------
    ndarray of int32, of the same shape
    """
    if not solved.any():
        return np.full(solved.shape, -1, dtype=np.int32)
    return np.asarray(distance_transform_cdt(~solved, metric="taxicab"), dtype=np.int32)


def neighbours(index: tuple[int, ...], usable: np.ndarray) -> Iterator[tuple[int, ...]]:
    """Usable points next to one, in a fixed order: along the first axis first, the smaller coordinate first."""
    for axis, size in enumerate(usable.shape):
        for step in (-1, 1):
            beside = (*index[:axis], index[axis] + step, *index[axis + 1 :])
            if 0 <= beside[axis] < size and usable[beside]:
                yield beside
