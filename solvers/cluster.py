"""A dask.distributed cluster as an executor.  Nothing outside this module imports distributed.

Blocks of points travel as data and arrays come back, so no disk is shared.  A block that a worker takes with it is given to
another worker by the scheduler.  Client, scheduler and workers unpickle what they get from each other: connect only to a
cluster that is yours.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

#: Seconds to wait for the scheduler, and for its first worker.
PATIENCE = 10, 60


class ClusterError(RuntimeError):
    """A cluster cannot be used; one line: what it is and what to try."""


#: What to say when the connection to the scheduler breaks.
LOST = "the scheduler is lost; what is finished is in the file: run again to go on"


@contextmanager
def _or_lost() -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError, TimeoutError):  # distributed has many ways to say so
        raise ClusterError(LOST) from None


class Cluster:
    """What a scan needs of a cluster: submit work, and how much at a time."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._executor = client.get_executor(pure=False)

    def submit(self, function: Callable[..., Any], /, *arguments: Any) -> Any:
        """A `concurrent.futures.Future` of ``function(*arguments)``, computed by a worker of the same versions as here."""
        with _or_lost():
            return self._executor.submit(_alike, fingerprint(), function, *arguments)

    @property
    def slots(self) -> int:
        """Threads of all workers, now; they may come and go."""
        with _or_lost():
            return max(1, sum(self._client.nthreads().values()))


@contextmanager
def connect(address: str) -> Iterator[Cluster]:
    """The cluster of a scheduler, such as ``tcp://node17:8786``.

    Raises
    ------
    ClusterError
        If dask.distributed is not installed, or no scheduler or no worker answers.
    """
    try:
        from distributed import Client
    except ImportError:
        raise ClusterError("a scheduler needs dask.distributed; install it with pip install 'replica-solvers[cluster]'") from None
    try:
        client = Client(address, timeout=PATIENCE[0], set_as_default=False)
    except (OSError, ValueError, TypeError, TimeoutError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ClusterError(f"no scheduler answers at {address!r} ({reason}); it looks like tcp://host:8786") from None
    with client:
        try:
            client.wait_for_workers(1, timeout=PATIENCE[1])
        except TimeoutError:
            raise ClusterError(f"the scheduler at {address} has no worker after {PATIENCE[1]} s; start workers first") from None
        yield Cluster(client)


@cache
def fingerprint() -> str:
    """Versions that the last bit of a number may depend on."""
    here = Path(__file__).parent
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(here.glob("*.py")))).hexdigest()[:12]
    versions = [f"{name} {metadata.version(name)}" for name in ("numpy", "scipy", "numba")]
    return ", ".join([f"python {platform.python_version()}", *versions, f"solvers {digest}"])


def _alike(wanted: str, function: Callable[..., Any], *arguments: Any) -> Any:
    if fingerprint() != wanted:
        raise ClusterError(f"a worker on {platform.node()} has {fingerprint()}, but here is {wanted}; install the same on both")
    return function(*arguments)
