"""The end of standard input as a request to stop, also on Windows."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
from drmc.runtime import cancellation


def answers(*values):
    """A function that gives these values one after the other, and raises those that are exceptions."""
    left = list(values)

    def answer(*_arguments):
        value = left.pop(0)
        if isinstance(value, Exception):
            raise value
        return value

    return answer


def test_on_windows_nothing_is_read_that_is_not_there(monkeypatch):
    """A read that waits on a pipe would hold up the import of PyTorch there (numpy issue 24290)."""
    asked, read = [], []
    waiting = answers(0, 0, 3, 0, 9000, BrokenPipeError())
    monkeypatch.setattr(cancellation, "_bytes_waiting", lambda: asked.append(1) or waiting(), raising=False)
    monkeypatch.setattr(cancellation.time, "sleep", lambda _seconds: None)
    monkeypatch.setattr(cancellation.os, "read", lambda _file, count: read.append(count) or b"x" * count)
    cancel = cancellation.Cancellation()
    cancel._wait_for_end_of_input()
    assert (len(asked), read) == (6, [3, 4096])
    assert cancel()


@pytest.mark.parametrize(
    ("found", "wanted"),
    [((0, 0), 0), ((7, 0), 7), (BrokenPipeError(), BrokenPipeError), (OSError("Incorrect function"), 4096)],
)
def test_what_windows_says_of_standard_input(monkeypatch, found, wanted):
    """A pipe with or without bytes, its end, and a file or console, which may be read as ever."""
    monkeypatch.setitem(sys.modules, "msvcrt", SimpleNamespace(get_osfhandle=lambda file: 100 + file))
    monkeypatch.setitem(sys.modules, "_winapi", SimpleNamespace(PeekNamedPipe=answers(found)))
    if isinstance(wanted, int):
        assert cancellation._bytes_in_pipe() == wanted
    else:
        with pytest.raises(wanted):
            cancellation._bytes_in_pipe()
