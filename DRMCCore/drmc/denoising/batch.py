"""A folder of scans: each is done into OUT/<name>/; one that is refused or fails does not stop the rest.

What is done to a scan is a `BatchWork`: denoising, unless the caller names another.

Scans are done one after the other, or by `jobs` processes, each with a model of its own. Several processes
may be given the same OUT, on one machine or on machines that share the disk: a scan that another living
process has claimed (`staging.Claim`) is passed over and looked at again at the end, and what that process has
made by then is taken over. OUT/batch.csv has a row for every scan that any of them has ended.
"""

from __future__ import annotations

import os
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Protocol

from drmc import files
from drmc.denoising import batch_table, header_table, staging
from drmc.denoising.batch_members import Member
from drmc.denoising.batch_work import DENOISING, BatchWork
from drmc.denoising.finding import companions, find_scans, of_medium
from drmc.denoising.outputs import earlier_summary
from drmc.dicom.catalog import Catalog
from drmc.errors import CanceledError, DRMCError, InputError, OutputInUseError
from drmc.runtime.control import Cancel, Progress, raise_if_canceled
from drmc.runtime.progress import counting
from drmc.runtime.threads import limit_threads
from drmc.runtime.workers import run_in_processes
from drmc.texts import one_line

LOOK_AGAIN_S = 2.0  # between two looks at a scan that another process has claimed
LONGEST_WAIT_S = 3600.0  # for another process, while no scan ends
BY_ANOTHER = "done by another process"


class BatchObserver(Protocol):
    """What `run_batch` reports to while it works; drmc.runtime.progress has two of them.

    An observer may have `batch(done, total, seconds_left)` besides: scans that have ended, and an estimate
    for all that are left.
    """

    def scan(self, name: str, index: int, count: int) -> None:
        """The next scan starts."""

    def progress(self, done: float, total: int, seconds_left: float | None, counted: str) -> None:
        """How much of the present scan is done."""

    def outcome(self, scan: str, outcome: str, message: str) -> None:
        """A scan has ended."""


@dataclass(frozen=True)
class _Task:
    """One scan of a batch, so that another process can do it.

    `others`: whether other processes have the same batch, whose results since `since` (ISO, UTC) are taken
    over.
    """

    name: str
    index: int
    work: BatchWork
    request: Any
    resume: bool
    without_lesions: bool
    others: bool
    since: str


@dataclass(frozen=True)
class _Ended:
    """How a scan has ended: its row of the table, and its warnings.

    `claimed`: another process is at work on it. `by_another`: another process has done it, and its row says
    more.
    """

    row: dict[str, Any]
    warned: list[str]
    claimed: bool = False
    by_another: bool = False


