"""Nothing finished is lost and nothing unfinished is marked done: killed, interrupted, full disks, several writers."""

import os
import resource
import signal
import subprocess
import sys
import time
from functools import partial

import h5py
import numpy as np
import pytest

from replica import cli
from solvers import Anderson, Grid, Ladder, Result, Scan, StoreError, scan
from solvers.outcomes import status
from solvers.solve import solve_points
from solvers.store import edited_copy

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked, so that they start at once")

FIXED = {"noise": 0.1}
# Few steps, so that a run has all its phases: first pass, continuation from neighbours, retry of what is left.
GRID, LADDER = Grid(alpha=np.linspace(0.3, 3, 14), reg=np.logspace(-3, 0, 11)), Ladder(max_steps=8)
CONFIG = """
model = "ridge"
parameters = { noise = 0.1 }
grid = { alpha = { linspace = [0.3, 3.0, 14] }, reg = { logspace = [-3, 0, 11] } }
method = { max_steps = 8 }
"""


def slowly(problem, points, method, start=None, pause=0.03):
    time.sleep(pause)
    return solve_points(problem, points, method, start)


def everything(task, path):
    """A scan and a retry of what it does not solve."""
    task.run(path, workers=2)
    task.retry(path, [Result.MAX_STEPS], Anderson(), workers=2)


def contents(path):
    with h5py.File(path, locking=False) as file:
        return {name: file[name][...] for name in file}


def assert_same(path, reference):
    found = contents(path)
    assert found.keys() == reference.keys()
    for name in found:
        assert found[name].tobytes() == reference[name].tobytes(), name


@pytest.fixture(autouse=True)
def interrupts():
    """As on a terminal, also where these tests run in the background of a shell, which ignores interrupts there."""
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, usual)


@pytest.fixture(scope="module")
def task(ridge):
    return Scan(ridge, GRID, FIXED, LADDER)


@pytest.fixture(scope="module")
def undisturbed(task, tmp_path_factory):
    path = tmp_path_factory.mktemp("undisturbed") / "scan.h5"
    task.run(path, workers=1)
    first = contents(path)
    task.retry(path, [Result.MAX_STEPS], Anderson(), workers=1)
    return first, contents(path)


def start(function, *arguments):
    """Run a function in a process of its own; its exit status is 0, or 7 after an error that prints as one line."""
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        function(*arguments)
        code = 0
    except StoreError as error:
        code = 7 if "\n" not in str(error) else 8
    except SystemExit as stop:
        code = stop.code
    finally:
        os._exit(code)


def exit_code(process):
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


@pytest.mark.parametrize("kills", [6, pytest.param(50, marks=pytest.mark.slow)])
def test_a_killed_scan_ends_with_the_same_values(task, undisturbed, tmp_path, monkeypatch, kills):
    monkeypatch.setattr(scan, "solve_points", slowly)
    path, rng = tmp_path / "scan.h5", np.random.default_rng(kills)
    first, last = undisturbed
    killed = complete = 0
    solved = np.zeros(GRID.shape, dtype=bool)
    while killed < kills:
        process = start(everything, task, path)
        time.sleep(rng.uniform(0, 10 / kills))
        os.kill(process, signal.SIGKILL)
        if exit_code(process) == 0:  # it was faster: once more from the beginning
            assert_same(path, last)
            path.unlink()
            solved[:] = False
            complete += 1
            continue
        killed += 1
        if not path.exists():
            continue
        assert status(path).counts  # it opens
        found = contents(path)
        now = found["result"] == Result.CONVERGED
        assert (solved <= now).all()
        solved = now
        for name in task.problem.values.names:
            wanted = np.where(found["rung"] > len(LADDER.rungs), last[name], first[name])
            assert found[name][now].tobytes() == wanted[now].tobytes(), name
    monkeypatch.undo()
    print(f"{killed} kills, {complete} runs that were faster")
    everything(task, path)
    assert_same(path, last)
    assert os.listdir(tmp_path) == ["scan.h5"]


def test_a_killed_creation_leaves_nothing_that_stays(task, undisturbed, tmp_path):
    (tmp_path / ".scan.h5.12345.tmp").write_text("of a process that was killed")
    (tmp_path / ".other.h5.12345.tmp").write_text("not ours")
    everything(task, tmp_path / "scan.h5")
    assert_same(tmp_path / "scan.h5", undisturbed[1])
    assert sorted(os.listdir(tmp_path)) == [".other.h5.12345.tmp", "scan.h5"]


def test_ctrl_c_writes_what_is_running_and_says_one_line(undisturbed, tmp_path, monkeypatch):
    monkeypatch.setattr(scan, "solve_points", partial(slowly, pause=0.2))
    (tmp_path / "scan.toml").write_text(CONFIG)
    path, said = tmp_path / "scan.h5", tmp_path / "stderr"
    monkeypatch.setattr(sys, "argv", ["replica", "scan", str(tmp_path / "scan.toml"), "--output", str(path)])

    def command():
        sys.stderr = open(said, "w", buffering=1)
        cli.main()

    process = start(command)
    while not path.exists() or status(path).counts[Result.PENDING] > 120:
        time.sleep(0.02)
    os.kill(process, signal.SIGINT)
    assert exit_code(process) == 130
    assert said.read_text().splitlines()[-1] == "replica: interrupted; run the same command again to go on"
    assert "Traceback" not in said.read_text()
    assert 0 < status(path).counts[Result.PENDING] < 121
    monkeypatch.undo()
    Scan(*_same_scan(), FIXED, LADDER).run(path)
    assert_same(path, undisturbed[0])


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_inside_a_finaliser_is_not_lost(tmp_path):
    """Python throws away what is raised there."""

    class Dying:
        def __del__(self):
            os.kill(os.getpid(), signal.SIGINT)
            for _ in range(1000):  # let the handler run here
                pass

    def progress(done, total):
        if 0 < done < total:
            Dying()

    usual = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        Scan(*_same_scan(), FIXED, LADDER).run(tmp_path / "scan.h5", workers=1, progress=progress)
    assert signal.getsignal(signal.SIGINT) is usual
    assert 0 < status(tmp_path / "scan.h5").counts[Result.PENDING]


