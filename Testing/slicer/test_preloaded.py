"""The preloaded engine of the tests outlives what tests do to it."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest
from support import preloaded
from support.slicer.processes import drmc

pytestmark = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="Linux only")


def run_models() -> None:
    done = drmc("models")
    assert done.returncode == 0, done.stderr
    assert "drmc-small-2" in done.stdout


def test_a_client_that_ends_while_it_asks_leaves_the_server():
    address = Path(preloaded.executable()).with_name("server")
    for said in (b"", (100).to_bytes(8, "little"), (100).to_bytes(8, "little") + b"[]"):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(address))
            client.sendall(said)
    run_models()
    assert preloaded.running() == []


def test_a_server_that_was_killed_is_started_again(capfd):
    preloaded.executable()
    server = preloaded._server
    os.kill(server.pid, signal.SIGKILL)
    server.wait()
    run_models()
    assert "started again" in capfd.readouterr().err
