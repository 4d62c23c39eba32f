"""The explorer: a page whose curves are those of `solve`, and a server that only this computer reaches."""

import asyncio
import socket
import threading
import urllib.error
import urllib.request
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest

from replica.models import MODELS
from replica.sweep import Span, first_sweep, refitted
from solvers import ParameterError, Result, solve, solve_trajectory
from solvers.problem import Quantity

pytest.importorskip("bokeh", reason="needs bokeh: pip install 'replica-solvers[explore]'")

from replica.explorer import AtOnce, ExploreError, Page, start


@pytest.fixture
def page():
    return Page(first_sweep("ridge", {}, {"reg": 0.5}, 20), AtOnce())


def same_as_solve(page, problem, name="test_error", **parameters):
    """The drawn curve is what `solve` says at each of its points."""
    x = page.x.value
    wanted = [solve(problem, **parameters, **{x: float(value)})[name] for value in page.source.data["x"]]
    np.testing.assert_allclose(page.source.data["y0"], wanted, rtol=1e-12)


def test_curves_are_those_of_solve_when_controls_move(page, ridge):
    same_as_solve(page, ridge, reg=0.5)
    page.controls["reg"].slider.value = -1.0  # a slider of a positive parameter moves in powers of ten
    assert page.controls["reg"].box.value == "0.1"
    same_as_solve(page, ridge, reg=0.1)
    page.controls["noise"].box.value = "0.25"
    same_as_solve(page, ridge, reg=0.1, noise=0.25)
    page.controls["noise"].box.value = "0"  # the left end of a logarithmic slider is not 0; the box is
    same_as_solve(page, ridge, reg=0.1)
    page.y.value = ["q", "test_error"]
    same_as_solve(page, ridge, "q", reg=0.1)
    assert "20 points; all converged" in page.status.text
    assert "redrawn in" in page.status.text


def test_another_x_axis_has_its_own_range_and_its_control_rests(page, ridge):
    page.x.value = "reg"
    assert page.controls["reg"].slider.disabled
    assert not page.controls["alpha"].slider.disabled
    page.low.value, page.high.value = "0.001", "10"
    same_as_solve(page, ridge, alpha=1.0)
    assert page.source.data["x"][[0, -1]].tolist() == [0.001, 10]
    page.log_x.active = False
    np.testing.assert_allclose(np.diff(page.source.data["x"]), (10 - 0.001) / 19)


def test_a_slider_reaches_what_is_typed(page):
    page.controls["reg"].box.value = "1e-6"
    assert page.controls["reg"].slider.start == pytest.approx(-6)
    assert page.controls["reg"].slider.value == pytest.approx(-6)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda page: page.controls["reg"].box, {"-1": "reg = -1 is outside its range [0, inf)", "x": "is not a number"}),
        (lambda page: page.low, {"0": "alpha = 0 is outside its range (0, inf)", "200": "alpha from 200 to 100 is not"}),
        (lambda page: page.points, {"1": "points = 1 is outside its range [2, 5000]", "many": "not a whole number",
                                    "1000000": "outside its range"}),
        (lambda page: page.options["target"], {"__import__('os')": "option target", "<b>": "&lt;b&gt;"}),
        (lambda page: page.options["loss"], {"hubert": "hubert"}),
    ],
    ids=["parameter", "range", "points", "target", "loss"],
)  # fmt: skip
def test_bad_input_is_refused_in_one_line_and_the_curve_stays(page, change, words):
    widget, before = change(page), page.source.data["y0"]
    good = widget.value
    for text, word in words.items():
        widget.value = text
        assert word in page.status.text.replace("&#x27;", "'")
        assert "\n" not in page.status.text
        assert page.source.data["y0"] is before
    widget.value = good
    assert "all converged" in page.status.text


def test_an_option_compiles_and_brings_its_parameters(page):
    said = []
    page.status.on_change("text", lambda attr, old, new: said.append(new))
    page.controls["reg"].box.value = "0.2"
    page.options["labels"].value = "sign"
    assert any("compiling" in text and "labels=sign" in text for text in said)
    assert "flip" in page.controls
    assert page.controls["reg"].box.value == "0.2"
    same_as_solve(page, MODELS["ridge"](labels="sign").compile(), reg=0.2)


