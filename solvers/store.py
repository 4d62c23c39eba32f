"""Scan files: HDF5 in the netCDF-4 data model, written with h5py alone, so that xarray opens them.

One flat root group: each axis is a dimension scale, each order parameter, conjugate, observable and diagnostic a
variable over the axes, each fixed parameter a scalar.  Finite-size simulations live in the group ``simulation``.

A file survives the death of its writer: every array is allocated and filled in a temporary file that is then renamed,
a running scan writes raw data only, and the values of a point reach the file before the `result` that vouches for
them.  Loss of power is not covered.  Nothing outside this module imports h5py.
"""

from __future__ import annotations

import errno
import json
import os
import platform
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from .plan import Plan, differences
from .problem import Quantity
from .result import Result

LAYOUT_VERSION = 1
SIMULATION = "simulation"

# name: (type, fill value, long name)
DIAGNOSTICS: dict[str, tuple[str, float, str]] = {
    "result": ("i1", Result.PENDING.value, "what became of the point"),
    "steps": ("i4", 0, "iterations of the method"),
    "nodes": ("i4", 0, "quadrature nodes per average"),
    "residual": ("f8", np.nan, "residual of the undamped map, scaled per component"),
    "contraction": ("f8", np.nan, "spectral radius of the undamped map at the solution"),
    "error": ("f8", np.nan, "estimated iteration error of the values"),
    "quadrature_error": ("f8", np.nan, "move of the solution when the quadrature nodes are doubled"),
}


class StoreError(RuntimeError):
    """A file cannot be read, written or resumed.  The message is one line: what it is and what to try."""


class ScanFile:
    """A scan file opened by its one writer; a context manager.

    Use `for_plan` to create or resume one.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = _open(path, "r+")

    @classmethod
    def for_plan(cls, path: str | Path, plan: Plan, block: tuple[int, ...], overwrite: bool = False) -> ScanFile:
        """Open the file of a plan: a new one, or the one an earlier run of the same plan left behind.

        Parameters
        ----------
        path : path-like
        plan : Plan
        block : tuple of int
            Points per axis that are written together; the chunks of the file.
        overwrite : bool
            Replace a scan file that is there.  The old one stays until the new one is complete.

        Raises
        ------
        StoreError
            If the file belongs to another plan (saying what differs), is not a scan file, is being written by
            another process, or cannot be written where it should be.
        """
        path = Path(path)
        _check_writable(path)
        if overwrite and path.exists():
            _check_replaceable(path)
        if overwrite or not path.exists():
            with _replacing(path, fresh=not overwrite) as temporary:
                _allocate(temporary, plan, block)
        file = cls(path)
        stored = str(file._file.attrs["plan"])
        if stored != plan.text:
            file.close()
            changes = "; ".join(differences(json.loads(stored), plan.description))
            raise StoreError(
                f"{path} holds another scan (in the file != asked for): {changes}. Use another file, or overwrite it"
            )
        return file

    def __enter__(self) -> ScanFile:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()

    def results(self) -> np.ndarray:
        """Codes of all points, int8, of the shape of the grid."""
        return np.asarray(self._file["result"])

    def write(self, slab: tuple[slice, ...], arrays: Mapping[str, np.ndarray], where: np.ndarray | None = None) -> None:
        """Write one block of points, `result` last.

        Parameters
        ----------
        slab : tuple of slice
            The block, one slice per axis.
        arrays : mapping of str to ndarray
            Values by variable, of the shape of the block followed by the shape of the quantity.
        where : ndarray of bool, optional
            Of the shape of the block: the points to write; the others keep what the file has.
        """
        for name in sorted(arrays, key=lambda name: name == "result"):
            if name == "result":
                self._file.flush()
            new, target = arrays[name], self._file[name]
            if where is not None:
                old = target[slab]
                old[where] = new[where]
                new = old
            target[slab] = new
        self._file.flush()


@dataclass(frozen=True)
class Status:
    """What a scan file holds, in short.

    Attributes
    ----------
    axes : dict of str to int
        Number of values by axis.
    counts : dict of Result to int
        Points by outcome; outcomes without points are left out.
    worst_residual, worst_error, worst_quadrature_error : float or None
        Largest over the converged points; None if there are none.
    simulation_points : int
    bytes : int
    """

    path: Path
    model: str
    title: str
    created: str
    method: dict[str, Any]
    axes: dict[str, int]
    counts: dict[Result, int]
    worst_residual: float | None
    worst_error: float | None
    worst_quadrature_error: float | None
    simulation_points: int
    bytes: int


def status(path: str | Path) -> Status:
    """Summary of a scan file; reads only, also while a scan is running.

    Raises
    ------
    StoreError
        If there is no such file, or it is not a readable scan file.
    """
    path = Path(path)
    with _open(path, "r") as file:
        result = file["result"][...]
        converged = result == Result.CONVERGED
        worst = {
            name: float(np.fmax.reduce(file[name][...][converged])) if converged.any() else None
            for name in ("residual", "error", "quadrature_error")
        }
        plan = json.loads(file.attrs["plan"])
        return Status(
            path=path,
            model=str(file.attrs["model"]),
            title=str(file.attrs["title"]),
            created=str(file.attrs["created"]),
            method=json.loads(file.attrs["method"]),
            axes={name: plan["grid"][name]["size"] for name in plan["axes"]},
            counts={code: n for code in Result if (n := int(np.count_nonzero(result == code)))},
            worst_residual=worst["residual"],
            worst_error=worst["error"],
            worst_quadrature_error=worst["quadrature_error"],
            simulation_points=len(file[SIMULATION]["point"]) if SIMULATION in file else 0,
            bytes=path.stat().st_size,
        )


def check(path: str | Path) -> None:
    """Raise StoreError, in one line, unless `path` is a readable scan file."""
    _open(Path(path), "r").close()


def read(path: str | Path, names: Sequence[str]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Attributes and some variables of a scan file.

    Raises
    ------
    StoreError
        If there is no such file, it is not a readable scan file, or a variable is missing.
    """
    with _open(Path(path), "r") as file:
        for name in names:
            if name not in file:
                raise StoreError(f"{path} has no variable {name}; it was written by another command")
        return dict(file.attrs), {name: np.asarray(file[name]) for name in names}


