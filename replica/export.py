"""A scan file as one page of HTML for sharing: everything is in it, and it loads nothing.

Curves with simulations beside them, a heat map where there are two axes, and where the numbers come from.  Files come from
strangers: whatever text they hold is escaped, and the page forbids the browser to fetch anything.
"""

from __future__ import annotations

import html
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from bokeh.document import Document
from bokeh.embed import file_html
from bokeh.events import DocumentReady
from bokeh.layouts import column, row
from bokeh.models import (
    ColorBar,
    ColumnDataSource,
    CustomJS,
    HoverTool,
    Legend,
    LegendItem,
    LinearColorMapper,
    LinearScale,
    PlainText,
    Range1d,
    Select,
)
from bokeh.plotting import figure
from bokeh.resources import INLINE

from solvers import Result

from .plotting import OKABE_ITO, Dataset, _edges, _log_spaced
from .results import open_results, open_simulation

SUFFIXES = (".html", ".htm")
#: Numbers that a page holds at most: a browser has to read them all.
MOST_NUMBERS = 4_000_000
#: Variables of a scan file that are codes and counts.
BOOKKEEPING = ("result", "rung", "violated", "steps", "nodes")

#: What the page does when something is chosen.  Chosen are positions; texts of the file are only shown.
REDRAW = """
const h = Number(hue.value), c = y.value, value = values.get_column("c" + c), code = values.get_column("code")
const place = index => index.reduce((k, i, axis) => k * sizes[axis] + i, 0)
const at = others.map(select => Number(select.value))
const picks = h < 0 ? [-1] : shown[h]
others.forEach((select, i) => { select.disabled = i == h })
lines.forEach((line, j) => {
  const index = at.slice()
  if (h >= 0) index[h] = picks[j]
  const x = [], v = [], missing = []
  const dots = {x: [], y: [], low: [], high: []}
  if (j < picks.length) {
    xs.forEach((a, i) => {
      if (!isFinite(a)) return
      const k = place([i, ...index])
      x.push(a)
      v.push(value[k])
      if (code[k] != 0) missing.push(a)
    })
    const mean = simulated.get_column("m" + c), sem = simulated.get_column("s" + c)
    const same = (a, b) => a == b || Math.abs(a - b) <= 1e-9 * Math.abs(b)
    if (mean) mean.forEach((m, p) => {
      if (!index.every((i, axis) => same(simulated.get_column("a" + axis)[p], coordinates[axis][i]))) return
      dots.x.push(simulated.get_column("x")[p])
      dots.y.push(m)
      dots.low.push(m - sem[p])
      dots.high.push(m + sem[p])
    })
  }
  line.data = {x, y: v}
  crosses[j].data = {x: missing, foot: missing.map(() => 0.02 + 0.025 * j)}
  points[j].data = dots
  items[j].visible = h >= 0 && j < picks.length
  if (h >= 0 && j < picks.length) items[j].label = {value: `${names[h]} = ${others[h].options[picks[j]][1]}`}
})
maps.forEach((map, i) => {
  map.figure.visible = i == h
  if (i != h) return
  const v = []
  let low = Infinity, high = -Infinity
  map.cells.forEach(([ix, ih]) => {
    const index = at.slice()
    index[h] = ih
    const one = value[place([ix, ...index])]
    v.push(one)
    if (isFinite(one)) { low = Math.min(low, one); high = Math.max(high, one) }
  })
  map.colours.low = low
  map.colours.high = high
  map.source.data = {...map.box, value: v}
})
"""

TEMPLATE = """
{% block preamble %}
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; img-src data: blob:">
<style>
body { font-family: sans-serif; margin: 1em; height: auto } h1 { font-size: 1.3em }
th { text-align: left; vertical-align: top; padding-right: 1em } pre { white-space: pre-wrap; margin: 0 }
</style>
{% endblock %}
{% block contents %}
<h1>{{ title | e }}</h1>
{{ super() }}
{{ about }}
{% endblock %}
"""


class ExportError(ValueError):
    """The page cannot be written; one line."""