def run_batch(
    request: Any,
    observer: BatchObserver,
    cancel: Cancel | None = None,
    *,
    scans: dict[str, Path] | None = None,
    resume: bool = False,
    headers: str | os.PathLike[str] | None = None,
    jobs: int = 1,
    catalog: Catalog | None = None,
    work: BatchWork = DENOISING,
) -> dict[str, Any]:
    """Denoises every scan of a folder, or does other work; `request` is of the kind that `work` takes.

    `scans` are name and path of each (default: `find_scans` of the input). OUT/batch.csv has one row per scan
    and is renewed after each; a table joins those of all scans (lesions.csv), and a page (cohort.html) shows
    them. With `resume`, a scan is skipped when OUT/<name> is complete and was made from the same content:
    scan, lesions, reference, model and settings. `headers`: a table of header values, one row a scan
    (drmc.denoising.header_table). `jobs`: how many processes. `catalog`, with checksums: what was read of
    DICOM files before. A row's `warnings` are the SUV warnings of its scan. Returns `scans` (the rows),
    `counts` (how many had which outcome), `output`, and `exit_code`: 0 all done, 1 some failed, 2 some
    refused, 130 canceled. Raises InputError when nothing at all can be done (no scan, no model, no output
    folder, header values for all scans at once).
    """
    output = Path(request.output)
    work.check(request)
    if jobs < 1:
        raise InputError(f"--jobs {jobs}: must be at least 1")
    catalog = catalog or Catalog(checksums=True)
    folder = of_medium(Path(request.input), catalog)
    scans = find_scans(folder) if scans is None else scans
    _check_scans(request, scans, work)
    given = {} if headers is None else header_table.read(headers, scans, folder)
    staging.check_output_folder(output, inputs=(folder, *scans.values()))
    if output.is_dir():
        staging.sweep_files(output)
    requests = _requests(request, scans, given, work)
    model = work.model(request)
    model.load()  # an unknown device or a damaged weight file refuses the batch, not scan after scan
    since = datetime.now(timezone.utc).isoformat(timespec="seconds")
    output.mkdir(parents=True, exist_ok=True)
    with Member(output) as member:
        tasks = [
            _Task(
                name,
                index,
                work,
                one,
                resume,
                request.lesions is not None and one.lesions is None,
                member.has_others(),
                since,
            )
            for index, (name, one) in enumerate(requests.items(), start=1)
        ]
        rows = _Batch(output, tasks, observer, cancel, member, work, model, jobs, catalog).run()
    counts = Counter(row["outcome"] for row in rows)
    codes = {"cancelled": 130, "failed": 1, "refused": 2}
    exit_code = next((code for outcome, code in codes.items() if counts[outcome]), 0)
    return {"output": str(output), "scans": rows, "counts": dict(counts), "exit_code": exit_code}


def _requests(
    request: Any, scans: dict[str, Path], given: Mapping[str, Mapping[str, str]], work: BatchWork
) -> dict[str, Any]:
    """The request of each scan, with what lies beside it and its header values."""
    beside = {name: companions(getattr(request, name), scans, f"--{name}") for name in work.companions}
    return {
        name: replace(
            request,
            input=path,
            output=Path(request.output) / name,
            **{companion: found[name] for companion, found in beside.items()},
            header=given.get(name, request.header),
        )
        for name, path in scans.items()
    }


def _check_scans(request: Any, scans: dict[str, Path], work: BatchWork) -> None:
    for option in work.of_one_scan:
        if getattr(request, option) is not None:
            raise InputError(f"--{option.replace('_', '-')}: is for one scan, leave it out in a batch")
    if not scans:
        raise InputError(
            f"{request.input}: no PET scan in this folder: give a folder with DICOM, NIfTI, NRRD or MHA"
        )
    if request.header and len(scans) > 1:
        raise InputError(
            f"--header {next(iter(request.header))}: would give all {len(scans)} scans of the batch the same "
            "value: give --headers TABLE.csv, one row a scan"
        )


