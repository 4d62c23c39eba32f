"""Scan files: HDF5 in the netCDF-4 data model, written with h5py alone, so that xarray opens them.

One flat root group: each axis is a dimension scale, each order parameter, conjugate, observable and diagnostic a
variable over the axes, each fixed parameter a scalar.  Finite-size simulations live in the group ``simulation``.

A file survives the death of its writer: every array is allocated and filled in a temporary file that is then renamed,
a running scan writes raw data only, and the values of a point reach the file before the `result` that vouches for
them; a point that is computed again is pending meanwhile.  Loss of power is not covered.  Nothing outside this module
imports h5py.
"""

from __future__ import annotations

import errno
import glob
import json
import math
import os
import platform
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from .layout import DIAGNOSTICS, OF_SCANS, add_axes, add_dimension, described, flags
from .plan import Plan, differences
from .problem import Quantity
from .result import Result

LAYOUT_VERSION = 1
SIMULATION = "simulation"

class StoreError(RuntimeError):
    """A file cannot be read, written or resumed.  The message is one line: what it is and what to try."""


class ScanFile:
    """A scan file opened by its one writer; a context manager.

    Use `for_plan` to create or resume one.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        check(path)  # before HDF5 may repair, and so change, anything
        self._file = _opened(path, "r+")
        self._variables: dict[str, tuple[h5py.Dataset, tuple[int, ...], tuple[int, ...], np.dtype]] = {}
        for stale in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):  # of a process that was killed; the lock is ours
            stale.unlink(missing_ok=True)

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
            _check_space(path, plan)
            with _replacing(path, fresh=not overwrite) as temporary:
                _allocate(temporary, plan, block)
        file = cls(path)
        stored = str(file._file.attrs["plan"])
        if stored != plan.text:
            file.close()
            try:
                changes = "; ".join(differences(json.loads(stored), plan.description))
            except (LookupError, TypeError, ValueError, AttributeError) as error:
                raise damaged(path, error) from error
            raise StoreError(
                f"{path} holds another scan (in the file != asked for): {changes}. Use another file, or overwrite it"
            )
        return file

    def __enter__(self) -> ScanFile:
        return self

    def __exit__(self, *exception: object) -> None:
        try:
            self.close()
        except (OSError, RuntimeError):
            if exception[0] is None:  # what went wrong before says more
                raise

    def close(self) -> None:
        self._file.close()

    def results(self) -> np.ndarray:
        """Codes of all points, int8, of the shape of the grid."""
        return self.read("result")

    def read(self, name: str, part: tuple[slice, ...] = ()) -> np.ndarray:
        """Values of a variable, of all points or of some; a file from before there were rungs has 0 for all."""
        if name == "rung" and name not in self._file:
            return np.zeros_like(self.read("result", part))
        try:
            return np.asarray(self._file[name][part])
        except (OSError, RuntimeError) as error:
            raise damaged(self.path, error) from error

    def write(self, slab: tuple[slice, ...], arrays: Mapping[str, np.ndarray], where: np.ndarray | None = None) -> None:
        """Write one block of points, `result` last; points that had a result are pending meanwhile.

        Parameters
        ----------
        slab : tuple of slice
            The block, one slice per axis.
        arrays : mapping of str to ndarray
            Values by variable, of the shape of the block followed by the shape of the quantity.
        where : ndarray of bool, optional
            Of the shape of the block: the points to write; the others keep what the file has.

        Raises
        ------
        StoreError
            If the disk is full, say, or another process has replaced or removed the file.
        """
        self._check_in_place()
        try:
            result = self._variable("result")[0][slab]
            chosen = np.ones_like(result, dtype=bool) if where is None else where
            if (result[chosen] != Result.PENDING).any():
                self._put("result", slab, np.full_like(result, Result.PENDING), chosen)
            for name in arrays:
                if name != "result" and (name not in OF_SCANS or name in self._file):
                    self._put(name, slab, arrays[name], where)
            self._file.flush()
            if "result" in arrays:
                self._put("result", slab, arrays["result"], where)
        except (OSError, RuntimeError) as error:
            raise StoreError(
                f"cannot write {self.path}: {_first_line(error)}; is the disk full? What is in the file stays: "
                "run again to go on"
            ) from error

    def _put(self, name: str, slab: tuple[slice, ...], new: np.ndarray, where: np.ndarray | None) -> None:
        target, shape, chunks, dtype = self._variable(name)
        if where is not None:
            old = target[slab]
            old[where] = new[where]
            new = old
        start = tuple(part.start for part in slab) + (0,) * (new.ndim - len(slab))
        sizes = zip(start, new.shape, chunks, shape, strict=bool(chunks))
        if not chunks or not all(first % chunk == 0 and n == min(chunk, size - first) for first, n, chunk, size in sizes):
            target[slab] = new  # a file of another version, whose blocks were others
            return
        # One whole chunk, past the cache of HDF5: a write that fails there is tried again when the file is closed, and the
        # process dies of it.  It is also quicker than h5py's indexing.
        if new.shape != chunks:  # the last one of an axis
            whole = np.zeros(chunks, dtype=dtype)
            whole[tuple(map(slice, new.shape))] = new
            new = whole
        target.id.write_direct_chunk(start, np.ascontiguousarray(new, dtype=dtype))

    def _variable(self, name: str) -> tuple[h5py.Dataset, tuple[int, ...], tuple[int, ...], np.dtype]:
        """A variable, its shape, chunks and type: asking HDF5 for these takes longer than writing a block."""
        if name not in self._variables:
            found = self._file[name]
            self._variables[name] = found, found.shape, found.chunks or (), found.dtype
        return self._variables[name]

    def _check_in_place(self) -> None:
        here = os.fstat(self._file.id.get_vfd_handle())
        try:
            there = os.stat(self.path)
        except FileNotFoundError:
            there = None
        if there is None or (here.st_ino, here.st_dev) != (there.st_ino, there.st_dev):
            raise StoreError(f"{self.path} was replaced or removed while this scan was writing to it; run again")


@contextmanager
def opened(path: str | Path) -> Iterator[h5py.File]:
    """A scan file open for reading; what HDF5 and its contents say of damage becomes one line.

    Raises
    ------
    StoreError
        If there is no such file, or it is not a readable scan file.
    """
    path = Path(path)
    with _opened(path, "r") as file:
        try:
            yield file
        except StoreError:
            raise
        except (OSError, RuntimeError, LookupError, TypeError, ValueError) as error:
            raise damaged(path, error) from error


def check(path: str | Path) -> None:
    """Raise StoreError, in one line, unless `path` is a scan file whose every name, shape and attribute can be read."""

    def look(name: str, item: h5py.Group | h5py.Dataset) -> None:
        dict(item.attrs)
        if isinstance(item, h5py.Dataset):
            item[(slice(0, 1),) * item.ndim]

    with opened(path) as file:
        dict(file.attrs)
        file.visititems(look)
        json.loads(file.attrs["plan"])["axes"]
        result = file["result"]
        lengths = [len(scale) for dimension in result.dims for scale in dimension.values()]
        if result.shape != tuple(lengths):
            raise ValueError("the results do not fit the axes")


def damaged(path: Path, error: Exception) -> StoreError:
    """What to say of a file that cannot be read."""
    return StoreError(f"{path} is damaged ({_first_line(error)}); restore it, or overwrite it with a new scan")


def read(path: str | Path, names: Sequence[str]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Attributes and some variables of a scan file.

    Raises
    ------
    StoreError
        If there is no such file, it is not a readable scan file, or a variable is missing.
    """
    with opened(path) as file:
        for name in names:
            if name not in file:
                raise StoreError(f"{path} has no variable {name}; it was written by another command")
        return dict(file.attrs), {name: np.asarray(file[name]) for name in names}


