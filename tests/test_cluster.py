"""A scan on a cluster of processes gives the same file as threads here, also if a worker is killed on the way."""

import os
import signal
import subprocess
import sys

import h5py
import numpy as np
import pytest
from click.testing import CliRunner

from replica.cli import cli
from solvers import ClusterError, Grid, Ladder, Newton, Result, Scan, cluster
from solvers.outcomes import status

distributed = pytest.importorskip("distributed")

FIXED = {"noise": 0.1}
GRID = Grid(alpha=np.linspace(0.3, 3, 14), reg=np.logspace(-3, 0, 11))


@pytest.fixture(scope="module")
def local():
    """Two worker processes of one thread, each with a nanny that replaces it."""
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50
    ) as started:
        yield started


def contents(path):
    with h5py.File(path) as file:
        return {name: file[name][...].tobytes() for name in file}


def test_a_cluster_gives_the_same_bits_as_threads(ridge, local, tmp_path):
    scan = Scan(ridge, GRID, FIXED, Ladder(max_steps=8))  # few steps, so that points are continued from neighbours
    here = scan.run(tmp_path / "here.h5", workers=2)
    there = scan.run(tmp_path / "there.h5", scheduler=local.scheduler_address)
    assert there.continued == here.continued > 0
    assert contents(tmp_path / "there.h5") == contents(tmp_path / "here.h5")


def test_the_command_line_scans_on_a_cluster_and_resumes_there(local, tmp_path):
    config = tmp_path / "scan.toml"
    config.write_text(
        'model = "ridge"\nparameters = { noise = 0.1 }\n[grid]\n'
        "alpha = { linspace = [0.3, 3, 14] }\nreg = { logspace = [-3, 0, 5] }\n"
    )

    def scanned(name, *more):
        done = CliRunner().invoke(cli, ["scan", str(config), "--output", str(tmp_path / name), *more])
        assert done.exit_code == 0, done.output
        return done.output

    scanned("here.h5", "--workers", "1")
    assert ": 70 points in" in scanned("there.h5", "--scheduler", local.scheduler_address)
    assert contents(tmp_path / "there.h5") == contents(tmp_path / "here.h5")
    with h5py.File(tmp_path / "there.h5", "r+") as file:
        file["result"][3:9] = Result.PENDING.value
    assert ": 30 points in" in scanned("there.h5", "--scheduler", local.scheduler_address)
    assert contents(tmp_path / "there.h5") == contents(tmp_path / "here.h5")


@pytest.mark.slow
def test_a_worker_that_is_killed_is_survived(srf, local, tmp_path):
    scan = Scan(srf, Grid(eta=np.linspace(0.5, 3, 150), reg=[0.01, 0.1, 1.0]), {"alpha0": 5, "alpha": 2}, Newton())
    with distributed.Client(local, set_as_default=False) as client:
        before = client.run(os.getpid)
        victims = list(before.values())

        def kill_one(done, total):
            if done > 0.1 * total and victims:
                os.kill(victims.pop(), signal.SIGKILL)
                victims.clear()

        report = scan.run(tmp_path / "there.h5", scheduler=local.scheduler_address, progress=kill_one)
        assert not victims
        client.wait_for_workers(2, timeout=60)
        assert len(set(before.values()) & set(client.run(os.getpid).values())) == 1
    assert report.counts == {Result.CONVERGED: 450}
    scan.run(tmp_path / "here.h5", workers=1)
    assert contents(tmp_path / "there.h5") == contents(tmp_path / "here.h5")


@pytest.mark.slow
def test_a_scheduler_that_is_lost_stops_the_scan_and_nothing_finished(srf, tmp_path):
    code = (
        "from distributed import LocalCluster\n"
        "if __name__ == '__main__':\n"
        "    c = LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None)\n"
        "    print(c.scheduler_address if c.scheduler_address.startswith('tcp') else c.scheduler.address, flush=True)\n"
        "    input()\n"
    ).replace("processes=False", "processes=False, protocol='tcp'")
    other = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    address = other.stdout.readline().strip()
    scan = Scan(srf, Grid(eta=np.linspace(0.5, 3, 150), reg=[0.01, 0.1, 1.0]), {"alpha0": 5, "alpha": 2}, Newton())
    path = tmp_path / "scan.h5"

    def kill(done, total):
        if done > 0.1 * total:
            other.kill()

    with pytest.raises(ClusterError, match="run again to go on"):
        scan.run(path, scheduler=address, progress=kill)
    other.communicate()
    counts = status(path).counts
    assert counts[Result.CONVERGED] >= 45
    assert set(counts) == {Result.CONVERGED, Result.PENDING}
    assert scan.run(path, workers=2).computed == counts[Result.PENDING]
    scan.run(tmp_path / "here.h5", workers=1)
    assert contents(path) == contents(tmp_path / "here.h5")


def test_a_worker_with_other_versions_is_refused(monkeypatch):
    assert cluster._alike(cluster.fingerprint(), max, 1, 2) == 2
    with pytest.raises(ClusterError, match="install the same on both"):
        cluster._alike("python 2.7", max, 1, 2)


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "nonsense", "ftp://x:1", "tcp://"])
def test_addresses_without_a_scheduler_are_refused_in_one_line(ridge, tmp_path, monkeypatch, address):
    monkeypatch.setattr(cluster, "PATIENCE", (0.5, 0.5))
    with pytest.raises(ClusterError, match="no scheduler answers") as caught:
        Scan(ridge, GRID, FIXED).run(tmp_path / "scan.h5", scheduler=address)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_workers_and_scheduler_exclude_each_other(ridge, tmp_path):
    with pytest.raises(ValueError, match="one of the two"):
        Scan(ridge, GRID, FIXED).run(tmp_path / "scan.h5", workers=2, scheduler="tcp://127.0.0.1:9")