def export_page(
    path: str | Path, output: str | Path, *, x: str | None = None, title: str | None = None, overwrite: bool = False
) -> Path:
    """Write a page that holds a scan.

    Parameters
    ----------
    path : path-like
        A scan file, complete or not.
    output : path-like
        An .html file.
    x : str, optional
        Axis along x; the longest one if left out.
    title : str, optional
        In place of the title of the file.
    overwrite : bool
        Replace a page that exists.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    ExportError
        If there is a page, a name does not exist, or the file holds no grid.
    StoreError
        If it is not a readable scan file.
    """
    output = Path(output)
    if output.suffix.lower() not in SUFFIXES:
        raise ExportError(f"cannot write {output}: its suffix must be one of {', '.join(SUFFIXES)}")
    if output.exists() and not overwrite:
        raise ExportError(f"{output} exists; choose another name, or --overwrite to replace it")
    with open_results(path) as data:
        axes = _axes(data, x, str(path))
        heading = title if title is not None else str(data.attrs.get("title", Path(path).name))
        simulation = open_simulation(path)
        document = _document(data, axes, simulation, str(path))
        text = file_html(
            document, INLINE, title=_plain(heading), template=TEMPLATE,
            template_variables={"about": _about(data, axes, simulation)}, suppress_callback_warning=True,
        )  # fmt: skip
        if simulation is not None:
            simulation.close()
    try:
        with output.open("w" if overwrite else "x", encoding="utf-8") as page:
            page.write(text)
    except OSError as error:
        raise ExportError(f"cannot write {output}: {error.strerror or error}") from error
    return output


def _axes(data: Dataset, x: str | None, path: str) -> list[str]:
    """Axes of the grid, the one along x first."""
    axes = [str(name) for name in data.result.dims]
    if not axes or any(name not in data.coords for name in axes):
        raise ExportError(f"{path} holds no grid of a scan; draw it with replica plot")
    if x is not None and x not in axes:
        raise ExportError(f"{x!r} is not an axis of {path}; its axes are {', '.join(axes)}")
    first = x or max(axes, key=lambda name: data.sizes[name])
    return [first, *(name for name in axes if name != first)]


def _document(data: Dataset, axes: list[str], simulation: Dataset | None, path: str) -> Document:
    """The controls and figures, with all data behind them."""
    others = axes[1:]
    columns = _columns(data, axes)
    numbers = data.result.size * len(columns)
    if numbers > MOST_NUMBERS:
        raise ExportError(f"{path} holds {numbers} numbers, more than the {MOST_NUMBERS} that fit a page; scan a coarser grid")
    result = data.result.transpose(*axes).values
    values = ColumnDataSource({
        "code": result.ravel().astype(float),
        **{f"c{i}": np.where(result == Result.CONVERGED, v, np.nan).ravel() for i, v in enumerate(columns.values())},
    })  # fmt: skip
    xs = data[axes[0]].values.astype(float)
    coordinates = [data[name].values.astype(float) for name in others]
    y = Select(title="curve", value=str(_first(list(columns))), width=330, name="y",
               options=[(str(i), _described(data, name)) for i, name in enumerate(columns)])  # fmt: skip
    hue = Select(title="colour", value="0" if others else "-1", width=150, name="hue",
                 options=[("-1", "none"), *((str(i), _plain(name)) for i, name in enumerate(others))])  # fmt: skip
    at = [
        Select(title=_plain(name), value="0", width=110, options=[(str(i), f"{v:g}") for i, v in enumerate(coordinate)])
        for name, coordinate in zip(others, coordinates, strict=True)
    ]
    curves = _curves(data, axes[0], xs)
    maps = [_heat(data, axes[0], name, xs, coordinate) for name, coordinate in zip(others, coordinates, strict=True)]
    redraw = CustomJS(code=REDRAW, args={
        "values": values, "y": y, "hue": hue, "others": at, "names": [_plain(name) for name in others],
        "xs": xs.tolist(), "coordinates": [c.tolist() for c in coordinates], "sizes": [len(xs), *map(len, coordinates)],
        "shown": [_spread(len(c)) for c in coordinates], "simulated": _simulated(simulation, axes, list(columns)),
        **{name: curves[name] for name in ("lines", "crosses", "points", "items")},
        "maps": maps,
    })  # fmt: skip
    for select in (y, hue, *at):
        select.js_on_change("value", redraw)
    figures = [curves["figure"], *(m["figure"] for m in maps)]
    document = Document()
    document.add_root(column(row(y, hue, *at), *figures))
    document.js_on_event(DocumentReady, redraw)
    return document


