"""Anything at all as config, expression or file: never a traceback, a hang, an evaluated text, or an altered file.

Ten thousand inputs and more in the slow suite, some hundreds in the fast one.
"""

from __future__ import annotations

import os
import random
import signal
import string
import sys
from contextlib import contextmanager

import pytest
import sympy as sp
import toys
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from toys import GRID, PROBLEM

from replica.config import ConfigError, read_config
from replica.expressions import ExpressionError, parse_expression
from replica.models import RidgeRegression
from replica.results import open_results
from solvers import Grid, Scan, StoreError, make_method, scan
from solvers.outcomes import failures, status

#: Seconds that one input may take.
PATIENCE = 30


def counts(few, many):
    """Run a property on few inputs, or, marked slow, on many."""
    return pytest.mark.parametrize("inputs", [few, pytest.param(many, marks=pytest.mark.slow)])


def examples(number):
    every = [check for check in HealthCheck if check is not HealthCheck.differing_executors]
    return settings(max_examples=number, deadline=None, database=None, derandomize=True, suppress_health_check=every)


watched: list[str] = []
watching = False


def _audit(event, arguments):
    """What no text of a user may bring about."""
    if watching and (event in ("os.system", "subprocess.Popen", "os.exec", "os.remove", "socket.connect", "shutil.rmtree")
                     or (event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"))):  # fmt: skip
        watched.append(f"{event} {arguments}")


sys.addaudithook(_audit)


@contextmanager
def guarded(watch=True):
    """Fail if it hangs, or, if watched, does more than compute."""
    global watching
    watched.clear()

    def hangs(*_):
        raise AssertionError(f"longer than {PATIENCE} s")

    before = signal.signal(signal.SIGALRM, hangs)
    signal.alarm(PATIENCE)
    watching = watch
    try:
        yield
    finally:
        watching = False
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    assert not watched


ATTACKS = [
    "__import__('os').system('touch canary')", "open('canary','w')", "().__class__.__bases__[0].__subclasses__()", "exec('1')",
    "(lambda: z)()", "[z for z in z]", "z if z else z", "f'{z}'", "z.__class__", "9**9**9**9", "z**z**z", "1/0", "e**e**e**e**e",
    "he4(" * 30 + "z" + ")" * 30, "exp(exp(exp(exp(z))))", "sympify('z')", "Symbol('z')", "S(1)", "1e400", "0x10", "1_000", "1j*z",  # noqa: E501
    "z@z", "z:=1", "*z", "**z", "lambda: 0", "z;z", "z\nz", "nan", "inf", "oo", "zoo", "None", "True", "z[0]", "'a'", "b'a'", "...",  # noqa: E501
]  # fmt: skip
WORDS = ["z", "tanh", "erf", "relu", "sign", "exp", "log", "sqrt", "abs", "max", "min", "he2", "he3", "he4", "sin", "pi", "e",
         "(", ")", ",", "+", "-", "*", "/", "**", " ", "0", "1", "2", "0.5", "1e3", "20", "1e-300", "y", "."]  # fmt: skip
formulas = st.recursive(
    st.sampled_from(["z", "1", "2", "0.5", "pi", "e", "1e-3", "y"]),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from("+-*/"), inner).map("".join),
        st.tuples(st.sampled_from(["tanh", "relu", "exp", "log", "sqrt", "abs", "he3", "softplus"]), inner).map("{0[0]}({0[1]})".format),  # noqa: E501
        st.tuples(inner, st.sampled_from(["2", "3", "0.5", "-1", "19", "21"])).map("({0[0]})**{0[1]}".format),
        st.tuples(inner, inner).map("max({0[0]}, {0[1]})".format),
    ),
    max_leaves=12,
)
texts = st.one_of(
    st.text(max_size=60),
    st.text(alphabet=string.printable, max_size=80),
    st.lists(st.sampled_from(WORDS), max_size=25).map("".join),
    formulas,
    st.sampled_from(ATTACKS),
    st.tuples(st.sampled_from(ATTACKS), st.sampled_from(["+z", "*0", "", " ", ")", "**2"]), formulas).map("".join),
)


