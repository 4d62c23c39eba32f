"""Plots of scan files: curves, with simulations if there are any, and phase diagrams.

Takes datasets (`results.open_results`), never models.  What is not a solution is not drawn as one: points without a
converged result are left out, marked, and counted in the legend.  Besides `panels`, nothing imports matplotlib.

Colours are those of Okabe and Ito, which remain distinct to colour-blind readers.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.mathtext import MathTextParser

SUFFIXES = (".png", ".svg", ".pdf")
OKABE_ITO = ("#000000", "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442")
MOST_LINES = 12
NO_SOLUTION = "0.8"  # a grey, which viridis does not have
SAME = 1e-9  # relative distance below which two values of a parameter are the same

Dataset = Any  # xarray's, which only `results` imports
Select = Mapping[str, float]


class PlotError(ValueError):
    """A plot that cannot be made; the message is one line and names the choices there are."""


def plot_curve(
    dataset: Dataset,
    x: str,
    y: str,
    hue: str | None = None,
    *,
    output: str | Path,
    select: Select | None = None,
    simulation: Dataset | None = None,
    title: str | None = None,
) -> Path:
    """Draw one quantity against one axis, one line per value of another.

    Parameters
    ----------
    dataset : xarray.Dataset
        From `results.open_results`.
    x, y : str
        An axis of the grid, and the quantity to draw.
    hue : str, optional
        Axis with one line per value.  If it is not given and only one other axis is left, with at most 8 values,
        it is that one.
    output : path-like
        A .png, .svg or .pdf file.
    select : mapping of str to float, optional
        Value of every other axis or index; axes with one value need none.
    simulation : xarray.Dataset, optional
        From `results.open_simulation`; its points at the drawn parameters become dots with standard errors.
    title : str, optional
        In place of the title of the dataset.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    PlotError
        If a name or value does not exist, an axis still needs a choice, or the file cannot be written.
    """
    output = checked_output(output)
    values, result, chosen = _slice(dataset, y, [x] if hue is None else [x, hue], select or {})
    others = [dim for dim in values.dims if dim not in (x, hue)]
    if hue is None and len(others) == 1 and dataset.sizes[others[0]] <= len(OKABE_ITO):
        hue = others.pop()
    _all_chosen(dataset, others)
    hues: list[Any] = [None] if hue is None else list(dataset[hue].values)
    if len(hues) > MOST_LINES:
        raise PlotError(f"{hue} has {len(hues)} values, more than {MOST_LINES} lines; select one, or draw a heatmap")

    figure, (axes,) = _figure(dataset, title, chosen)
    gaps: Counter[str] = Counter()
    handles = []
    dots = 0
    for row, (value, colour) in enumerate(zip(hues, _colours(len(hues)), strict=True)):
        at: dict[str, float] = {} if hue is None else {hue: value}
        line = _Line.of(values.sel(at), result.sel(at) if hue in result.dims else result, x)
        line.draw(axes, colour, row)
        if hue is not None:
            handles.append(Line2D([], [], color=colour, label=f"{_symbol(dataset[hue])} = {value:g}"))
        gaps += line.gaps
        if simulation is not None and y in simulation:
            dots += _draw_simulation(axes, simulation, x, y, {**chosen, **at}, colour)
    _scale(axes.set_xscale, dataset[x].values)
    axes.set_xlabel(_label(dataset[x]))
    axes.set_ylabel(_label(dataset[y]))
    if dots and simulation is not None:
        # where the dimension is a parameter of the model, the size of an experiment is something else
        size = "size" if {"d", "D"} & set(map(str, dataset.variables)) else "d"
        many = "size" in simulation.dims
        sizes = ", ".join(f"{d}" for d in simulation["size"].values) if many else simulation.attrs["size"]
        how = ", extrapolated" if many else ""
        about = f"simulation, {size} = {sizes}{how}, {simulation.attrs['repeats']} repeats, ± sem"
        handles.append(Line2D([], [], color="0.4", marker="o", markersize=4, linestyle="none", label=about))
    if gaps:
        handles.append(Line2D([], [], color="0.4", marker="x", markersize=6, linestyle="none", label=_gap_text(gaps)))
    if handles:
        axes.legend(handles=handles, fontsize="small", frameon=False)
    return save(figure, output)


def plot_heatmap(
    dataset: Dataset,
    x: str,
    y: str,
    z: str,
    output: str | Path,
    *,
    select: Select | None = None,
    title: str | None = None,
) -> Path:
    """Draw one quantity over two axes as colours: a phase diagram.

    Points without a converged result are grey.  Colours are logarithmic where positive values span more than two decades.

    Parameters
    ----------
    dataset : xarray.Dataset
        From `results.open_results`.
    x, y, z : str
        Two axes of the grid, and the quantity that gives the colour.
    output, select, title
        As for `plot_curve`.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    PlotError
        If a name or value does not exist, an axis still needs a choice, or the file cannot be written.
    """
    output = checked_output(output)
    if x == y:
        raise PlotError(f"a heatmap needs two different axes, not {x} twice")
    values, result, chosen = _slice(dataset, z, [x, y], select or {})
    _all_chosen(dataset, [dim for dim in values.dims if dim not in (x, y)])

    values, result = (array.sortby([x, y]).transpose(y, x) for array in (values, result))
    colour = values.values.astype(float)
    gaps = _gaps(result.values, colour, dataset.result.attrs)
    colour = np.where(result.values == 0, colour, np.nan)
    finite = {name: np.isfinite(values[name].values) for name in (x, y)}
    gaps.update({f"at infinite {name}": int((~inside).sum()) for name, inside in finite.items() if not inside.all()})
    colour = colour[np.ix_(finite[y], finite[x])]

    figure, (axes,) = _figure(dataset, title, chosen)
    axes.set_facecolor(NO_SOLUTION)
    edges = [_edges(values[name].values[finite[name]]) for name in (x, y)]
    # Cells as one image in vector files: hairlines between a million rectangles show, and take megabytes.
    mesh = axes.pcolormesh(
        *edges, np.ma.masked_invalid(colour), cmap="viridis", norm="log" if _decades(colour) > 2 else "linear", rasterized=True
    )
    _scale(axes.set_xscale, values[x].values)
    _scale(axes.set_yscale, values[y].values)
    axes.set_xlabel(_label(dataset[x]))
    axes.set_ylabel(_label(dataset[y]))
    figure.colorbar(mesh, ax=axes, label=_label(dataset[z]))
    if gaps:
        handle = Line2D([], [], color=NO_SOLUTION, marker="s", markersize=8, linestyle="none", label=_gap_text(gaps))
        figure.legend(handles=[handle], loc="outside lower left", fontsize="small", frameon=False)
    return save(figure, output)


@dataclass(frozen=True)
class _Line:
    """One line: sorted coordinates, values with nan where there is no solution, and why there is none."""

    x: np.ndarray
    y: np.ndarray
    missing: np.ndarray
    gaps: Counter[str]

    @classmethod
    def of(cls, values: Any, result: Any, x: str) -> _Line:
        order = np.argsort(values[x].values)
        coordinate, value, code = (a.values[order] for a in (values[x], values, result))
        gaps = _gaps(code, value, result.attrs)
        finite = np.isfinite(coordinate)
        if not finite.all():
            gaps[f"at infinite {x}"] += int((~finite).sum())
        missing = (code != 0) | ~np.isfinite(value)
        return cls(coordinate[finite], np.where(missing, np.nan, value)[finite], missing[finite], gaps)

    def draw(self, axes: Axes, colour: Any, row: int) -> None:
        shown = np.concatenate([[False], ~self.missing, [False]])
        # A converged point between two gaps would be a line of no length.
        alone = np.flatnonzero(shown[1:-1] & ~shown[:-2] & ~shown[2:])
        axes.plot(self.x, self.y, color=colour, marker=".", markevery=alone.tolist())
        # At the foot of the plot, one row per line: without a solution there is no height to put them at.
        foot = np.full(int(self.missing.sum()), 0.02 + 0.03 * row)
        axes.plot(
            self.x[self.missing],
            foot,
            color=colour,
            marker="x",
            markersize=5,
            linestyle="none",
            transform=axes.get_xaxis_transform(),
        )


def _draw_simulation(axes: Axes, simulation: Dataset, x: str, y: str, at: Mapping[str, float], colour: Any) -> int:
    """Dots at the simulated points with these parameters; returns how many."""
    index = {name: int(value) for name, value in at.items() if name in simulation[y].dims}
    here = np.ones(simulation.sizes["point"], dtype=bool)
    for name, value in at.items():
        if name not in index:
            here &= np.isclose(simulation[name].values, value, rtol=SAME, atol=0)
    here &= np.isfinite(simulation[x].values)
    mean, sem = (simulation[name].isel(index).values[here] for name in (y, f"{y}_sem"))
    axes.errorbar(simulation[x].values[here], mean, sem, color=colour, fmt="o", markersize=4, capsize=2, linewidth=1)
    return int(here.sum())


def _slice(dataset: Dataset, name: str, keep: list[str], select: Select) -> tuple[Any, Any, dict[str, float]]:
    """The quantity and the result code at the selected values, and the values of all axes that are no longer there."""
    known = [str(key) for key, variable in dataset.items() if set(variable.dims) >= set(dataset.result.dims)]
    if name not in known:
        raise PlotError(f"unknown variable {name!r}; the file has {', '.join(known)}")
    values, result = dataset[name], dataset.result
    for axis in (*keep, *select):
        if axis not in values.dims:
            raise PlotError(f"{axis!r} is not an axis of {name}; its axes are {', '.join(values.dims)}")
    for axis in keep:
        if axis in select:
            raise PlotError(f"{axis} is drawn, so no value of it can be selected")
    if len(set(keep)) < len(keep):
        raise PlotError(f"{keep[0]} cannot be drawn twice")
    chosen = {}
    for axis in values.dims:
        if axis in keep or (axis not in select and dataset.sizes[axis] > 1):
            continue
        coordinate = dataset[axis].values
        position = _position(axis, coordinate, select.get(axis, coordinate[0]))
        chosen[str(axis)] = coordinate[position]
        values = values.isel({axis: position})
        result = result.isel({axis: position}, missing_dims="ignore")
    return values, result, chosen


def _position(axis: str, coordinate: np.ndarray, value: float) -> int:
    match = np.flatnonzero(np.isclose(coordinate, value, rtol=SAME, atol=0))
    if match.size == 0:  # the digits that messages and figures show are enough, if they are those of one value
        match = np.flatnonzero([f"{known:g}" == f"{value:g}" for known in coordinate])
    if match.size == 0 or len({coordinate[i] for i in match}) > 1:
        raise PlotError(f"{axis} = {value:g} is not in the file; {_values_text(axis, coordinate)}")
    return int(match[0])


def _all_chosen(dataset: Dataset, others: list[str]) -> None:
    if others:
        wanted = " ".join(f"--select {name}={dataset[name].values[0]:g}" for name in others)
        values = "; ".join(_values_text(name, dataset[name].values) for name in others)
        raise PlotError(f"choose a value of {' and '.join(others)}, for instance {wanted} (Python: select={{...}}); {values}")


def _values_text(axis: str, values: np.ndarray) -> str:
    texts = [f"{value:g}" for value in values]
    if len(texts) > 12:
        texts = [*texts[:5], "...", *texts[-5:]]
    return f"{axis} has {', '.join(texts)}"


def _gaps(codes: np.ndarray, values: np.ndarray, flags: Mapping[str, Any]) -> Counter[str]:
    """How many points have no solution to show, by reason; `flags` are the attributes of the codes."""
    meanings = dict(zip(flags["flag_values"], flags["flag_meanings"].split(), strict=True))
    gaps = Counter(meanings[code].replace("_", " ") for code in codes[codes != 0])
    if infinite := int(np.count_nonzero((codes == 0) & ~np.isfinite(values))):
        gaps["value not finite"] = infinite
    return gaps


def _gap_text(gaps: Counter[str]) -> str:
    return "not shown: " + ", ".join(f"{count} {reason}" for reason, count in gaps.most_common())


def _decades(values: np.ndarray) -> float:
    """Decades that positive values span; 0 if some are not positive."""
    finite = values[np.isfinite(values)]
    return float(np.log10(finite.max() / finite.min())) if finite.size and finite.min() > 0 else 0.0


def _log_spaced(values: np.ndarray) -> bool:
    """Whether the finite values span a decade, and are more even by ratio than by difference."""
    values = np.sort(values[np.isfinite(values)])
    if len(values) < 3 or values[0] <= 0 or values[-1] < 10 * values[0]:
        return False
    ratios, steps = np.diff(np.log(values)), np.diff(values)
    return bool(ratios.std() / ratios.mean() < steps.std() / steps.mean())


def handle(label: str, **style: Any) -> Line2D:
    """An entry of a legend."""
    return Line2D([], [], label=label, **style)


def _scale(set_scale: Any, values: np.ndarray) -> None:
    set_scale("log" if _log_spaced(values) else "linear")


def _edges(values: np.ndarray) -> np.ndarray:
    """Borders of cells around sorted values, half way between them on the scale they are drawn on."""
    if len(values) == 1:
        return np.array([values[0] - 0.5, values[0] + 0.5])
    log = _log_spaced(values)
    v = np.log(values) if log else values
    middle = (v[1:] + v[:-1]) / 2
    edges = np.concatenate([[2 * v[0] - middle[0]], middle, [2 * v[-1] - middle[-1]]])
    return np.exp(edges) if log else edges


def _colours(number: int) -> list[Any]:
    if number <= len(OKABE_ITO):
        return list(OKABE_ITO[:number])
    return list(colormaps["viridis"](np.linspace(0, 0.9, number)))


def _symbol(variable: Any) -> str:
    """The symbol of a variable if matplotlib can set it, else its name."""
    text = f"${variable.attrs.get('latex') or ''}$"
    if text == "$$":
        return str(variable.name)
    try:
        MathTextParser("path").parse(text)
    except ValueError:
        return str(variable.name)
    return text


def _label(variable: Any) -> str:
    units = variable.attrs["units"]
    return f"{variable.attrs['long_name']}  {_symbol(variable)}" + ("" if units == "1" else f"  [{units}]")


def _figure(dataset: Dataset, title: str | None, chosen: Mapping[str, float], panels: int = 1) -> tuple[Figure, list[Axes]]:
    """A figure headed by its title, by every parameter that is not drawn, and by the options of the model."""
    figure = Figure(figsize=(6.4 if panels == 1 else 4.6 * panels, 4.6), dpi=150, layout="constrained")
    axes = list(np.atleast_1d(figure.subplots(1, panels)))
    fixed = {name: variable.item() for name, variable in dataset.items() if variable.ndim == 0}
    texts = [f"{_symbol(dataset[name])} = {value:g}" for name, value in {**chosen, **fixed}.items()]
    lines = [", ".join(texts[i : i + 7]) for i in range(0, len(texts), 7)]
    options = [f"{name} {value}" for name, value in json.loads(dataset.attrs.get("options", "{}")).items()]
    lines += [", ".join(options[i : i + 5]).replace("$", r"\$") for i in range(0, len(options), 5)]
    figure.suptitle(dataset.attrs["title"] if title is None else title, fontsize="medium")
    axes[panels // 2].set_title("\n".join(lines), fontsize="x-small", color="0.3")
    return figure, axes


def checked_output(output: str | Path) -> Path:
    output = Path(output)
    if output.suffix.lower() not in SUFFIXES:
        raise PlotError(f"cannot write {output}: its suffix must be one of {', '.join(SUFFIXES)}")
    if not output.parent.is_dir():
        raise PlotError(f"cannot write {output}: there is no directory {output.parent}; create it first")
    return output


def save(figure: Figure, output: Path) -> Path:
    try:
        figure.savefig(output)
    except OSError as error:
        raise PlotError(f"cannot write {output}: {error.strerror or error}") from error
    return output