def _columns(data: Dataset, axes: Sequence[str]) -> dict[str, np.ndarray]:
    """Everything that can be drawn, by the name of its component, with the axes in order."""
    out = {}
    for key, variable in data.items():
        name = str(key)
        if name in BOOKKEEPING or not set(variable.dims) >= set(axes):
            continue
        array = variable.transpose(*axes, *(d for d in variable.dims if d not in axes)).values.astype(float)
        for index in np.ndindex(array.shape[len(axes) :]):
            out[name + (f"[{','.join(map(str, index))}]" if index else "")] = array[(..., *index)]
    return out


def _first(names: list[str]) -> int:
    """The curve of most interest."""
    return names.index("test_error") if "test_error" in names else 0


def _curves(data: Dataset, x: str, xs: np.ndarray) -> dict[str, Any]:
    """Lines, crosses at the foot, dots with error bars: as many as there may be colours, filled by the page."""
    plot = figure(x_axis_type="log" if _log_spaced(xs) else "linear", width=800, height=460,
                  tools="pan,wheel_zoom,box_zoom,reset,save", x_axis_label=_label(data, x))  # fmt: skip
    plot.extra_y_ranges, plot.extra_y_scales = {"foot": Range1d(0, 1)}, {"foot": LinearScale()}
    out: dict[str, Any] = {"figure": plot, "lines": [], "crosses": [], "points": [], "items": []}
    drawn = []
    for colour in OKABE_ITO:
        line = ColumnDataSource({"x": [], "y": []})
        cross = ColumnDataSource({"x": [], "foot": []})
        dots = ColumnDataSource({"x": [], "y": [], "low": [], "high": []})
        lines = plot.line("x", "y", source=line, color=colour, line_width=2)
        alone = plot.scatter("x", "y", source=line, color=colour, size=3)
        bars = plot.segment("x", "low", "x", "high", source=dots, color=colour)
        heads = plot.scatter("x", "y", source=dots, color=colour, size=7)
        plot.scatter("x", "foot", source=cross, marker="x", color=colour, size=8, y_range_name="foot")
        drawn += [lines, alone, bars, heads]
        out["items"].append(LegendItem(label={"value": ""}, renderers=[lines], visible=False))
        for kind, source in (("lines", line), ("crosses", cross), ("points", dots)):
            out[kind].append(source)
    plot.y_range.renderers = drawn
    plot.add_layout(Legend(items=out["items"]), "right")
    plot.add_tools(HoverTool(renderers=drawn, tooltips=[("x", "@x"), ("y", "@y{0.000000}")]))
    return out


def _heat(data: Dataset, x: str, y: str, xs: np.ndarray, ys: np.ndarray) -> dict[str, Any]:
    """A heat map over two axes, filled by the page; points without a solution are grey."""
    order_x, order_y = (np.argsort(v)[: np.isfinite(v).sum()] for v in (xs, ys))
    plot = figure(
        x_axis_type="log" if _log_spaced(xs) else "linear", y_axis_type="log" if _log_spaced(ys) else "linear", width=800,
        height=460, tools="pan,wheel_zoom,box_zoom,reset,save", x_axis_label=_label(data, x), y_axis_label=_label(data, y),
    )  # fmt: skip
    edges_x, edges_y = (_edges(v[order]) if len(order) else np.zeros(1) for v, order in ((xs, order_x), (ys, order_y)))
    cells = [(int(i), int(j)) for i in order_x for j in order_y]
    m = len(order_y)
    box = {
        "left": np.repeat(edges_x[:-1], m).tolist(), "right": np.repeat(edges_x[1:], m).tolist(),
        "bottom": np.tile(edges_y[:-1], len(order_x)).tolist(), "top": np.tile(edges_y[1:], len(order_x)).tolist(),
    }  # fmt: skip
    source = ColumnDataSource({**box, "value": [math.nan] * len(cells)})
    colours = LinearColorMapper(palette="Viridis256", nan_color="#cccccc")
    fill = {"field": "value", "transform": colours}
    plot.quad("left", "right", "bottom", "top", source=source, line_color=None, fill_color=fill)
    plot.add_layout(ColorBar(color_mapper=colours), "right")
    plot.add_tools(HoverTool(tooltips=[("value", "@value{0.000000}")]))
    return {"figure": plot, "source": source, "colours": colours, "cells": cells, "box": box}


