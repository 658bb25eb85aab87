"""A real run that is stopped by another command: while it waits for the server, for a site, and under way."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.engine.federated_processes import command, prepare, wait_for
from support.engine.federations import SITES, small_plan
from support.engine.small_training import PATIENCE, free_port

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="NVIDIA FLARE needs Linux or macOS")
LONG = {"steps": 100_000, "validate_every": 100_000}  # it does not end before it is stopped


@dataclass
class Stopped:
    """Exit codes and printed lines by command, and what was told before the second site joined."""

    codes: dict[str, int | None]
    lines: dict[str, str]
    alone: str
    status: str


@pytest.fixture(scope="module")
def stopped(tmp_path_factory) -> Stopped:
    """The second site joins when the first has waited; then the run is stopped, and asked about."""
    folder = tmp_path_factory.mktemp("stopped")
    plan = small_plan(port=free_port(), min_sites=2, patience_minutes=0, training=LONG)
    prepare(folder, plan, "kits")
    running: dict[str, subprocess.Popen] = {}
    codes: dict[str, int | None] = {}
    try:
        stop_while_it_waits(folder, "for the server", "waiting for the server", running, codes)
        running["server"] = command(folder, "server", "serve", "kits/server")
        running["hospital-a"] = command(folder, "hospital-a", "join", "kits/hospital-a", "hospital-a.json")
        wait_for(folder, "hospital-a", "connected to")
        stop_while_it_waits(folder, "for a site", "waiting for hospital-b", running, codes)
        running["lead"] = command(folder, "lead", "start", "kits/lead")
        wait_for(folder, "lead", "waiting for hospital-b")
        time.sleep(5)  # its patience has ended, but two are needed
        alone = (folder / "lead.txt").read_text()
        running["hospital-b"] = command(folder, "hospital-b", "join", "kits/hospital-b", "hospital-b.json")
        for site in SITES:
            wait_for(folder, site, "round 0, step")
        codes["stop"] = command(folder, "stop", "stop", "kits/lead").wait(PATIENCE)
        codes["lead"] = running["lead"].wait(PATIENCE)
        status = wait_for_nothing(folder)
        codes |= {site: running[site].poll() for site in SITES}
        for name in (*SITES, "server"):
            running[name].send_signal(signal.SIGTERM)
            running[name].wait(PATIENCE)
    finally:
        for process in running.values():
            process.kill()
    return Stopped(codes, {path.stem: path.read_text() for path in folder.glob("*.txt")}, alone, status)


def stop_while_it_waits(folder: Path, name: str, text: str, running: dict, codes: dict) -> None:
    """Starts a run, and stops it by another command once it says for what it waits."""
    running[name] = command(folder, name, "start", "kits/lead")
    wait_for(folder, name, text)
    stop = f"stop {name}"
    codes[stop] = command(folder, stop, "stop", "kits/lead").wait(PATIENCE)
    codes[name] = running[name].wait(PATIENCE)


def wait_for_nothing(folder: Path) -> str:
    """What `status` prints when no run is under way any more."""
    end = time.monotonic() + PATIENCE
    while True:
        done = subprocess.run(
            [sys.executable, "-m", "drmc", "federate", "status", "kits/lead"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=True,
        )
        if "no run is under way" in done.stdout:
            return done.stdout
        assert time.monotonic() < end, done.stdout


def test_a_run_that_needs_two_sites_says_for_whom_it_waits(stopped: Stopped):
    assert stopped.alone.splitlines()[-1] == "note: waiting for hospital-b"
    assert "started" not in stopped.alone and "goes on without" not in stopped.alone
    assert "note: started with hospital-a, hospital-b\n" in stopped.lines["lead"]


@pytest.mark.parametrize("name", ["for the server", "for a site"])
def test_a_stop_ends_the_command_that_waits(stopped: Stopped, name: str):
    assert (stopped.codes[f"stop {name}"], stopped.codes[name]) == (0, 130), stopped.lines
    assert stopped.lines[f"stop {name}"] == "the run is stopped; 'drmc federate start' continues it\n"
    last = stopped.lines[name].splitlines()[-1]
    assert last == "drmc: the run was stopped by 'drmc federate stop'; 'start' continues it"
    assert "started" not in stopped.lines[name]


def test_a_stop_ends_the_command_that_follows(stopped: Stopped):
    assert (stopped.codes["stop"], stopped.codes["lead"]) == (0, 130), stopped.lines
    assert "the run is stopped; 'drmc federate start' continues it" in stopped.lines["stop"]
    *before, last = stopped.lines["lead"].splitlines()
    assert last == "drmc: the run was stopped by 'drmc federate stop'; 'start' continues it"
    assert {line.split()[0] for line in before} <= {"note:", *map(str, range(LONG["steps"]))}
    assert "has left the run" not in stopped.lines["lead"]


def test_the_sites_wait_for_the_next_run(stopped: Stopped):
    assert [stopped.codes[site] for site in SITES] == [None, None], stopped.lines
    for site in SITES:
        assert f"{site:<24} connected" in stopped.status
        assert "failed" not in stopped.lines[site]
