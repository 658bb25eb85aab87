"""The SUV decision of the engine before a run: found in a child process, while Slicer stays responsive."""

from __future__ import annotations

import enum
import logging
import shutil
import tempfile
from pathlib import Path
from typing import Any

import slicer
from drmc.errors import DRMCError, InputError

from DRMCCoreLib.process.runner import Job, engineCommand
from DRMCCoreLib.process.signals import Signal


class InspectionState(enum.Enum):
    """Where a question is. REFUSED: a run would be refused; FAILED: unknown."""

    NONE = "nothing was asked"
    ASKING = "asking"
    KNOWN = "known"
    REFUSED = "refused"
    FAILED = "failed"


class SUVInspection:
    """Runs `drmc suv` on the header of what a run would read of a node.

    Nothing larger than a header is written for it. Whether the node's voxels still are those of its file or
    series shows when a run starts.

    After `changed`: `state`; `decision` (as `drmc suv --json`) if KNOWN, `message` (the sentence of the
    command line) if REFUSED or FAILED, and for a DICOM input `headerValues` (what the header says where a
    value can be given by hand) and `candidates` (reference times) in either case. A new question ends the
    earlier one, whose answer is dropped.
    """

    def __init__(self) -> None:
        self.changed = Signal()
        self._job: Job | None = None
        self._ending: set[Job] = set()  # canceled, but their processes may still be there
        self._set(InspectionState.NONE)

    def ask(
        self,
        volumeNode,
        *,
        suv: str | float | None = None,
        acceptRule: str | None = None,
        headerValues: dict[str, str] | None = None,
    ) -> None:
        """Asks; the answer comes by `changed`. The arguments are those of `DRMCDenoiseLogic.process`."""
        from DRMCCoreLib.nodes.volumes import bodyPercentile, headerInput

        self._cancel()
        scratch = Path(tempfile.mkdtemp(prefix="DRMC-", dir=slicer.app.temporaryPath))
        try:
            scan = headerInput(volumeNode, scratch, suv)
            percentile = bodyPercentile(volumeNode)
            byHand = [part for item in (headerValues or {}).items() for part in ("--header", "=".join(item))]
            known = [] if percentile is None else [f"--body-percentile={percentile!r}"]
            accepted = ["--accept-suv", acceptRule] if acceptRule else []
            options = ["--header-only", *scan.options(), *known, *byHand, *accepted]
            job = Job(engineCommand("suv", scan.path, *options, "--progress", "json"))
        except (OSError, RuntimeError, DRMCError) as error:
            shutil.rmtree(scratch, ignore_errors=True)
            refused = isinstance(error, InputError)
            self._emit(InspectionState.REFUSED if refused else InspectionState.FAILED, message=str(error))
            return
        details: dict[str, Any] = {}
        job.event.connect(lambda event: details.update(event) if event["event"] == "error" else None)
        job.finished.connect(lambda job: self._onFinished(job, scratch, details))
        self._job = job
        self._emit(InspectionState.ASKING)
        job.start()

    def forget(self) -> None:
        """Ends a question that is open and drops any answer."""
        self._cancel()
        self._emit(InspectionState.NONE)

    def end(self) -> None:
        """Ends a question that is open and waits until all processes are gone; no signal is emitted."""
        self._cancel()
        for job in list(self._ending):
            job.end()

    def _cancel(self) -> None:
        job, self._job = self._job, None
        if job is not None:
            self._ending.add(job)
            job.cancel()

    def _onFinished(self, job: Job, scratch: Path, details: dict[str, Any]) -> None:
        shutil.rmtree(scratch, ignore_errors=True)
        self._ending.discard(job)
        if job is not self._job:
            return
        self._job = None
        if job.exitCode == 0:
            self._emit(InspectionState.KNOWN, decision=job.result)
            return
        message = details.get("message", job.message)
        if job.exitCode == InputError.exit_code and details:
            self._emit(InspectionState.REFUSED, message=message, decision=details)
        else:
            logging.warning(f"DRMC: the SUV could not be looked up: {job.log or message}")
            self._emit(InspectionState.FAILED, message=message)

    def _emit(self, state: InspectionState, **facts: Any) -> None:
        self._set(state, **facts)
        self.changed.emit()

    def _set(self, state: InspectionState, message: str = "", decision: dict[str, Any] | None = None) -> None:
        self.state, self.message = state, message
        self.decision: dict[str, Any] = decision or {}

    @property
    def headerValues(self) -> dict[str, str]:
        """What the DICOM header says, by keyword; empty where the input is no DICOM or unknown."""
        return self.decision.get("stated") or {}

    @property
    def candidates(self) -> list[dict[str, Any]]:
        """The reference times that were found, as in SUVDecision."""
        return self.decision.get("candidates") or []

    @property
    def acceptable(self) -> str:
        """What the user would have to vouch for, as words with commas; empty where that would not help."""
        return self.decision.get("accept") or ""

    @property
    def unitsAreUnknown(self) -> bool:
        """Whether the input was refused because the units of its voxels are unknown."""
        return bool(self.decision.get("unknown_units"))
