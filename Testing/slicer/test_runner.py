"""The runner of child processes: JSON lines, exit codes, and that a canceled job leaves nothing running."""

from __future__ import annotations

import gc
import os
import sys
import time
import weakref
from pathlib import Path

import host
import pytest
from support import REPOSITORY
from support.slicer.processes import Puppet, processesOf

sys.path.append(str(REPOSITORY / "DRMCDenoise"))


@pytest.fixture(params=["plain", "qt"])
def makeJob(request, application):
    """Makes a Job with each of the two processes, of Python code."""
    from DRMCCoreLib.process import processes
    from DRMCCoreLib.process.runner import Job

    if request.param == "qt" and host.missingQt() is not None:
        request.getfixturevalue("qtSlicer")
    kind = {"plain": processes.PlainProcess, "qt": processes.QtProcess}[request.param]
    return lambda code, *arguments, **keywords: Job(
        [sys.executable, "-c", code, *arguments], process=kind(), **keywords
    )


def test_progress_result_and_other_lines(makeJob):
    job = makeJob(
        "import json, sys\n"
        "print(json.dumps({'event': 'progress', 'done': 1, 'total': 4, 'seconds_left': None}))\n"
        "print('{no json'); print('3 plain'); print('last ' + chr(0x3bc), file=sys.stderr)\n"
        "print(json.dumps({'event': 'result', 'output': 'there'}), end='')"
    )
    progress, texts, finished = [], [], []
    job.progress.connect(lambda *values: progress.append(values))
    job.text.connect(texts.append)
    job.finished.connect(finished.append)
    job.start()
    assert job.wait(seconds=120)
    assert progress == [(1, 4, None)]
    assert sorted(texts) == ["3 plain", "last \u03bc", "{no json"]
    assert job.result == {"output": "there"} and job.exitCode == 0 and finished == [job]
    with pytest.raises(RuntimeError, match="once"):
        job.start()


def test_a_line_that_comes_in_pieces_is_one_line(makeJob):
    job = makeJob(
        "import os, time\n"
        'for piece in (b\'{"event": "result", "text": "\\xce\', b\'\\xbc\', b\'"}\\n\'):\n'
        "    os.write(1, piece); time.sleep(0.05)"
    )
    job.start()
    job.wait(seconds=120)
    assert job.result == {"text": "\u03bc"}


def test_the_error_event_is_the_message(makeJob):
    job = makeJob(
        "import json, sys\n"
        "print(json.dumps({'event': 'error', 'message': 'no dose', 'exit_code': 2}))\n"
        "print('trace', file=sys.stderr)\n"
        "sys.exit(2)"
    )
    job.start()
    job.wait(seconds=120)
    assert (job.exitCode, job.message, job.log) == (2, "no dose", "trace")


def test_a_crash_says_its_last_line(makeJob):
    job = makeJob("import os, sys\nprint('before the end', file=sys.stderr, flush=True)\nos.abort()")
    job.start()
    job.wait(seconds=120)
    assert job.exitCode == 1 and job.message.startswith("before the end")


def test_a_program_that_is_not_there(makeJob, application):
    from DRMCCoreLib.process.runner import Job

    job = makeJob("")
    missing = Job(["/there/is/no/such/program"], process=type(job._process)())
    missing.start()
    assert missing.wait(seconds=120) and missing.exitCode == 1
    assert missing.message.startswith("/there/is/no/such/program: ")


def test_the_engine_is_on_the_path_of_the_child_only(makeJob, monkeypatch, tmp_path):
    (tmp_path / "torch.py").write_text("raise ImportError('a file of the working folder')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", "earlier")
    before = dict(os.environ)
    job = makeJob(
        "import json, os, drmc; path = os.environ['PYTHONPATH']; "
        "print(json.dumps({'event': 'result', 'path': path, 'drmc': drmc.__file__}))"
    )
    job.start()
    job.wait(seconds=120)
    assert job.result["path"].split(os.pathsep) == [str(REPOSITORY / "DRMCCore"), "earlier"]
    assert Path(job.result["drmc"]).parent == REPOSITORY / "DRMCCore" / "drmc"
    assert dict(os.environ) == before


STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if sys.argv[2] != "0":
    # As torchrun does with its workers: in a session of its own.
    code, depth, mark = sys.argv[1:]
    command = [sys.executable, "-c", code, code, str(int(depth) - 1), mark]
    subprocess.Popen(command, start_new_session=True)
else:
    print("all there", flush=True)
time.sleep(300)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("how", ["cancel", "end"])
def test_a_whole_tree_that_ignores_the_request_is_ended(makeJob, tmp_path, how):
    mark = f"mark-{os.getpid()}-{tmp_path.name}"
    job = makeJob(STUBBORN, STUBBORN, "2", mark, graceSeconds=0.5)
    texts = []
    job.text.connect(texts.append)
    job.start()
    while "all there" not in texts:
        assert not job.wait(seconds=0.2)
    assert len(processesOf(mark)) == 3
    getattr(job, how)()
    assert job.wait(seconds=20)
    assert job.exitCode == 130 and job.message == "canceled"
    deadline = time.monotonic() + 10.0
    while processesOf(mark) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert processesOf(mark) == []


def test_a_child_that_stops_when_its_input_ends_needs_no_force(makeJob):
    job = makeJob(
        "import signal, sys\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('ready', flush=True)\n"
        "sys.stdin.read(); sys.exit(130)",
        graceSeconds=60.0,
    )
    job.text.connect(lambda line: job.cancel())
    job.start()
    assert job.wait(seconds=50) and job.exitCode == 130


@pytest.mark.parametrize(("exitCode", "seen"), [(0, 0), (1, 130), (130, 130)])
def test_what_a_cancel_makes_of_the_exit_code(application, exitCode, seen):
    from DRMCCoreLib.process.runner import Job

    puppet = Puppet()
    job = Job(["engine"], process=puppet, environment={"MORE": "1"})
    job.start()
    assert puppet.started[0] == ["engine"] and puppet.started[1]["MORE"] == "1"
    job.cancel()
    assert not puppet.inputIsOpen and job.isRunning() and job.cancelRequested
    puppet.finished.emit(exitCode)
    assert (job.exitCode, job.isRunning()) == (seen, False)


def test_a_qt_event_loop_alone_is_enough(qtSlicer):
    from DRMCCoreLib.process.runner import Job

    job = Job([sys.executable, "-c", 'print(\'{"event": "result", "is": 1}\')'])
    job.start()
    deadline = time.monotonic() + 120
    while job.isRunning() and time.monotonic() < deadline:
        qtSlicer.app.processEvents()
    assert job.result == {"is": 1}


def test_a_job_that_has_ended_keeps_nothing_alive(qtSlicer):
    """PythonQt keeps what is connected to a signal as long as there is the object that emits it.

    Python's garbage collector does not see that, so each run would leave its volumes behind.
    """
    from DRMCCoreLib.process.processes import QtProcess
    from DRMCCoreLib.process.runner import Job
    from PySide6.QtCore import QCoreApplication, QEvent
    from shiboken6 import isValid

    process = QtProcess()
    job = Job([sys.executable, "-c", ""], process=process)
    qtObjects = [process._process, process._timer]
    job.start()
    assert job.wait(seconds=120) and job.exitCode == 0
    QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    assert not any(isValid(one) for one in qtObjects)
    assert not job.isRunning() and not process.isRunning() and process.processId() == 0
    ended = weakref.ref(job)
    del job, process
    gc.collect()
    assert ended() is None