def test_points_that_do_not_converge_are_crosses_with_their_reason(page):
    page.controls["reg"].box.value = "0"  # singular at interpolation, alpha = 1
    page.low.value, page.high.value, page.points.value = "0.5", "1.5", "3"
    page.log_x.active = False
    assert "1 not converged" in page.status.text
    assert page.missing.data["x"].tolist() == [1.0]
    assert page.missing.data["why"][0] in Result.__members__
    assert np.isnan(page.source.data["y0"][1])


def test_what_a_logarithmic_axis_cannot_show_is_counted(page):
    page.y.value = ["free_entropy"]
    page.log_y.active = True
    hidden = int(np.isnan(page.source.data["y0"]).sum())
    assert hidden > 0
    assert f"{hidden} values not positive" in page.status.text


class Later:
    """Work that waits until it is asked for, as a thread would make it."""

    def __init__(self):
        self.waiting = []

    def run(self, work, done):
        self.waiting.append((work, done))

    def tell(self, action):
        action()

    def finish(self):
        work, done = self.waiting.pop(0)
        done(work())


def test_only_the_newest_curve_is_solved_next(ridge):
    later = Later()
    page = Page(first_sweep("ridge", {}, {}, 5), later)
    for text in ("0.5", "0.4", "0.3"):
        page.controls["reg"].box.value = text
    assert len(later.waiting) == 1
    later.finish()
    assert len(later.waiting) == 1
    later.finish()
    assert later.waiting == []
    same_as_solve(page, ridge, reg=0.3)


def test_a_long_curve_says_how_far_it_is_and_gives_way(monkeypatch):
    monkeypatch.setattr("replica.explorer.PATIENCE", 0.0)
    monkeypatch.setattr("replica.sweep.BLOCK", 2)
    later = Later()
    page = Page(first_sweep("ridge", {}, {}, 5), later)
    said = []
    page.status.on_change("text", lambda attr, old, new: said.append(new))
    later.finish()
    assert said[:2] == ["solving: 2 of 5 points", "solving: 4 of 5 points"]
    before = page.source.data
    page.controls["reg"].box.value = "0.5"
    page.controls["reg"].box.value = "0.4"
    later.finish()  # the first of the two is dropped
    assert page.source.data is before
    later.finish()
    assert page.curve.sweep.parameters["reg"] == 0.4


@pytest.mark.parametrize("name", MODELS)
def test_every_model_opens_with_a_curve(name):
    sweep = first_sweep(name, {}, {}, 3)
    page = Page(sweep, AtOnce())
    assert page.curve is not None, page.status.text
    assert len(page.curve.x) >= 1
    assert set(page.controls) == {q.name for q in page.curve.problem.parameters}


def test_time_runs_along_x_where_a_model_has_it():
    page = Page(first_sweep("linear-student", {}, {"alpha": 2}, 4), AtOnce())
    assert page.x.value == "time"
    wanted = solve_trajectory(MODELS["linear-student"](), page.source.data["x"], alpha=2)["test_error"]
    np.testing.assert_array_equal(page.source.data["y0"], wanted)


def test_points_whose_parameters_do_not_go_together_are_left_out_and_counted():
    page = Page(first_sweep("parity", {}, {"k": 3}, 4), AtOnce())
    page.low.value, page.high.value = "1", "10"
    assert page.source.data["x"].tolist() == [4, 7, 10]
    assert "1 left out (parity: k = 3 is outside its range [1, D] with D = 1)" in page.status.text