def _simulated(simulation: Dataset | None, axes: Sequence[str], names: Sequence[str]) -> ColumnDataSource:
    """Simulated points: coordinates, and mean and standard error of every curve that was simulated."""
    if simulation is None:
        return ColumnDataSource()
    out = {"x": simulation[axes[0]].values.astype(float)}
    out |= {f"a{i}": simulation[name].values.astype(float) for i, name in enumerate(axes[1:])}
    for i, name in enumerate(names):
        if name in simulation and f"{name}_sem" in simulation and simulation[name].ndim == 1:
            out |= {f"m{i}": simulation[name].values, f"s{i}": simulation[f"{name}_sem"].values}
    return ColumnDataSource(out)


def _about(data: Dataset, axes: Sequence[str], simulation: Dataset | None) -> str:
    """The table of where the numbers come from, as HTML in which every text of the file is escaped."""
    codes, counts = np.unique(data.result.values, return_counts=True)
    known = {code.value: code for code in Result}
    given = ("model", "references", "claim", "regime")
    rows: list[tuple[str, Any]] = [(key, data.attrs[key]) for key in given if key in data.attrs]
    rows += [(f"option {name}", value) for name, value in _parsed(data.attrs.get("options")).items()]
    rows += [(f"axis {name}", f"{data.sizes[name]} values from {data[name].values.min():g} to {data[name].values.max():g}"
              f" ({data[name].attrs.get('long_name', '')})") for name in axes]  # fmt: skip
    rows += [(str(name), f"{v.item():g} ({v.attrs.get('long_name', '')})") for name, v in data.items()
             if v.ndim == 0 and v.dtype.kind == "f"]  # fmt: skip
    for code, count in zip(codes, counts, strict=True):
        name = known[int(code)].name if int(code) in known else f"result {int(code)}"
        rows.append((name, f"{count} points" + ("" if code == 0 else ", crosses at the foot of the curves, grey in the map")))
    if simulation is not None:
        about = ", ".join(f"{key} {simulation.attrs[key]}" for key in ("size", "repeats", "seed") if key in simulation.attrs)
        rows.append(("simulations", f"{simulation.sizes.get('point', 0)} points, {about}; dots with one standard error"))
    provenance = {"method": "method", "versions": "versions", "created": "created", "kernel": "kernel_digest",
                  "free entropy": "free_entropy"}  # fmt: skip
    rows += [(label, data.attrs.get(name, "")) for label, name in provenance.items()]
    rows.append(("equations", _lines(data.attrs.get("equations", ""))))
    cells = (f"<tr><th>{html.escape(str(k))}</th><td><pre>{html.escape(str(v))}</pre></td></tr>" for k, v in rows if v != "")
    return f"<table>{''.join(cells)}</table>"


def _parsed(text: Any) -> Mapping[str, Any]:
    try:
        found = json.loads(str(text))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _lines(text: Any) -> str:
    """A list in JSON, one entry per line; anything else as it is."""
    try:
        found = json.loads(str(text))
    except ValueError:
        return str(text)
    return "\n".join(map(str, found)) if isinstance(found, list) else str(text)


def _spread(count: int) -> list[int]:
    """Positions of the values that get a line: all, or so many evenly spread ones."""
    return np.unique(np.linspace(0, count - 1, min(count, len(OKABE_ITO))).round().astype(int)).tolist()


def _described(data: Dataset, component: str) -> str:
    meaning = data[component.split("[")[0]].attrs.get("long_name", "")
    return _plain(f"{component}: {meaning}" if meaning else component)


def _label(data: Dataset, name: str) -> PlainText:
    return PlainText(_described(data, name))


def _plain(text: str) -> str:
    """Text in which nothing is taken for mathematics, which a page would fetch a library for."""
    for opening in ("$$", r"\(", r"\["):
        text = text.replace(opening, opening[:-1] + " " + opening[-1])
    return text

