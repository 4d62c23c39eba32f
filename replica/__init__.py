"""Replica and state-evolution calculations, written once symbolically, as fast certified numbers."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("replica-solvers")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"