@pytest.mark.parametrize(
    ("quantity", "span"),
    [
        (Quantity("alpha", "", lower=0, lower_open=True), Span(0.01, 100, True)),
        (Quantity("d", "", lower=20, infinite=True), Span(20, 2000, True)),
        (Quantity("cos", "", lower=-1, upper=1), Span(-1, 1, False)),
        (Quantity("B", ""), Span(-5, 5, False)),
        (Quantity("k", "", lower=1, upper=64, whole=True), Span(1, 64, False, 1)),
        (Quantity("time", "", lower=0), Span(0, 10, False)),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_spans_suit_the_ranges(quantity, span):
    assert Span.of(quantity) == span
    for value in span.values(7):
        quantity.check(float(value), "")


def test_first_values_are_checked():
    for options, parameters, word in (
        ({}, {"reg": "-1"}, "reg = -1 is outside its range"),
        ({}, {"lam": "1"}, "'lam'"),
        ({"teacher": "sin"}, {}, "'teacher'"),
    ):
        with pytest.raises(ValueError, match=word):
            first_sweep("ridge", options, parameters)
    sweep = first_sweep("ridge", {}, {"reg": "2"})
    with pytest.raises(ParameterError, match="alpha from 0"):
        replace(sweep, span=Span(0.01, 0.01, True)).solve()
    assert refitted(sweep, sweep.compiled()) == sweep


@contextmanager
def running(sweep, port=0):
    """A server in a thread of its own."""
    ready, box = threading.Event(), {}

    def serve():
        asyncio.set_event_loop(asyncio.new_event_loop())
        box["server"] = start(sweep, port)
        box["server"].io_loop.add_callback(ready.set)
        box["server"].io_loop.start()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    assert ready.wait(60)
    server = box["server"]
    try:
        yield server
    finally:
        server.io_loop.add_callback(server.stop)
        server.io_loop.add_callback(server.io_loop.stop)
        thread.join(10)


def websocket(port, origin):
    """Status line that a page of this origin gets when it asks for the socket."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(
            (
                f"GET /ws HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
                f"Sec-WebSocket-Protocol: bokeh, token\r\nOrigin: {origin}\r\n\r\n"
            ).encode()
        )
        return connection.recv(4096).split(b"\r\n")[0].decode()


def test_the_server_is_on_the_loopback_address_only_and_refuses_strange_pages():
    with running(first_sweep("ridge", {}, {}, 5)) as server:
        port = server.port
        assert {s.getsockname()[0] for s in server._http._sockets.values()} == {"127.0.0.1"}
        answer = urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=20)
        assert answer.status == 200
        text = answer.read().decode()
        assert "bokeh" in text
        assert "ridge" in text
        with socket.socket() as other:
            other.settimeout(2)
            assert other.connect_ex(("127.0.0.2", port)) != 0
        assert " 403 " in websocket(port, "http://elsewhere.example")
        assert " 403 " in websocket(port, f"http://elsewhere.example:{port}")
        assert " 403 " not in websocket(port, f"http://127.0.0.1:{port}")
        with pytest.raises(ExploreError, match=rf"port {port}.*--port"):
            start(first_sweep("ridge", {}, {}, 5), port)


def test_a_browser_shows_the_page_and_a_moved_slider_redraws_it(ridge, browser):
    with running(first_sweep("ridge", {}, {}, 200)) as server:
        view = browser.new_page()
        elsewhere, wrong = [], []
        view.on("request", lambda r: elsewhere.append(r.url) if f"127.0.0.1:{server.port}" not in r.url else None)
        view.on("pageerror", lambda error: wrong.append(str(error)))
        view.goto(f"http://127.0.0.1:{server.port}/")
        view.wait_for_function(
            "window.Bokeh?.documents[0]?.get_model_by_name('status')?.text.includes('all converged')", timeout=60_000
        )
        view.evaluate("Bokeh.documents[0].get_model_by_name('slider reg').value = -1")
        view.wait_for_function("Bokeh.documents[0].get_model_by_name('box reg').value == '0.1'")
        view.wait_for_function(
            "wanted => Math.abs(Bokeh.documents[0].get_model_by_name('curve').get_column('y0')[199] - wanted) < 1e-12",
            arg=solve(ridge, alpha=100.0, reg=0.1)["test_error"],
        )
        view.locator("input[type=checkbox]").nth(1).check()
        view.wait_for_function("Bokeh.documents[0].get_model_by_name('log y').active")
        view.locator("input[type=text]:visible").nth(3).fill("-1")
        view.keyboard.press("Enter")
        view.get_by_text("outside its range [0, inf)").wait_for()
        assert (elsewhere, wrong) == ([], [])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["rigde"], ["'rigde'", "ridge"]),
        (["ridge", "reg=-1"], ["reg = -1", "[0, inf)"]),
        (["ridge", "lam=1"], ["'lam'", "alpha"]),
        (["ridge", "reg"], ["'reg'", "name=value"]),
        (["ridge", "--option", "loss=bad"], ["loss", "'bad'"]),
        (["ridge", "--points", "1"], ["--points"]),
        (["ridge", "--port", "70000"], ["--port"]),
    ],
)
def test_bad_commands_are_one_line_and_open_nothing(replica, arguments, words):
    code, out, err = replica("explore", *arguments, "--no-browser")
    assert (code, out) == (2, "")
    assert len(err.strip().splitlines()) == 1, err
    for word in words:
        assert word in err


def test_a_port_in_use_is_one_line(replica):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, out, err = replica("explore", "ridge", "--port", port, "--no-browser")
    assert (code, out) == (2, "")
    assert len(err.strip().splitlines()) == 1 and str(port) in err
