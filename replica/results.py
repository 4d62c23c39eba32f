"""Scan files as labelled arrays.  Nothing outside this module imports xarray."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import xarray

from solvers.store import SIMULATION, StoreError, check, damaged, has_group


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


def check_table(path: Path) -> None:
    """Raise StoreError if `save_table` would replace anything but a table of a figure."""
    if not path.exists():
        return
    try:
        with _open(path, None) as found:
            known = "figure" in found.attrs
    except StoreError:
        known = False
    if not known:
        raise StoreError(f"{path} exists and is not the table of a figure; move it, or choose another name")


def save_table(path: Path, columns: Mapping[str, Sequence[Any]], title: str, figure: str) -> Path:
    """Write the numbers of a figure, one row per point, as HDF5; StoreError as for `check_table`."""
    check_table(path)
    rows = xarray.Dataset({name: ("row", list(values)) for name, values in columns.items()},
                          attrs={"figure": figure, "title": title})  # fmt: skip
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        rows.to_netcdf(temporary, engine="h5netcdf")
        os.replace(temporary, path)
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)
    return path
