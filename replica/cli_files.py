"""Files that commands write: by their suffix one knows what is in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

FILES, IMAGES = (".h5", ".hdf5", ".nc"), (".png", ".svg", ".pdf")


class Hdf5(click.Path):
    """The type of an option: a path to an HDF5 file."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Refuse other suffixes: a csv file with HDF5 in it helps nobody."""
        if Path(value).suffix.lower() not in FILES:
            raise click.UsageError(f"cannot write {value}: its suffix must be one of {', '.join(FILES)}", ctx)
        return super().convert(value, param, ctx)
