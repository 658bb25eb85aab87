"""A Python that has the engine loaded: started like an interpreter, it runs `-m drmc ...` in a fork.

Most of a short run of the engine is the import of PyTorch, two seconds of processor time. Here a server
imports it once, and `executable()` is a script that hands its arguments, environment, folder and streams to
the server and ends as the fork ends. What is forked is the command as it is; only the start of the
interpreter is not tested, so that tests of process trees and some from end to end start a real one (the mark
`real_engine`).
"""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

TESTING = Path(__file__).resolve().parents[1]
PRELOADED = (
    "torch",
    "SimpleITK",
    "pydicom",
    "drmc.cli.denoise",
    "drmc.cli.models",
    "drmc.cli.quantify",
    "drmc.cli.segment",
    "drmc.cli.suv",
    "drmc.denoising.batch",
    "drmc.denoising.pipeline",
    "drmc.inference.denoiser",
    "drmc.organs.segmenter",
    "drmc.segmentation.pipeline",
)
FORWARDED = (signal.SIGTERM, signal.SIGINT)
# Runs without site-packages: it starts within a hundredth of a second.
CLIENT = """\
#!{python} -ISE
import json, os, signal, socket, sys
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
for number in {forwarded!r}:
    signal.signal(number, lambda number, _: server.send(bytes([number])))
request = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode("utf-8", "surrogateescape")
socket.send_fds(server, [len(request).to_bytes(8, "little")], [0, 1, 2])
server.sendall(request)
os.close(0)
code = server.recv(16)
code = int(code) if code else -signal.SIGKILL
if code < 0:
    signal.signal(-code, signal.SIG_DFL) if code != -signal.SIGKILL else None
    os.kill(os.getpid(), -code)
os._exit(code)
"""

_server: subprocess.Popen | None = None
_folder: tempfile.TemporaryDirectory | None = None


def executable() -> str:
    """The script to start instead of Python; the first call in a process starts its server. Linux only."""
    global _server, _folder
    if not sys.platform.startswith("linux"):
        return sys.executable
    if _folder is None:
        _folder = tempfile.TemporaryDirectory(prefix="drmc-preloaded-")
        script = Path(_folder.name) / "python"
        script.write_text(
            CLIENT.format(
                python=sys.executable, address=_address(), forwarded=[int(one) for one in FORWARDED]
            )
        )
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
        atexit.register(stop)
    if _server is None or _server.poll() is not None:
        if _server is not None:
            print(f"the preloaded engine ended ({_server.returncode}): it is started again", file=sys.stderr)
        _server = _started()
    return str(Path(_folder.name) / "python")


def _address() -> str:
    assert _folder is not None
    return str(Path(_folder.name) / "server")


def _started() -> subprocess.Popen:
    """The server, which listens already when this returns."""
    Path(_address()).unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(_address())
        listener.listen(64)
        return subprocess.Popen(
            [sys.executable, "-m", "support.preloaded", str(listener.fileno())],
            cwd=TESTING,
            stdin=subprocess.PIPE,  # closed when this process ends, however it ends
            pass_fds=[listener.fileno()],
            start_new_session=True,  # a signal to the group of a test's processes is not for the server
        )


def stop() -> None:
    """Ends the server and what it runs."""
    global _server, _folder
    if _server is not None:
        _server.stdin.close()
        _server.wait(60)
        _folder.cleanup()
    _server = _folder = None


def running() -> list[int]:
    """Ids of the forks that run now."""
    if _server is None:
        return []
    try:
        return [
            int(one) for one in Path(f"/proc/{_server.pid}/task/{_server.pid}/children").read_text().split()
        ]
    except OSError:
        return []


def serve(listener: socket.socket) -> None:
    """Forks for each client until standard input ends."""
    clients: dict[socket.socket, int] = {}
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake)
    while True:
        ready, _, _ = select.select([0, woken, listener, *clients], [], [])
        for one in ready:
            if one == 0:
                for process in clients.values():
                    _kill(process)
                return
            if one == woken:
                os.read(woken, 4096)
                _report(clients)
            elif one is listener:
                client, _ = listener.accept()
                process = _fork(client, (listener, *clients))
                if process is None:
                    client.close()
                else:
                    clients[client] = process
            elif one in clients:
                _forward(one, clients[one])


def _forward(client: socket.socket, process: int) -> None:
    """Sends the signal that a client has got to its fork, or ends the fork of a client that has ended."""
    try:
        number = client.recv(1)
    except OSError:
        number = b""
    if number:
        os.kill(process, number[0])
    else:
        _kill(process)


def _kill(process: int) -> None:
    """Ends a fork and what it has started."""
    try:
        os.killpg(process, signal.SIGKILL)
    except ProcessLookupError:
        os.kill(process, signal.SIGKILL)


def _report(clients: dict[socket.socket, int]) -> None:
    """Tells the clients whose forks have ended."""
    for client, process in list(clients.items()):
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            try:
                client.sendall(str(os.waitstatus_to_exitcode(status)).encode())
            except OSError:
                pass  # the client was ended first
            client.close()
            del clients[client]


def _fork(client: socket.socket, others: tuple[socket.socket, ...]) -> int | None:
    """Starts what the client asks for; the id of the process, None if the client ended while it asked."""
    size, streams, _, _ = socket.recv_fds(client, 8, 3)
    data, length = b"", int.from_bytes(size, "little")
    while len(data) < length and (part := client.recv(length - len(data))):
        data += part
    if not length or len(data) < length:
        for stream in streams:
            os.close(stream)
        return None
    process = os.fork()
    if process:
        for stream in streams:
            os.close(stream)
        return process
    code = 1
    try:
        os.setsid()
        signal.set_wakeup_fd(-1)
        for number in (*FORWARDED, signal.SIGCHLD):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        for one in (client, *others):
            one.close()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        code = _run(*json.loads(data.decode("utf-8", "surrogateescape")))
    finally:
        os._exit(code)


def _run(arguments: list[str], folder: str, environment: dict[str, str]) -> int:
    """What `python -m drmc ...` does once its imports are done; its exit code."""
    if arguments[:2] != ["-m", "drmc"]:
        os.environ.clear()
        os.environ.update(environment)
        os.chdir(folder)
        os.execv(sys.executable, [sys.executable, *arguments])
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["drmc", *arguments[2:]]
    errors = "surrogateescape" if environment.get("PYTHONUTF8") == "1" else "strict"
    sys.stdin = open(0, encoding="utf-8", errors=errors, closefd=False)
    sys.stdout = open(1, "w", encoding="utf-8", errors=errors, closefd=False)
    sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(write_through=True)
    from drmc.cli.main import main

    try:
        code = main()
    except SystemExit as exit_:
        code = exit_.code if isinstance(exit_.code, int) else exit_.code is not None
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            code = code or 120
    return int(code)


if __name__ == "__main__":
    import gc
    import importlib

    for name in PRELOADED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    serve(socket.socket(fileno=int(sys.argv[1])))
