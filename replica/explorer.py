"""A local web page with a control per parameter and option, and the curves they lead to, solved while one looks.

The page is a Bokeh document.  Its widgets are the whole state: a change reads all of them into a `Sweep`, which is solved
outside the document, the newest first; what nobody waits for any more is dropped.  The server listens on the loopback
address only and refuses pages from elsewhere.  What the page sends is text and numbers, checked by the model as on the
command line; nothing of it is evaluated.  Only this module and `export` import bokeh.
"""

from __future__ import annotations

import asyncio
import html
import logging
import math
import socket
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol

import numpy as np
from bokeh.application import Application
from bokeh.application.handlers.function import FunctionHandler
from bokeh.document import Document, without_document_lock
from bokeh.layouts import column, row
from bokeh.models import (
    AutocompleteInput,
    Checkbox,
    ColumnDataSource,
    CustomJSTickFormatter,
    Div,
    HoverTool,
    LinearScale,
    MultiChoice,
    Range1d,
    Select,
    Slider,
    Spinner,
    TextInput,
)
from bokeh.plotting import figure
from bokeh.server.server import Server

from solvers import Result
from solvers.problem import Problem, Quantity

from .activations import NAMED as ACTIVATIONS
from .model import ChoiceOption, FunctionOption, LossOption, Option, WholeOption
from .models import MODELS
from .sweep import Curve, Span, Superseded, Sweep, observables, refitted

LOOPBACK = "127.0.0.1"
#: Colours of Okabe and Ito, which remain distinct to colour-blind readers.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
#: Pixels of a control, and letters that fit above it.
WIDTH, LETTERS = 370, 46
#: Seconds after which a curve says how far it is, and gives way to a newer one.
PATIENCE = 0.3
#: Bytes of the longest message that is taken from a page.
MESSAGE = 1_000_000

_log = logging.getLogger(__name__)


class ExploreError(RuntimeError):
    """The page cannot be served; one line."""


class Runner(Protocol):
    """Where work is done that the page does not wait for."""

    def run(self, work: Callable[[], Any], done: Callable[[Any], None]) -> None:
        """Do the work, then hand what it returns to `done`, in the document."""

    def tell(self, action: Callable[[], None]) -> None:
        """From within the work: do something in the document."""


class AtOnce:
    """Work done on the spot: a document without a server."""

    def run(self, work: Callable[[], Any], done: Callable[[Any], None]) -> None:
        done(work())

    def tell(self, action: Callable[[], None]) -> None:
        action()


class InThread:
    """Work done in a thread, so that the page stays alive."""

    def __init__(self, document: Document) -> None:
        self.document = document

    def run(self, work: Callable[[], Any], done: Callable[[Any], None]) -> None:
        @without_document_lock
        async def go() -> None:
            outcome = await asyncio.to_thread(work)
            self.tell(partial(done, outcome))

        self.document.add_next_tick_callback(go)

    def tell(self, action: Callable[[], None]) -> None:
        self.document.add_next_tick_callback(action)


class Control:
    """A parameter: a slider for the hand and a box with the exact value, which counts."""

    def __init__(self, quantity: Quantity, value: float, changed: Callable[[], None]) -> None:
        self.quantity, self.span, self.changed, self.quiet = quantity, Span.of(quantity).including(value), changed, False
        self.box = TextInput(value=f"{value:g}", width=90, title=" ", name=f"box {quantity.name}")
        power = CustomJSTickFormatter(code="return (10 ** tick).toPrecision(3)")
        self.slider = Slider(
            start=0, end=1, value=0, step=1, width=WIDTH - 100, title=_title(quantity), show_value=False,
            format=power if self.span.log else "0[.]000", name=f"slider {quantity.name}",
        )  # fmt: skip
        self._place(value)
        self.slider.on_change("value", self._slid)
        self.box.on_change("value", self._typed)
        self.layout = row(self.slider, self.box)

    def value(self, model: str) -> float:
        """What the box says; ParameterError naming parameter, value and range if that cannot be."""
        return self.quantity.check(self.box.value.strip(), model)

    def disable(self, off: bool) -> None:
        self.slider.disabled = self.box.disabled = off

    def _slid(self, attr: str, old: float, new: float) -> None:
        if not self.quiet:
            self.quiet = True
            self.box.value = f"{10.0**new if self.span.log else new:.4g}"
            self.quiet = False
            self.changed()

    def _typed(self, attr: str, old: str, new: str) -> None:
        if not self.quiet:
            try:
                self._place(float(new))
            except ValueError:
                pass  # reading the box says what is wrong
            self.changed()

    def _place(self, value: float) -> None:
        """The slider at a value, its ends moved out to it; at the nearest end where it has no place."""
        self.span = self.span.including(value)
        low, high = (math.log10(end) if self.span.log else end for end in (self.span.low, self.span.high))
        inside = min(max(value, self.span.low), self.span.high)
        self.quiet = True
        self.slider.update(start=low, end=high, step=self.span.step or (high - low) / 200,
                           value=math.log10(inside) if self.span.log else inside)  # fmt: skip
        self.quiet = False