def _same_scan():
    from replica.models import RidgeRegression

    return RidgeRegression(), GRID


def limit(size):
    """From now on this process cannot write beyond so many bytes of a file, as if the disk were full."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def test_a_disk_that_is_full_at_creation_leaves_nothing(task, tmp_path):
    def create():
        limit(20_000)
        task.run(tmp_path / "scan.h5")

    assert exit_code(start(create)) == 7
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("block", [1, 40, 57])
def test_a_disk_that_fills_up_in_a_run_loses_nothing(task, undisturbed, tmp_path, block):
    path, calls = tmp_path / "scan.h5", []

    def run():
        task.run(path, workers=2, progress=lambda *call: calls.append(call) or (len(calls) == block and limit(1000)))

    assert exit_code(start(run)) == 7
    pending = status(path).counts.get(Result.PENDING, 0)
    done = contents(path)["result"] == Result.CONVERGED
    assert (contents(path)["q"][done] == undisturbed[0]["q"][done]).all()
    report = task.run(path)
    assert (report.computed, report.computed + report.continued > 0) == (pending, True)
    assert_same(path, undisturbed[0])


def test_a_disk_that_is_full_when_a_copy_is_made_loses_nothing(task, undisturbed, tmp_path):
    path = tmp_path / "scan.h5"
    task.run(path)
    before = path.read_bytes()

    def retry():
        limit(len(before) // 2)
        task.retry(path, [Result.MAX_STEPS], Anderson())

    assert exit_code(start(retry)) == 7
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["scan.h5"]


@pytest.mark.slow
def test_a_small_disk_that_is_really_full(task, undisturbed, tmp_path):
    """A filesystem of its own; needs the right to mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("may not mount a filesystem")
    try:
        with pytest.raises(StoreError, match="GB are free"):
            Scan(task.problem, Grid(alpha=np.linspace(0.3, 3, 200), reg=np.logspace(-3, 0, 50)), FIXED).run(disk / "large.h5")
        assert not os.listdir(disk)
        # Little enough to pass that check, with texts and names still too much.
        (disk / "ballast").write_bytes(bytes(240_000))
        with pytest.raises(StoreError, match="is the disk full") as caught:
            task.run(disk / "scan.h5")
        assert "\n" not in str(caught.value)
        assert os.listdir(disk) == ["ballast"]
        (disk / "ballast").unlink()
        task.run(disk / "scan.h5")
        (disk / "ballast").write_bytes(bytes(os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize))
        with h5py.File(disk / "scan.h5", "r+") as file:  # as if it had been killed before the disk filled up
            file["result"][...] = Result.PENDING
        task.run(disk / "scan.h5")  # everything was allocated at creation
        assert_same(disk / "scan.h5", undisturbed[0])
        with pytest.raises(StoreError, match="is the disk full"):
            task.retry(disk / "scan.h5", [Result.MAX_STEPS], Anderson())
        assert_same(disk / "scan.h5", undisturbed[0])
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_second_writer_gets_one_line_and_the_first_goes_on(task, undisturbed, tmp_path, monkeypatch):
    monkeypatch.setattr(scan, "solve_points", slowly)
    path = tmp_path / "scan.h5"
    first = start(lambda: task.run(path, workers=1))
    while not path.exists():
        time.sleep(0.01)
    time.sleep(0.2)
    for overwrite in (False, True):
        with pytest.raises(StoreError, match="is being written by another process") as caught:
            task.run(path, overwrite=overwrite)
        assert "\n" not in str(caught.value)
    with pytest.raises(StoreError, match="is being written by another process"), edited_copy(path):
        raise AssertionError
    assert exit_code(first) == 0
    assert_same(path, undisturbed[0])


def test_of_several_that_create_a_file_at_once_one_writes_it(task, undisturbed, tmp_path, monkeypatch):
    monkeypatch.setattr(scan, "solve_points", slowly)
    path, begin = tmp_path / "scan.h5", time.monotonic() + 0.3

    def together():
        time.sleep(max(0, begin - time.monotonic()))
        task.run(path, workers=1)

    codes = [exit_code(p) for p in [start(together) for _ in range(5)]]
    assert set(codes) == {0, 7}  # more than one 0 if a process was so late that the file was complete
    assert_same(path, undisturbed[0])
    assert os.listdir(tmp_path) == ["scan.h5"]


@pytest.mark.parametrize("how", ["removed", "replaced"])
def test_a_file_that_is_taken_away_stops_its_writer(task, tmp_path, how):
    path = tmp_path / "scan.h5"

    def take_away(done, total):
        if done > 30 and path.exists():
            if how == "replaced":
                path.with_suffix(".new").write_bytes(b"another file")
                path.with_suffix(".new").replace(path)
            else:
                path.unlink()

    with pytest.raises(StoreError, match="was replaced or removed while this scan was writing"):
        task.run(path, workers=1, progress=take_away)