def has_group(path: str | Path, name: str) -> bool:
    """Whether the scan file has a group of this name."""
    with _open(Path(path), "r") as file:
        return name in file


@contextmanager
def edited_copy(path: str | Path) -> Iterator[h5py.File]:
    """A copy of a scan file, open for changes, that replaces the file if all goes well.

    For whatever adds to the layout of a file: the scan itself is never at risk.

    Raises
    ------
    StoreError
        If it is not a scan file, or a scan is running.
    """
    path = Path(path)
    _check_writable(path)
    # The original stays open, and so locked, while its copy is made.
    with _open(path, "r+"), _replacing(path) as temporary:
        shutil.copyfile(path, temporary)
        with h5py.File(temporary, "r+") as file:
            yield file


@contextmanager
def new_file(path: str | Path, plan: Plan, overwrite: bool = False) -> Iterator[h5py.File]:
    """A file with the attributes of a plan, open for writing, that appears under its name when it is complete.

    Raises
    ------
    StoreError
        If there is a file, and it may not be overwritten or is not a scan file; or it cannot be written.
    """
    path = Path(path)
    _check_writable(path)
    if path.exists():
        if not overwrite:
            raise StoreError(f"{path} exists; use another file, or overwrite it")
        _check_replaceable(path)
    with _replacing(path, fresh=not overwrite) as temporary, h5py.File(temporary, "w", track_order=True) as file:
        file.attrs.update(_root_attributes(plan))
        yield file


def add_axes(group: h5py.Group, plan: Plan) -> None:
    """Add the coordinates of a plan's grid, and its fixed parameters."""
    for name, values in plan.grid.axes.items():
        q = plan.problem.parameter(name)
        add_dimension(group, name, values, described(q.long_name, q.latex, q.units))
    for name, value in plan.fixed.items():
        q = plan.problem.parameter(name)
        add_variable(group, name, np.array(value), (), described(q.long_name, q.latex, q.units))


def add_variable(
    group: h5py.Group, name: str, values: np.ndarray, scales: Sequence[h5py.Dataset], attributes: Mapping[str, Any]
) -> None:
    """Add a variable to a group; its dimensions are those of `scales`."""
    data = group.create_dataset(name, data=values)
    data.attrs.update(attributes)
    for axis, scale in enumerate(scales):
        data.dims[axis].attach_scale(scale)


def add_dimension(group: h5py.Group, name: str, values: np.ndarray, attributes: Mapping[str, str]) -> None:
    """Add a dimension with its coordinates to a group."""
    add_variable(group, name, values, (), attributes)
    group[name].make_scale(name)


def described(long_name: str, latex: str = "", units: str = "1") -> dict[str, Any]:
    """Attributes of a variable."""
    return {"long_name": long_name, "units": units, **({"latex": latex} if latex else {})}


def flags(meanings: Sequence[str], values: Iterable[int]) -> dict[str, Any]:
    """Attributes of a variable of codes."""
    return {"flag_values": np.array(list(values), dtype="i1"), "flag_meanings": " ".join(meanings)}


def _root_attributes(plan: Plan) -> dict[str, str | int]:
    return {
        "Conventions": "CF-1.11",
        **plan.attributes(),
        "versions": json.dumps(_versions()),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "layout_version": LAYOUT_VERSION,
    }