class Page:
    """The document of one visitor.

    Parameters
    ----------
    sweep : Sweep
        The curve to open with; its problem is compiled.
    runner : Runner
        Where curves are solved.
    """

    def __init__(self, sweep: Sweep, runner: Runner) -> None:
        self.model, self.runner, self.quiet, self.busy = sweep.model, runner, False, False
        self.wanted: Sweep | None = None
        self.curve: Curve | None = None
        self.drawn: tuple[Any, ...] = ()
        self.began = 0.0
        self.source, self.missing = ColumnDataSource(), ColumnDataSource()
        self.status = Div(text="", disable_math=True, name="status", sizing_mode="stretch_width")
        self.options = {name: _option_widget(option, text) for (name, text), option in
                        zip(sweep.options, MODELS[self.model].declared(Option).values(), strict=True)}  # fmt: skip
        self.x = Select(title="x axis", width=120, name="x")
        self.low, self.high = (TextInput(title=title, width=75, name=title) for title in ("from", "to"))
        self.points = TextInput(title="points", value=str(sweep.points), width=60, name="points")
        self.y = MultiChoice(title="curves", max_items=len(COLOURS), width=WIDTH, name="y")
        self.log_x, self.log_y = (Checkbox(label=f"logarithmic {axis}", name=f"log {axis}") for axis in "xy")
        self.controls: dict[str, Control] = {}
        self.controls_box, self.figure_box = column(), column(Div(), sizing_mode="stretch_width")
        self._fit(sweep, sweep.compiled())
        for widget in (*self.options.values(), self.low, self.high, self.points, self.y):
            widget.on_change("value", self._edited)
        for checkbox in (self.log_x, self.log_y):
            checkbox.on_change("active", self._edited)
        self.x.on_change("value", self._turned)
        left = column(
            *self.options.values(), self.controls_box, row(self.x, self.low, self.high, self.points), self.y,
            row(self.log_x, self.log_y), width=WIDTH + 30,
        )  # fmt: skip
        self.root = row(left, column(self.status, self.figure_box, sizing_mode="stretch_width"), sizing_mode="stretch_width")
        self._changed()

    def close(self) -> None:
        """Nobody looks any more: what is being solved ends at its next block."""
        self.wanted = None

    # -- from the widgets to a curve

    def _edited(self, attr: str, old: Any, new: Any) -> None:
        if not self.quiet:
            self._changed()

    def _changed(self) -> None:
        try:
            wanted = self._read()
        except ValueError as error:
            self._say(str(error), wrong=True)
            return
        self.wanted = wanted
        if not self.busy:
            self._begin(wanted)

    def _turned(self, attr: str, old: str, new: str) -> None:
        """Another parameter along x, over its own range."""
        if not self.quiet:
            with self._quietly():
                self._show_span(Span.of(self.controls[new].quantity))
                self._disable(new)
            self._changed()

    def _read(self) -> Sweep:
        """All widgets; ValueError with one line for what cannot be."""
        x = self.controls[self.x.value].quantity
        ends = [x.check(box.value.strip(), self.model) for box in (self.low, self.high)]
        try:
            points = int(self.points.value)
        except ValueError:
            raise ValueError(f"{self.model}: points = {self.points.value!r} is not a whole number") from None
        parameters = {name: control.value(self.model) for name, control in self.controls.items() if name != x.name}
        options = tuple((name, str(widget.value).strip()) for name, widget in self.options.items())
        span = Span(ends[0], ends[1], bool(self.log_x.active), Span.of(x).step)
        return Sweep(self.model, options, parameters, x.name, span, points)

    def _begin(self, sweep: Sweep) -> None:
        self.busy, self.began = True, time.perf_counter()
        if self.curve is not None and sweep.options != self.curve.sweep.options:
            self._say("compiling " + ", ".join(f"{name}={text}" for name, text in sweep.options))
        self.runner.run(partial(self._work, sweep), partial(self._done, sweep))

    def _work(self, sweep: Sweep) -> Curve | Exception | None:
        """The curve, or why there is none; None if it is no longer wanted.  Runs outside the document."""

        def progress(done: int, total: int) -> None:
            if time.perf_counter() - self.began > PATIENCE and done < total:
                if self.wanted is not sweep:
                    raise Superseded
                self.runner.tell(partial(self._say, f"solving: {done} of {total} points"))

        try:
            return refitted(sweep, sweep.compiled()).solve(progress)
        except Superseded:
            return None
        except (ValueError, RuntimeError) as error:
            return error
        except Exception as error:  # the page stays alive and says so; the traceback goes to the terminal
            _log.exception("%s: a curve could not be solved", sweep.model)
            return error

    def _done(self, sweep: Sweep, outcome: Curve | Exception | None) -> None:
        self.busy = False
        if isinstance(outcome, Curve):
            self._draw(outcome)
        elif isinstance(outcome, Exception):
            self._say(str(outcome) or type(outcome).__name__, wrong=True)
        if self.wanted is not None and self.wanted is not sweep:
            self._begin(self.wanted)

    # -- from a curve to the page

    def _fit(self, sweep: Sweep, problem: Problem) -> None:
        """Controls for the parameters and components that this problem has."""
        with self._quietly():
            old = self.controls
            self.controls = {
                q.name: old[q.name] if q.name in old and old[q.name].quantity == q
                else Control(q, sweep.parameters[q.name], self._changed)
                for q in problem.parameters
            }  # fmt: skip
            self.controls_box.children = [control.layout for control in self.controls.values()]
            names = observables(problem)
            self.y.options = list(names)
            self.y.value = [name for name in self.y.value if name in names] or names[:1]
            self.x.options = list(self.controls)
            if self.x.value != sweep.x:
                self.x.value = sweep.x
                self._show_span(sweep.span)
            self._disable(sweep.x)

    def _draw(self, curve: Curve) -> None:
        if self.curve is not None and curve.problem is not self.curve.problem:
            self._fit(curve.sweep, curve.problem)
        self.curve = curve
        names = list(self.y.value)
        log_y = bool(self.log_y.active)
        values = {name: curve.of(name) for name in names}
        unseen = 0
        if log_y:
            unseen = sum(int((v <= 0).sum()) for v in values.values())
            values = {name: np.where(v > 0, v, np.nan) for name, v in values.items()}
        source = {"x": curve.x, **{f"y{i}": v for i, v in enumerate(values.values())}}
        failed = np.flatnonzero(curve.failed)
        missing = {"x": curve.x[failed], "why": [Result(int(c)).name for c in curve.result[failed]]}
        look = (curve.problem, curve.sweep.x, curve.sweep.span.log, tuple(names), log_y)
        if look == self.drawn:
            self.source.data, self.missing.data = source, missing
        else:
            self.source, self.missing = ColumnDataSource(source, name="curve"), ColumnDataSource(missing)
            self.figure_box.children = [_figure(curve, names, log_y, self.source, self.missing)]
            self.drawn = look
        self._say(self._account(curve, unseen))

    def _account(self, curve: Curve, unseen: int) -> str:
        parts = [f"{len(curve.x)} points"]
        if failures := curve.failures():
            parts.append(f"{int(curve.failed.sum())} not converged ({failures}), marked × at the foot")
        else:
            parts.append("all converged")
        if curve.refused:
            parts.append(f"{len(curve.refused)} left out ({curve.refused[0]})")
        if unseen:
            parts.append(f"{unseen} values not positive, not on a logarithmic axis")
        milliseconds = 1e3 * (time.perf_counter() - self.began)
        return f"{'; '.join(parts)}. Solved in {1e3 * curve.seconds:.0f} ms, redrawn in {milliseconds:.0f} ms"

    def _say(self, text: str, wrong: bool = False) -> None:
        shown = html.escape(" ".join(text.split()))
        self.status.text = f'<b style="color: #b00020">{shown}</b>' if wrong else shown

    def _show_span(self, span: Span) -> None:
        self.low.value, self.high.value, self.log_x.active = f"{span.low:g}", f"{span.high:g}", span.log

    def _disable(self, x: str) -> None:
        for name, control in self.controls.items():
            control.disable(name == x)

    @contextmanager
    def _quietly(self) -> Iterator[None]:
        self.quiet = True
        try:
            yield
        finally:
            self.quiet = False