def has_group(path: str | Path, name: str) -> bool:
    """Whether the scan file has a group of this name."""
    with opened(path) as file:
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
    with _opened(path, "r+"), _replacing(path) as temporary:
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
    diagnostics = {**DIAGNOSTICS, **OF_SCANS}
    names = [*grid.names, *plan.fixed, *lengths, *diagnostics, *(q.name for q in quantities), SIMULATION]
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
        for name, (dtype, fill, long_name) in diagnostics.items():
            data = _filled(file, name, dtype, fill, grid.shape, block, grid.names)
            data.attrs.update(described(long_name))
        file["result"].attrs.update(flags([code.name.lower() for code in Result], [code.value for code in Result]))
        file["rung"].attrs.update(flags([rung["name"] for rung in plan.rungs], range(len(plan.rungs))))
        file["violated"].attrs["limits"] = json.dumps(problem.limits)


def file_bytes(plan: Plan) -> int:
    """Size of the arrays of a plan's file; the file has some thousand bytes more."""
    values = sum(8 * math.prod(q.shape) for q in plan.problem.values.quantities)
    return plan.grid.size * (values + sum(np.dtype(d).itemsize for d, _, _ in (DIAGNOSTICS | OF_SCANS).values()))


def _check_space(path: Path, plan: Plan) -> None:
    needed, free = file_bytes(plan), shutil.disk_usage(path.parent).free
    if needed > free:
        raise StoreError(
            f"cannot write {path}: {plan.grid.size} points need {needed / 1e9:.3g} GB, and {free / 1e9:.3g} GB are free "
            f"in {path.parent}; use another disk, or a smaller grid"
        )


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


def _opened(path: Path, mode: str) -> h5py.File:
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
    try:
        version = file.attrs.get("layout_version")
    except (OSError, RuntimeError, LookupError, ValueError) as error:
        file.close()
        raise damaged(path, error) from error
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
    return str(damaged(path, error))


def _first_line(error: Exception) -> str:
    said = re.search("error message = '([^']*)'", str(error))  # what the system said, in the words of HDF5
    if said:
        return said[1]
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).splitlines()[0]


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
    _opened(path, "r+").close()


@contextmanager
def _replacing(path: Path, fresh: bool = False) -> Iterator[Path]:
    """A temporary file beside `path` that becomes `path` if all goes well; `fresh`: unless one appeared meanwhile."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        if fresh:
            _publish(temporary, path)
        else:
            os.replace(temporary, path)
    except (OSError, RuntimeError) as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError(f"cannot write {path}: {_first_line(error)}; is the disk full?") from error
    finally:
        temporary.unlink(missing_ok=True)


def _publish(temporary: Path, path: Path) -> None:
    """Give a file its name, unless another process has done so meanwhile."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        pass
    except OSError:  # a file system without links
        if not path.exists():
            os.replace(temporary, path)