@counts(100, 6000)
def test_any_text_as_an_expression(inputs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    @examples(inputs)
    @given(texts)
    def check(text):
        with guarded():
            try:
                found = parse_expression(text)
            except ExpressionError as refusal:
                assert "\n" not in str(refusal)
            else:
                assert isinstance(found, sp.Expr)
                assert found.free_symbols <= {sp.Symbol("z", real=True)}

    check()
    assert not os.listdir(tmp_path)


BASE = """model = "ridge"
[options]
target = "tanh(z)"
[parameters]
noise = 0.1
[grid]
alpha = { linspace = [0.5, 2.0, 4] }
reg = [0.1, 1.0]
[method]
name = "newton"
rtol = 1e-9
[simulation]
size = 60
repeats = 3
points = { alpha = [1.5] }
"""
TOKENS = ["[", "]", "{", "}", "=", ",", '"', "'''", "\n", "#", "nan", "-inf", "1e999", "9" * 400, "true", "[[grid]]", "[method]", "alpha",  # noqa: E501
          "linspace", "logspace = [0, 1, 1000001]", "[0, 1, 2, 3]", "1979-05-27", "0x7f", "\x00", "\\u0000", "é", "reg = 1", "a.b.c = 1",  # noqa: E501
          "max_steps = -1", 'name = "damped"', "[grid.alpha]", "__class__ = 1"]  # fmt: skip
numbers = st.one_of(st.floats(), st.integers(), st.sampled_from([0, -1, 1e308, 10**30, float("nan")]))
scalars = st.one_of(numbers, st.booleans(), st.text(max_size=8), st.lists(numbers, max_size=4))
names = st.one_of(st.sampled_from(["alpha", "reg", "noise", "rho", "linspace", "logspace", "name", "rtol", "size"]), st.text(max_size=5))  # noqa: E501


def toml(value):
    if isinstance(value, dict):
        return "{" + ", ".join(f"{toml(str(k))} = {toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + "".join(c if c.isprintable() and c not in '"\\' else f"\\U{ord(c):08x}" for c in value) + '"'
    return repr(value)


def mutated(changes):
    out = BASE
    for position, length, token in changes:
        at = position % (len(out) + 1)
        out = out[:at] + token + out[at + length :]
    return out


configs = st.one_of(
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 12), st.sampled_from(["", *TOKENS])), min_size=1, max_size=4).map(mutated),  # noqa: E501
    st.dictionaries(
        st.sampled_from(["model", "options", "parameters", "grid", "method", "simulation", "grids"]),
        st.one_of(scalars, st.just("ridge"), st.dictionaries(names, st.one_of(scalars, st.dictionaries(names, scalars, max_size=2)))),  # noqa: E501
    ).map(lambda table: "\n".join(f"{key} = {toml(value)}" for key, value in table.items())),
    st.text(max_size=60),
)
#: What is told to a user in one line; see `replica.cli.main`.
OURS = ("replica", "solvers")


@counts(100, 4000)
def test_any_text_as_a_config_with_a_file_that_exists(inputs, ridge, tmp_path, monkeypatch):
    """Up to the point where a scan would start, and a file of another scan in its way."""
    monkeypatch.setattr(scan, "solve_points", toys.solve_points)
    path, config = tmp_path / "scan.h5", tmp_path / "config.toml"
    Scan(PROBLEM, GRID).run(path)
    before = path.read_bytes()
    reached = []

    @examples(inputs)
    @given(configs)
    def check(text):
        config.write_bytes(text.encode("utf-8", "surrogatepass"))
        with guarded():
            try:
                read = read_config(config)
            except ConfigError as refusal:
                assert "\n" not in str(refusal)
                return
        with guarded(watch=False):
            try:
                if "target" in read.options:
                    RidgeRegression(**read.options)
                tuning = dict(read.method)
                method = make_method(str(tuning.pop("name", "ladder")), **tuning)
                task = Scan(ridge, Grid(**read.axes()), read.parameters, method)
                reached.append(text)
                task.run(path)
                raise AssertionError("another scan was taken for this one")
            except (ValueError, RuntimeError, TypeError) as refusal:
                assert type(refusal).__module__.split(".")[0] in OURS, refusal
                assert "\n" not in str(refusal)
        assert path.read_bytes() == before

    check()
    assert reached


def changed(data, seed):
    """A scan file after an accident, and what the accident was."""
    rng, out = random.Random(seed), bytearray(data)
    kind = rng.choice(["bits", "header", "truncated", "zeros", "moved", "longer"])
    if kind == "bits":
        for _ in range(rng.choice([1, 3, 30])):
            out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
    elif kind == "header":
        for _ in range(rng.choice([1, 2, 8])):
            out[rng.randrange(4000)] = rng.randrange(256)
    elif kind == "truncated":
        del out[rng.randrange(len(out)) :]
    elif kind == "longer":
        out += rng.randbytes(rng.randrange(1, 5000))
    else:
        size, at = rng.choice([8, 64, 512]), rng.randrange(len(out) - 512)
        source = rng.randrange(len(out) - 512)
        out[at : at + size] = bytes(size) if kind == "zeros" else out[source : source + size]
    return bytes(out)


def _use(path):
    """Everything that reads or resumes a file; 0 if each works or refuses in one line and then leaves the file alone."""
    for call in (lambda: status(path), lambda: failures(path, 5), lambda: open_results(path).close(),
                 lambda: Scan(PROBLEM, GRID).run(path, workers=1)):  # fmt: skip
        before = path.read_bytes()
        try:
            call()
        except StoreError as refusal:
            if "\n" in str(refusal) or (path.read_bytes() != before and "cannot write" not in str(refusal)):
                print(refusal)
                return 2
    return 0


@counts(8, 500)
def test_any_damage_to_a_file(inputs, tmp_path, monkeypatch):
    """Each in a process of its own: the HDF5 library loops or crashes on a few (a heap of texts set to zero, say)."""
    monkeypatch.setattr(scan, "solve_points", toys.solve_points)
    path = tmp_path / "scan.h5"
    Scan(PROBLEM, GRID).run(path)
    data, bad, stuck = path.read_bytes(), {}, {}
    for seed in range(1, inputs + 1):
        path.write_bytes(changed(data, seed))
        process = os.fork()
        if not process:
            code = 1
            try:
                signal.alarm(5)
                code = _use(path)
            finally:
                os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        if code:
            (stuck if code < 0 else bad)[seed] = code
    print(f"{inputs} damaged files: {len(stuck)} stopped the HDF5 library: {stuck}")
    assert not bad
    assert len(stuck) <= 0.05 * inputs