def _title(declared: Quantity | Option) -> str:
    return textwrap.shorten(f"{declared.name}: {declared.long_name}", LETTERS, placeholder=" ...")


def _option_widget(option: Option, text: str) -> Any:
    title, name = _title(option), f"option {option.name}"
    if isinstance(option, ChoiceOption):
        return Select(title=title, options=list(option.choices), value=text, width=WIDTH, name=name)
    if isinstance(option, WholeOption):
        return Spinner(title=title, low=option.lowest, high=option.highest, step=1, value=int(text), width=WIDTH, name=name)
    if isinstance(option, FunctionOption | LossOption):
        known = list(LossOption.known if isinstance(option, LossOption) else ACTIVATIONS)
        return AutocompleteInput(title=title, completions=known, restrict=False, min_characters=0, value=text, width=WIDTH,
                                 placeholder="a name, or an expression", name=name)  # fmt: skip
    return TextInput(title=title, value=text, width=WIDTH, name=name)


def _figure(curve: Curve, names: list[str], log_y: bool, source: ColumnDataSource, missing: ColumnDataSource) -> Any:
    """Lines for the components, crosses at the foot where there is no solution and therefore no height to put them at."""
    x = curve.problem.parameter(curve.sweep.x)
    meanings = {q.name: q.long_name for q in curve.problem.values.quantities}
    label = f"{meanings[names[0].split('[')[0]]} ({names[0]})" if len(names) == 1 else ""
    plot = figure(
        x_axis_type="log" if curve.sweep.span.log else "linear", y_axis_type="log" if log_y else "linear",
        x_axis_label=f"{x.long_name} ({x.name})", y_axis_label=label, sizing_mode="stretch_width", height=520,
        tools="pan,wheel_zoom,box_zoom,reset,save",
    )  # fmt: skip
    lines = []
    for i, (name, colour) in enumerate(zip(names, COLOURS, strict=False)):
        legend = {"legend_label": name} if len(names) > 1 else {}
        lines.append(plot.line("x", f"y{i}", source=source, color=colour, line_width=2, **legend))
        # A converged point between two gaps would be a line of no length.
        lines.append(plot.scatter("x", f"y{i}", source=source, color=colour, size=3, **legend))
    plot.y_range.renderers = lines
    plot.extra_y_ranges, plot.extra_y_scales = {"foot": Range1d(0, 1)}, {"foot": LinearScale()}
    crosses = plot.scatter("x", 0.02, source=missing, marker="x", color="#b00020", size=8, y_range_name="foot")
    plot.add_tools(
        HoverTool(renderers=[lines[1]], mode="vline", tooltips=[(x.name, "@x{0.0000}")]
                  + [(name, f"@y{i}{{0.000000}}") for i, name in enumerate(names)]),
        HoverTool(renderers=[crosses], tooltips=[(x.name, "@x{0.0000}"), ("not converged", "@why")]),
    )  # fmt: skip
    return plot