def _allocate(path: Path, plan: Plan, block: tuple[int, ...]) -> None:
    """Write a complete file without results: all coordinates, attributes and, filled, all variables."""
    problem, grid = plan.problem, plan.grid
    quantities = problem.values.quantities
    lengths = index_dimensions(quantities)
    names = [*grid.names, *plan.fixed, *lengths, *DIAGNOSTICS, *(q.name for q in quantities), SIMULATION]
    for name in names:
        if names.count(name) > 1:
            raise StoreError(f"{problem.name}: the name {name} is needed twice in a scan file; rename it in the model")
    with h5py.File(path, "w", track_order=True) as file:
        file.attrs.update(_root_attributes(plan))
        add_axes(file, plan)
        for name, length in lengths.items():
            add_dimension(file, name, np.arange(length), described(f"index {name}"))
        for q in quantities:
            data = _filled(
                file, q.name, "f8", np.nan, grid.shape + q.shape, block + q.shape, grid.names + index_names(q)
            )
            data.attrs.update(described(q.long_name, q.latex, q.units))
        for name, (dtype, fill, long_name) in DIAGNOSTICS.items():
            data = _filled(file, name, dtype, fill, grid.shape, block, grid.names)
            data.attrs.update(described(long_name))
        file["result"].attrs.update(flags([code.name.lower() for code in Result], [code.value for code in Result]))


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in ("numpy", "numba", "h5py", "replica-solvers"):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:  # run from a source tree that is not installed
            versions[package] = "not installed"
    return versions


def index_names(q: Quantity) -> tuple[str, ...]:
    """Names of the index dimensions; xarray wants those of a matrix over one index twice to differ."""
    return tuple(f"{name}_other" if name in q.dims[:i] else name for i, name in enumerate(q.dims))


def index_dimensions(quantities: Sequence[Quantity]) -> dict[str, int]:
    """Lengths of the index dimensions, by name."""
    lengths: dict[str, int] = {}
    for q in quantities:
        for name, length in zip(index_names(q), q.shape, strict=True):
            if lengths.setdefault(name, length) != length:
                raise StoreError(f"index {name} of {q.name} has length {length}, elsewhere {lengths[name]}")
    return lengths


def _filled(
    file: h5py.File,
    name: str,
    dtype: str,
    fill: float,
    shape: tuple[int, ...],
    chunks: tuple[int, ...],
    dims: tuple[str, ...],
) -> h5py.Dataset:
    # Allocated and filled now, by HDF5 itself.  No _FillValue attribute: xarray would decode integers to float.
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    creation.set_fill_time(h5py.h5d.FILL_TIME_ALLOC)
    data = file.create_dataset(name, shape, dtype, fillvalue=fill, chunks=chunks, dcpl=creation)
    for axis, dim in enumerate(dims):
        data.dims[axis].attach_scale(file[dim])
    return data


def _open(path: Path, mode: str) -> h5py.File:
    """Open a scan file, or say in one line why not."""
    if not path.exists():
        raise StoreError(f"{path} does not exist")
    if path.is_dir():
        raise StoreError(f"{path} is a directory, not a scan file")
    if not os.access(path, os.R_OK if mode == "r" else os.R_OK | os.W_OK):
        raise StoreError(f"no permission to {'read' if mode == 'r' else 'write'} {path}")
    if not h5py.is_hdf5(path):
        raise StoreError(f"{path} is not an HDF5 file, so not a scan file (or its beginning is lost); use another path")
    try:
        # Readers take no lock: after its creation the layout of a file never changes, so a running scan can be read.
        file = h5py.File(path, mode, locking=False if mode == "r" else "best-effort")
    except OSError as error:
        raise StoreError(_reason(path, error)) from error
    version = file.attrs.get("layout_version")
    if version == LAYOUT_VERSION:
        return file
    file.close()
    if version is None:
        raise StoreError(f"{path} is an HDF5 file, but not a scan file; use another path")
    raise StoreError(f"{path} has file layout {version}, this version reads {LAYOUT_VERSION}; use the version it names")


def _reason(path: Path, error: OSError) -> str:
    text = str(error)
    if "truncated" in text:
        return f"{path} is truncated (an incomplete copy, perhaps); copy it again, or overwrite it with a new scan"
    if "already open" in text or "locking flag" in text:
        return f"{path} is open elsewhere in this program; close it there first"
    if error.errno in (errno.EAGAIN, errno.EACCES) or "lock" in text:
        return f"{path} is being written by another process; wait for it, or write to another file"
    return f"{path} is a damaged HDF5 file ({text.splitlines()[0]}); restore it, or overwrite it with a new scan"


def _check_writable(path: Path) -> None:
    folder = path.parent
    if not folder.is_dir():
        why = (
            "is a file, not a directory; choose another path" if folder.exists() else "does not exist; create it first"
        )
        raise StoreError(f"cannot write {path}: {folder} {why}")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise StoreError(f"cannot write {path}: no permission to write in the directory {folder}; choose another path")


def _check_replaceable(path: Path) -> None:
    """Overwriting is for scan files, also damaged ones; anything else was named by mistake."""
    if path.is_file() and h5py.is_hdf5(path):
        try:
            h5py.File(path, "r", locking=False).close()
        except OSError:
            return
    _open(path, "r+").close()


@contextmanager
def _replacing(path: Path, fresh: bool = False) -> Iterator[Path]:
    """A temporary file beside `path` that becomes `path` if all goes well; `fresh`: unless one appeared meanwhile."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        if not (fresh and path.exists()):
            os.replace(temporary, path)
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror or error}; is the disk full?") from error
    finally:
        temporary.unlink(missing_ok=True)