class _Batch:
    """The work on a batch: who does the scans, and what is written after each."""

    def __init__(
        self,
        output: Path,
        tasks: Sequence[_Task],
        observer: BatchObserver,
        cancel: Cancel | None,
        member: Member,
        work: BatchWork,
        model: Any,
        jobs: int,
        catalog: Catalog,
    ):
        self._output, self._tasks, self._observer, self._cancel = output, tasks, observer, cancel
        self._catalog = catalog
        self._member, self._work, self._model, self._jobs = member, work, model, jobs
        self._ended: dict[str, _Ended] = {}
        self._begun: set[str] = set()
        self._why_claimed: dict[str, str] = {}
        self._started = time.perf_counter()

    def run(self) -> list[dict[str, Any]]:
        """Does all scans; returns the rows of those that have ended, in the order of the scans."""
        waiting = list(self._tasks)
        until = time.monotonic() + LONGEST_WAIT_S
        while waiting and not self._is_cancelled:
            claimed = self._in_turn(waiting) if self._jobs == 1 else self._by_jobs(waiting)
            if len(claimed) < len(waiting):
                until = time.monotonic() + LONGEST_WAIT_S
            waiting = [replace(task, others=True) for task in claimed]
            if waiting and not self._is_cancelled:
                if time.monotonic() > until:  # a disk that keeps no locks cannot show whether a process lives
                    for task in waiting:
                        self._end(task, _Ended(_row(task, "refused", self._why_claimed[task.name]), []))
                    break
                time.sleep(LOOK_AGAIN_S)
        rows = [self._ended[task.name].row for task in self._tasks if task.name in self._ended]
        with files.disk_full_as_error(self._output):
            table = batch_table.read(self._output / batch_table.NAME, self._work.table)
            self._work.write_page(self._output, table)
        return rows

    @property
    def _is_cancelled(self) -> bool:
        return any(ended.row["outcome"] == "cancelled" for ended in self._ended.values())

    def _in_turn(self, tasks: Sequence[_Task]) -> list[_Task]:
        """One scan after the other in this process; returns those that others have claimed."""
        claimed = []
        for task in tasks:
            if task.name not in self._begun:
                self._begun.add(task.name)
                self._observer.scan(task.name, task.index, len(self._tasks))
            task = replace(task, others=task.others or self._member.has_others())
            catalog = self._catalog.split(Path(task.request.input))
            progress = counting(self._observer, self._work.counted)
            ended = do_scan(task, self._model, progress, self._cancel, catalog)
            if ended.claimed:
                self._why_claimed[task.name] = ended.row["message"]
                claimed.append(task)
            else:
                self._end(task, ended)
            if self._is_cancelled:
                break
        return claimed

    def _by_jobs(self, tasks: Sequence[_Task]) -> list[_Task]:
        """Several scans at a time, in processes of their own; returns those that others have claimed."""
        claimed: list[_Task] = []
        left = {task.name: task for task in tasks}
        jobs = self._jobs
        while left:
            shares: dict[int, float] = {}
            present = list(left.values())

            def progress(index: int, share: float, shares: dict[int, float] = shares) -> None:
                raise_if_canceled(self._cancel)
                shares[index] = share
                self._report_progress(sum(shares.values()))

            def finished(
                index: int, ended: _Ended, shares: dict[int, float] = shares, present: list[_Task] = present
            ) -> None:
                task = left.pop(present[index].name)
                shares.pop(index, None)
                if ended.claimed:
                    self._why_claimed[task.name] = ended.row["message"]
                    claimed.append(task)
                else:
                    self._end(task, ended)
                raise_if_canceled(self._cancel)

            try:
                threads = max(1, (os.cpu_count() or 1) // jobs)
                run_in_processes(
                    _do_in_worker,
                    [(task, threads, self._model.sha256) for task in present],
                    jobs,
                    progress=progress,
                    finished=finished,
                )
            except CanceledError as error:
                self._sweep(left.values())
                if left:
                    task = next(iter(left.values()))
                    self._end(task, _Ended(_row(task, "cancelled", str(error)), []))
                break
            except DRMCError as error:  # a worker has died, and the others were ended with it
                self._sweep(left.values())
                if jobs == 1:
                    task = left.pop(next(iter(left)))
                    self._end(task, _Ended(_row(task, "failed", _fewer_jobs(str(error))), []))
                jobs = (
                    1  # most likely memory: the rest one by one, so that it is known which scan is at fault
                )
        return claimed

    def _sweep(self, tasks: Any) -> None:
        """Takes away what workers that were ended have left."""
        for task in tasks:
            try:
                with staging.Claim(Path(task.request.output)) as claim:
                    claim.take()
            except DRMCError:
                continue

    def _end(self, task: _Task, ended: _Ended) -> None:
        self._ended[task.name] = ended
        message = "; ".join(part for part in (ended.row["message"], _how_many(ended.warned)) if part)
        self._observer.outcome(task.name, ended.row["outcome"], message)
        mine = {name: one.row for name, one in self._ended.items()}
        theirs = [name for name, one in self._ended.items() if one.by_another]
        names = [task.name for task in self._tasks]
        with files.disk_full_as_error(self._output):
            form, keep = self._work.table, self._member.has_others()
            batch_table.write(self._output, names, mine, theirs, keep=keep, form=form)
        self._report_progress()

    def _report_progress(self, part: float = 0.0) -> None:
        """Says how far the batch is, and how long it will take by what the scans done have taken."""
        report: Callable[..., None] | None = getattr(self._observer, "batch", None)
        if report is None:
            return
        outcomes = [one.row["outcome"] for one in self._ended.values()]
        computed = sum(outcome != "skipped" for outcome in outcomes) + part
        left = len(self._tasks) - len(outcomes) - part
        seconds = (time.perf_counter() - self._started) / computed * left if computed else None
        report(len(outcomes) + part, len(self._tasks), seconds)


def do_scan(
    task: _Task,
    model: Any,
    progress: Progress | None,
    cancel: Cancel | None,
    catalog: Catalog | None = None,
) -> _Ended:
    """Does one scan of a batch; nothing is raised but KeyboardInterrupt."""
    started = time.perf_counter()
    outcome, message = "done", ""
    summary: Mapping[str, Any] | None = None
    claimed = by_another = False
    output = Path(task.request.output)
    catalog = catalog or Catalog(checksums=True)
    try:
        raise_if_canceled(cancel)
        why: str | None = ""
        if task.resume or (task.others and _is_new(output, task.since)):
            why = task.work.why_again(task.request, model, catalog)
        if why is None:
            outcome, summary = "skipped", earlier_summary(output)
            by_another = task.others and _is_new(output, task.since)
            message = BY_ANOTHER if by_another else ""
        else:
            summary = task.work.run(
                task.request, progress, cancel, name=task.name, model=model, catalog=catalog
            )
            missing = task.work.without_lesions if task.without_lesions else ""
            reasons = (f"computed again: {why}" if why else "", missing)
            message = "; ".join(part for part in reasons if part)
    except OutputInUseError as error:
        claimed, outcome, message = True, "refused", str(error)
    except CanceledError as error:
        outcome, message = "cancelled", str(error)
    except InputError as error:
        outcome, message = "refused", str(error)
    except Exception as error:  # one scan's fault must not cost the rest of the night
        outcome = "failed"
        message = str(error) if isinstance(error, DRMCError) else f"{type(error).__name__}: {error}"
        if os.environ.get("DRMC_DEBUG") == "1":
            traceback.print_exc()
    warned = [] if summary is None else task.work.warnings(summary)
    row = _row(task, outcome, message, time.perf_counter() - started, summary)
    return _Ended(row, warned, claimed, by_another)


def _row(
    task: _Task,
    outcome: str,
    message: str,
    seconds: float = 0.0,
    summary: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    request = task.request
    return {
        "scan": task.name,
        "outcome": outcome,
        "seconds": round(seconds, 1),
        "input": str(request.input),
        "output": str(request.output),
        "message": one_line(message),
        **task.work.table.facts(summary),
    }


def _is_new(output: Path, since: str) -> bool:
    """Whether a result was made since a moment (ISO, UTC)."""
    earlier = earlier_summary(output) or {}
    return str(earlier.get("created", "")) >= since


_model: Any = None  # a worker's own


def _do_in_worker(given: tuple[_Task, int, str], report: Callable[[float], None]) -> _Ended:
    """`do_scan` in a worker process, whose model is loaded once; it computes with `threads` threads."""
    global _model
    task, threads, sha256 = given
    if _model is None:
        limit_threads(threads)
        _model = task.work.model(task.request)
        if _model.sha256 != sha256:
            raise InputError(f"{_model.entry.path}: was changed while the batch ran: start it again")
    return do_scan(task, _model, lambda done, total, left: report(done / max(total, 1)), None)


def _fewer_jobs(message: str) -> str:
    return message.replace("the finished cases are kept, ", "").replace("fewer --workers", "fewer --jobs")


def _how_many(warned: Sequence[str]) -> str:
    """How many SUV warnings a scan has, and the first of them."""
    if not warned:
        return ""
    more = f" (and {len(warned) - 1} more)" if len(warned) > 1 else ""
    return f"SUV warning: {one_line(warned[0])}{more}"