def start(sweep: Sweep, port: int) -> Server:
    """A server of the page, listening but not yet running.

    Parameters
    ----------
    sweep : Sweep
        The curve every visitor opens with.
    port : int
        0 for one that is free.

    Returns
    -------
    bokeh.server.server.Server
        Bound to the loopback address; sockets from pages of other origins are refused.

    Raises
    ------
    ExploreError
        If the port is taken.
    ParameterError
        If there is no such curve.
    """
    title = f"{sweep.model}: {MODELS[sweep.model].title}"

    def visit(document: Document) -> None:
        page = Page(sweep, InThread(document))
        document.title = title
        document.add_root(page.root)
        document.on_session_destroyed(lambda context: page.close())

    sweep.solve()  # what cannot be solved is refused here, and drivers are compiled before anybody waits
    number = port or _free_port()
    try:
        server = Server(
            {"/": Application(FunctionHandler(visit))}, port=number, address=LOOPBACK,
            allow_websocket_origin=[f"{LOOPBACK}:{number}", f"localhost:{number}"], websocket_max_message_size=MESSAGE,
        )  # fmt: skip
    except OSError as error:
        raise ExploreError(f"cannot listen on port {number}: {error.strerror or error}; choose another with --port") from error
    server.start()
    return server


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def address(server: Server) -> str:
    """Where the page is."""
    return f"http://{LOOPBACK}:{server.port}/"
