"""What `drmc federate serve` and `join` do: they keep a kit's process alive and tell what happens."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from drmc.errors import DRMCError, InputError
from drmc.federation import service
from drmc.federation.common_model import LOG
from drmc.federation.connection import pause, wait_for_server
from drmc.federation.kits import read_kit, secure_server, secure_site
from drmc.federation.layout import END, EVENTS, RUN, SERVER, SITE
from drmc.federation.plan import Plan
from drmc.federation.site import SiteSettings
from drmc.files import write_json
from drmc.locks import try_lock
from drmc.runtime.cancellation import Cancellation

Tell = Callable[[dict[str, Any]], None]
_POLL_SECONDS = 0.5
_RETRY_SECONDS = 3.0
_SETTLED_SECONDS = 60.0  # a process that lived so long was not wrong from its start
_ATTEMPTS = 3


class _Tail:
    """The new lines of a file of JSON records."""

    def __init__(self, path: Path):
        self._path = path
        self._place = path.stat().st_size if path.is_file() else 0

    def read(self) -> list[dict[str, Any]]:
        """The whole lines since the last call."""
        if not self._path.is_file():
            return []
        with self._path.open("rb") as file:
            file.seek(self._place)
            whole, newline, _ = file.read().rpartition(b"\n")
        self._place += len(whole) + len(newline)
        return [json.loads(line) for line in whole.splitlines() if line.strip()]


def serve(kit: Path, tell: Tell) -> None:
    """Runs the consortium's server until it is stopped.

    Args:
        kit: the server's kit.
        tell: receives what happens: the records of `rounds.jsonl`, and notices.

    Raises:
        InputError: the kit is not a server's, is in use, or the port is.
        CanceledError: it was stopped.
        DRMCError: the server ended by itself.
    """
    kit = Path(kit)
    plan, name = read_kit(kit, SERVER)
    with _only_one(kit):
        secure_server(kit)
        _port_is_free(plan)
        (kit / RUN).mkdir(exist_ok=True)
        tell(_notice(f"the server of {plan.name} listens at port {plan.port}; Ctrl+C stops it"))
        _attend(SERVER, kit, name, _Tail(kit / RUN / LOG), tell)


def join(kit: Path, config: Path, tell: Tell) -> Path:
    """Takes part as a site until the training has finished, or it is stopped.

    Args:
        kit: the site's kit.
        config: the site's own settings, see `SiteSettings`.
        tell: receives what happens: the records of the site's log, and notices.

    Returns:
        The site's output folder, when the training has finished.

    Raises:
        InputError: kit, configuration, dataset or certificate are refused.
        CanceledError: it was stopped; the run continues when the site joins again.
        DRMCError: the process ended by itself several times.
    """
    kit = Path(kit)
    plan, site = read_kit(kit, "site")
    settings = SiteSettings.read(config)
    training, validation = settings.cases(plan.sites[site])
    counts = [len(found[plan.sites[site]]) for found in (training, validation)]
    with _only_one(kit):
        secure_site(kit)
        write_json(kit / SITE, asdict(settings))
        (kit / EVENTS).unlink(missing_ok=True)
        tell(
            _notice(
                f"{site}: {counts[0]} patients to learn from, {counts[1]} to validate with; they stay here"
            )
        )
        with Cancellation() as canceled:
            wait_for_server(kit, plan, tell, canceled)
        _attend("site", kit, site, _Tail(kit / EVENTS), tell)
    return Path(settings.output)


def _attend(kind: str, kit: Path, name: str, tail: _Tail, tell: Tell) -> None:
    """Keeps the process alive and tells its records; returns when a site has finished."""
    with Cancellation() as canceled:
        process, begun, failures = service.start(kind, kit, name), time.monotonic(), 0
        try:
            while True:
                for record in tail.read():
                    tell(record)
                    if record["event"] == END:
                        _let_end(process, canceled)
                        return
                if process.poll() is not None:
                    failures = 0 if time.monotonic() - begun > _SETTLED_SECONDS else failures + 1
                    if kind == SERVER or failures >= _ATTEMPTS:
                        raise DRMCError(f"NVIDIA FLARE ended by itself: {kit / service.SERVICE_LOG} says why")
                    tell(_notice("the connection ended; joining again"))
                    pause(_RETRY_SECONDS, canceled)
                    process, begun = service.start(kind, kit, name), time.monotonic()
                pause(_POLL_SECONDS, canceled)
        finally:
            service.stop(process)


def _let_end(process: subprocess.Popen, canceled: Cancellation) -> None:
    """Waits until the server knows that this site has ended its part."""
    end = time.monotonic() + _SETTLED_SECONDS
    while service.has_children(process) and time.monotonic() < end:
        pause(_POLL_SECONDS, canceled)
    pause(_RETRY_SECONDS, canceled)


class _only_one:
    """A lock on the kit, for one command at a time."""

    def __init__(self, kit: Path):
        self._kit = kit

    def __enter__(self) -> None:
        self._handle = os.open(self._kit / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
        if try_lock(self._handle) is False:
            os.close(self._handle)
            raise InputError(f"{self._kit}: another command uses this kit: stop it first")

    def __exit__(self, *_: object) -> None:
        os.close(self._handle)


def _port_is_free(plan: Plan) -> None:
    import socket

    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", plan.port))
        except OSError as error:
            raise InputError(
                f"port {plan.port} cannot be opened ({error.strerror}): end the program that has it"
            ) from None


def _notice(message: str) -> dict[str, Any]:
    return {"event": "notice", "message": message}
