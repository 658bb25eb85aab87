"""A process with all its descendants, found and ended as one.

PythonSlicer is a launcher and torchrun starts its workers in sessions of their own: neither ending the direct
child nor ending its process group reaches every process that does the work, so the tree is read from the
system's table.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple


class RunningProcess(NamedTuple):
    """A process: its id, and its start time, since the system reuses ids."""

    pid: int
    started: str


def processTree(pid: int) -> set[RunningProcess]:
    """The process and all its living descendants; empty on Windows, where taskkill finds the tree itself.

    Empty too for an id that is none of a started child (0, 1, negative): those have the whole system below
    them.
    """
    table = _processTable() if pid > 1 else {}
    found: set[int] = set()
    waiting = [pid]
    while waiting:
        current = waiting.pop()
        if current in table and current not in found:
            found.add(current)
            waiting += [child for child, (parent, _) in table.items() if parent == current]
    return {RunningProcess(one, table[one][1]) for one in found}


def living(processes: Iterable[RunningProcess]) -> set[RunningProcess]:
    """The processes that still run; zombies do not count."""
    table = _processTable()
    return {process for process in processes if table.get(process.pid, (0, None))[1] == process.started}


def askToStop(processes: Iterable[RunningProcess]) -> None:
    """Sends SIGTERM to each; nothing on Windows, which has no such request for a process without a window."""
    _signalEach(processes, signal.SIGTERM)


def endTree(pid: int, remembered: Iterable[RunningProcess] = ()) -> None:
    """Ends the process, its descendants and the `remembered` ones at once, without asking.

    `remembered` is an earlier `processTree`: the children of a process that has ended already are not found
    any more.
    """
    if sys.platform == "win32" and pid > 1:
        subprocess.run(
            ["taskkill", "/T", "/F", "/PID", str(pid)],
            capture_output=True,
            check=False,
            creationflags=subprocess.CREATE_NO_WINDOW,
        )
    elif sys.platform != "win32":
        _signalEach(processTree(pid) | living(remembered), signal.SIGKILL)


def _signalEach(processes: Iterable[RunningProcess], number: int) -> None:
    if sys.platform == "win32":
        return
    for process in processes:
        try:
            os.kill(process.pid, number)
        except (ProcessLookupError, PermissionError):
            pass


def _processTable() -> dict[int, tuple[int, str]]:
    """Parent and start time of every running process by its id."""
    if sys.platform == "win32":
        return {}
    if sys.platform.startswith("linux"):
        return _processTableOfLinux()
    return _processTableOfPs()


def _processTableOfLinux() -> dict[int, tuple[int, str]]:
    table = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            # The name, in parentheses, may hold anything; after it come state, parent, ... and the start time
            # as 20th.
            fields = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] not in "ZX":
            table[int(folder.name)] = (int(fields[1]), fields[19])
    return table


def _processTableOfPs() -> dict[int, tuple[int, str]]:
    listing = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid=,stat=,lstart="], capture_output=True, text=True, check=False
    ).stdout
    table = {}
    for line in listing.splitlines():
        fields = line.split(None, 3)
        if len(fields) == 4 and not fields[2].startswith("Z"):
            table[int(fields[0])] = (int(fields[1]), fields[3].strip())
    return table
