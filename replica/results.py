"""Scan files as labelled arrays.  Nothing outside this module imports xarray."""

from __future__ import annotations

from pathlib import Path

import xarray

from solvers.store import SIMULATION, check, damaged, has_group


def open_results(path: str | Path) -> xarray.Dataset:
    """A scan file as a dataset, read lazily; also while the scan is running.

    Returns
    -------
    xarray.Dataset
        Dimensions are the axes of the grid and the indices of the quantities.  Where ``result`` is not 0 the values
        are not a solution.  Close it (``with`` does) before the same program writes to the file.

    Raises
    ------
    StoreError
        If there is no such file, or it is not a readable scan file.

    Examples
    --------
    >>> data = open_results("scan.h5")  # doctest: +SKIP
    >>> data.test_error.where(data.result == 0)  # doctest: +SKIP
    """
    check(path)
    return _open(path, None)


def open_simulation(path: str | Path) -> xarray.Dataset | None:
    """Finite-size simulations of a scan file over ``point``, or None if it has none.

    Raises
    ------
    StoreError
        If there is no such file, or it is not a readable scan file.
    """
    return _open(path, SIMULATION) if has_group(path, SIMULATION) else None


def _open(path: str | Path, group: str | None) -> xarray.Dataset:
    # No lock, as in the store: a dataset left open must not keep a scan from its file.
    try:
        return xarray.open_dataset(path, engine="h5netcdf", group=group, driver_kwds={"locking": False})
    except Exception as error:  # the libraries assert, too, what a damaged file does not fulfil
        raise damaged(Path(path), error) from error
