"""The two ways to run a child process: through QProcess in Slicer, through subprocess where there is no Qt.

Both keep the protocol of `runner.Process`. There are no worker threads in Slicer: its Qt event loop starves
them.
"""

from __future__ import annotations

import codecs
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

from DRMCCoreLib.process.signals import Signal

try:
    import qt
except ImportError:
    qt = None

TICK_MILLISECONDS = 200


class LineReader:
    """Cuts a stream of bytes into lines of text; a line may come in pieces, and so may a character."""

    def __init__(self, emit) -> None:
        self._emit = emit
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._rest = ""

    def feed(self, data: bytes) -> None:
        """Emits every line that is complete now, without its end."""
        *lines, self._rest = (self._rest + self._decoder.decode(data)).split("\n")
        for line in lines:
            self._emit(line.rstrip("\r"))

    def finish(self) -> None:
        """Emits what is left at the end of the stream, if anything."""
        rest = self._rest + self._decoder.decode(b"", final=True)
        self._rest = ""
        if rest:
            self._emit(rest.rstrip("\r"))


class QtProcess:
    """A child process through QProcess: its output arrives in Slicer's event loop, or while `pump` waits."""

    def __init__(self) -> None:
        self.outputLine = Signal()
        self.errorLine = Signal()
        self.tick = Signal()
        self.finished = Signal()
        self._output = LineReader(self.outputLine.emit)
        self._error = LineReader(self.errorLine.emit)
        self._done = False
        self._process = qt.QProcess()
        self._process.readyReadStandardOutput.connect(self._readOutput)
        self._process.readyReadStandardError.connect(self._readError)
        self._process.finished.connect(self._onFinished)
        self._process.errorOccurred.connect(self._onErrorOccurred)
        self._timer = qt.QTimer()
        self._timer.setInterval(TICK_MILLISECONDS)
        self._timer.timeout.connect(self._onTimeout)

    def start(self, command: Sequence[str], environment: dict[str, str]) -> None:
        """Starts the command with `environment` added to Slicer's own."""
        own = qt.QProcessEnvironment.systemEnvironment()
        for name, value in environment.items():
            own.insert(name, value)
        self._process.setProcessEnvironment(own)
        self._timer.start()
        self._process.start(command[0], list(command[1:]))

    def processId(self) -> int:
        """The operating system's id of the child, 0 while there is none."""
        return 0 if self._done else int(self._process.processId())

    def isRunning(self) -> bool:
        """Whether the child has been started and `finished` has not been emitted."""
        return not self._done and self._process.state() != qt.QProcess.NotRunning

    def closeInput(self) -> None:
        """Ends the child's standard input."""
        self._process.closeWriteChannel()

    def pump(self, seconds: float) -> None:
        """Waits until the child has ended, `seconds` at most; what it writes meanwhile is emitted."""
        self._process.waitForFinished(max(1, int(1000 * seconds)))
        self.tick.emit()

    def _readOutput(self) -> None:
        self._output.feed(bytes(self._process.readAllStandardOutput().data()))

    def _readError(self) -> None:
        self._error.feed(bytes(self._process.readAllStandardError().data()))

    def _onTimeout(self) -> None:
        self.tick.emit()

    def _onFinished(self) -> None:
        crashed = self._process.exitStatus() == qt.QProcess.CrashExit
        self._finish(1 if crashed else int(self._process.exitCode()))

    def _onErrorOccurred(self) -> None:
        if self._process.error() == qt.QProcess.FailedToStart:
            self.errorLine.emit(f"{self._process.program()}: {self._process.errorString()}")
            self._finish(1)

    def _finish(self, exitCode: int) -> None:
        if self._done:
            return
        self._timer.stop()
        self._readOutput()
        self._readError()
        self._output.finish()
        self._error.finish()
        self._done = True
        self.finished.emit(exitCode)
        # PythonQt keeps what is connected, and with it the job and the volumes of its run, as long as there
        # is the object that emits; not now, since it still does.
        for one in (self._process, self._timer):
            one.deleteLater()


class PlainProcess:
    """A child process through subprocess, for Python without Qt: its output is emitted while `pump` waits."""

    def __init__(self) -> None:
        self.outputLine = Signal()
        self.errorLine = Signal()
        self.tick = Signal()
        self.finished = Signal()
        self._output = LineReader(self.outputLine.emit)
        self._error = LineReader(self.errorLine.emit)
        self._process: subprocess.Popen[bytes] | None = None
        self._pieces: queue.Queue[tuple[LineReader, bytes]] = queue.Queue()
        self._open = 0

    def start(self, command: Sequence[str], environment: dict[str, str]) -> None:
        """Starts the command with `environment` added to this process's own, in a session of its own."""
        windows = sys.platform == "win32"
        try:
            self._process = subprocess.Popen(
                list(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**os.environ, **environment},
                start_new_session=not windows,
                creationflags=subprocess.CREATE_NO_WINDOW if windows else 0,
            )
        except OSError as error:
            self.errorLine.emit(f"{command[0]}: {error.strerror}")
            self.finished.emit(1)
            return
        for stream, reader in ((self._process.stdout, self._output), (self._process.stderr, self._error)):
            self._open += 1
            threading.Thread(target=self._read, args=(stream, reader), daemon=True).start()

    def processId(self) -> int:
        """The operating system's id of the child, 0 while there is none."""
        return 0 if self._process is None else self._process.pid

    def isRunning(self) -> bool:
        """Whether the child has been started and `finished` has not been emitted."""
        return self._process is not None

    def closeInput(self) -> None:
        """Ends the child's standard input."""
        if self._process is not None and self._process.stdin is not None:
            try:
                self._process.stdin.close()
            except OSError:
                pass

    def pump(self, seconds: float) -> None:
        """Waits until the child has ended, `seconds` at most; what it writes meanwhile is emitted."""
        deadline = time.monotonic() + seconds
        while self._process is not None:
            self._emitPieces(min(0.05, max(0.0, deadline - time.monotonic())))
            # A grandchild may hold the pipes open after the child has ended: the child's end counts.
            if self._process.poll() is not None:
                self._finish()
            elif time.monotonic() >= deadline:
                break
        self.tick.emit()

    def _read(self, stream, reader: LineReader) -> None:
        while data := stream.read1(65536):
            self._pieces.put((reader, data))
        stream.close()
        self._pieces.put((reader, b""))

    def _emitPieces(self, seconds: float) -> None:
        try:
            reader, data = self._pieces.get(timeout=seconds) if seconds > 0 else self._pieces.get_nowait()
            while True:
                self._open -= not data
                reader.feed(data)
                reader, data = self._pieces.get_nowait()
        except queue.Empty:
            pass

    def _finish(self) -> None:
        deadline = time.monotonic() + 1.0
        while self._open and time.monotonic() < deadline:
            self._emitPieces(0.05)
        self._output.finish()
        self._error.finish()
        self.closeInput()
        process, self._process = self._process, None
        # A child that a signal has ended has a negative code here.
        self.finished.emit(process.returncode if process.returncode >= 0 else 1)


def createProcess():
    """A process for the program that this runs in: QtProcess where Qt is, else PlainProcess."""
    return QtProcess() if hasattr(qt, "QProcess") else PlainProcess()
