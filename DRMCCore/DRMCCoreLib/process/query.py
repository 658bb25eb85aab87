"""A short command of the engine that answers with facts, run in a child process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from DRMCCoreLib.process.runner import Job, engineCommand


def ask(answer: Callable[[dict[str, Any] | None, str], Any], *arguments: object) -> Job | None:
    """Runs `drmc ARGUMENTS`; then calls `answer` with its result, or with None and the sentence why there is none.

    Returns the job, to end it with the panel; after a cancel nothing is told. None where it cannot be run at all.
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
