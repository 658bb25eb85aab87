"""A short query command of the engine, run in a child process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from DRMCCoreLib.process.runner import Job, engineCommand


def ask(answer: Callable[[dict[str, Any] | None, str], Any], *arguments: object) -> Job | None:
    """Runs `drmc ARGUMENTS`; then calls `answer` with its result, or with None and the reason.

    Returns the job, to end it with the panel, or None if it cannot be started. A canceled job does not
    answer.
    """

    def onFinished(job: Job) -> None:
        if not job.cancelRequested:
            answer(job.result if job.exitCode == 0 else None, job.message)

    try:
        job = Job(engineCommand(*arguments, "--progress", "json"))
    except RuntimeError as error:
        answer(None, str(error))
        return None
    job.finished.connect(onFinished)
    job.start()
    return job
