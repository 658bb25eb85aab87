"""What the lead sees and does: who is there, where the run is, starting it and starting it again."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from drmc.errors import CanceledError, DRMCError, InputError
from drmc.federation.connection import pause, reached, wait_for_server
from drmc.federation.job import write_job
from drmc.federation.kits import read_kit
from drmc.federation.layout import END, GROUP, LEAD, STOPPED
from drmc.federation.waiting import STOPPED_TEXT, Waiting, stop_waiting
from drmc.files import read_json_object, write_json
from drmc.runtime.cancellation import Cancellation
from drmc.runtime.control import Cancel

Tell = Callable[[dict[str, Any]], None]
_POLL_SECONDS = 2.0
_ATTEMPTS = 3  # jobs in a row that end in the same round although all sites are there
_LEAVE_SECONDS = 3.0
_MISSES = 2  # answers in a row without a site that took part, then it has left
_LOST = 5  # answers in a row without the job that was running, then the server has lost it
_LEFT = "a site or the server has left"
_SILENT = ("no_reply", "error")
_DONE, _STOPPED = "FINISHED:COMPLETED", "FINISHED:ABORTED"


@dataclass
class Status:
    """Where a federation is.

    Attributes:
        sites: by name, whether each is connected.
        job: what NVIDIA FLARE calls the run that is under way, "" if none is.
        taking_part: the sites where that job is running.
        run: what the server says of it: `task`, `round`, `rounds`, `step`, `validation`, `failed`.
    """

    sites: dict[str, bool]
    job: str = ""
    taking_part: set[str] = field(default_factory=set)
    run: dict[str, Any] = field(default_factory=dict)


class Lead:
    """The lead's connection to the server; a context manager."""

    def __init__(self, kit: Path):
        """Opens the lead's kit.

        Raises:
            InputError: it is not a lead's, or the server does not accept it.
        """
        self._kit = Path(kit)
        self.plan, _ = read_kit(self._kit, LEAD)
        self._session: Any = None

    def __enter__(self) -> Lead:
        """Connects.

        Raises:
            DRMCError: the server cannot be reached.
        """
        self._connect()
        return self

    def __exit__(self, _: object, error: BaseException | None, *__: object) -> None:
        with contextlib.suppress(Exception), _quiet():
            self._session.close()
        _leave_in_time(0 if error is None else getattr(error, "exit_code", 1))

    def status(self) -> Status:
        """Who is connected and where the run is.

        Raises:
            DRMCError: the server cannot be reached any more.
        """
        info = self._ask(lambda session: session.get_system_info())
        known = [client.name for client in info.client_info]
        # The server keeps a site on its list for a minute: only an answer shows that it is there.
        answers = self._ask(lambda session: session.get_client_job_status()) or [] if known else []
        there = {one["client_name"] for one in answers if one["status"] not in _SILENT}
        sites = {site: site in there for site in self.plan.sites}
        job = info.job_info[0].job_id if info.job_info else ""
        taking_part = {one["client_name"] for one in answers if job and one.get("job_id") == job}
        return Status(sites, job, taking_part, self._run(job) if job else {})

    def submit(self, sites: list[str]) -> str:
        """Starts the run, or what is left of it, with these sites; returns its job's name."""
        with tempfile.TemporaryDirectory(prefix="drmc-") as folder:
            job = write_job(self.plan, sites, Path(folder))
            return self._ask(lambda session: session.submit_job(str(job)))

    def outcome(self, job: str) -> str:
        """The state of a job in NVIDIA FLARE's words."""
        return str(self._ask(lambda session: session.get_job_meta(job)).get("status", ""))

    def stop(self, job: str) -> None:
        """Ends a job for good: a `start` with the same kit does not take that for a fault.

        Raises:
            DRMCError: the server did not end it.
        """
        mark = self._kit / STOPPED
        with contextlib.suppress(OSError):  # of a folder that cannot be written the server's word must do
            write_json(mark, {"job": job})
        try:
            self._ask(lambda session: session.abort_job(job))
        except DRMCError:
            mark.unlink(missing_ok=True)
            raise

    def was_stopped(self, job: str) -> bool:
        """Whether a command with this kit has stopped the job."""
        with contextlib.suppress(InputError):
            return read_json_object(self._kit / STOPPED).get("job") == job
        return False

    def abort(self, job: str) -> None:
        """Ends a job; the run stays where it is, after its last round."""
        with contextlib.suppress(DRMCError):
            self._ask(lambda session: session.abort_job(job))

    def _run(self, job: str) -> dict[str, Any]:
        with contextlib.suppress(DRMCError):  # it has just ended, or has not begun
            stats = self._ask(lambda session: session.show_stats(job, "server"))
            return dict((stats.get("server") or {}).get(GROUP) or {})
        return {}

    def _connect(self) -> None:
        from nvflare.fuel.flare_api.flare_api import new_secure_session

        where = f"{self.plan.server}:{self.plan.port}"
        if not reached(self._kit, self.plan):
            raise DRMCError(f"there is no server at {where}: start it with 'drmc federate serve'")
        try:
            with _quiet():
                self._session = new_secure_session(self.plan.lead, str(self._kit.resolve()))
        except Exception as error:
            raise DRMCError(f"the server at {where} does not let the lead in ({error})") from None

    def _ask(self, question: Callable[[Any], Any]) -> Any:
        """Asks the server, once more with a new session if the first has ended."""
        from nvflare.fuel.flare_api.api_spec import NoConnection, SessionClosed

        for attempt in (1, 2):
            try:
                with _quiet():
                    return question(self._session)
            except (NoConnection, SessionClosed, ConnectionError, TimeoutError) as error:
                if attempt == 2:
                    raise DRMCError(f"the server does not answer ({error})") from None
                self._connect()
            except Exception as error:
                raise DRMCError(f"the server refuses: {error}") from None
        raise AssertionError


def run_federation(kit: Path, tell: Tell) -> None:
    """Starts the run and follows it to its end, also over losses of sites and of the server.

    It waits until all sites are connected. If some stay away for `patience_minutes` and `min_sites` are
    there, it goes on with those. All of this is told.

    Args:
        kit: the lead's kit.
        tell: receives what happens: "notice", "round" and "validation".

    Raises:
        InputError: the kit is refused.
        CanceledError: it was stopped, and the job with it; started again, the run continues.
        DRMCError: the server does not let the lead in, or a round fails again and again.
    """
    plan, _ = read_kit(Path(kit), LEAD)
    with Cancellation() as canceled, Waiting(kit, canceled) as waiting:
        wait_for_server(kit, plan, tell, waiting)
        with Lead(kit) as lead:
            _Follower(lead, tell, canceled, waiting).follow()


class _Follower:
    def __init__(self, lead: Lead, tell: Tell, canceled: Cancel, waiting: Waiting):
        self._lead, self._tell, self._canceled, self._stops = lead, tell, canceled, waiting
        self._told: dict[str, Any] = {}
        self._waiting: tuple[str, ...] | None = None
        self._since = time.monotonic()
        self._ends: list[int | None] = []

    def follow(self) -> None:
        job = self._status(self._stops).job
        while True:
            if not job:
                self._stops.begin()
                job = self._begin()
            self._stops.end()
            outcome = self._until_end(job)
            if outcome == _DONE:
                return
            if outcome == _STOPPED:
                raise CanceledError(STOPPED_TEXT)
            self._judge(outcome)
            job = ""

    def _begin(self) -> str:
        """Waits for the sites and starts the job."""
        plan, self._since, self._waiting = self._lead.plan, time.monotonic(), None
        while True:
            sites = self._status(self._stops).sites
            there, away = [s for s in sites if sites[s]], tuple(s for s in sites if not sites[s])
            over = time.monotonic() - self._since >= 60 * plan.patience_minutes
            if not away or (plan.min_sites and over and len(there) >= plan.min_sites):
                break
            if away != self._waiting:
                self._waiting = away
                limit = f"; after {plan.patience_minutes:g} minutes it goes on with at least {plan.min_sites}"
                can_miss = 0 < plan.min_sites < len(plan.sites)
                self._note(f"waiting for {', '.join(away)}{limit if can_miss else ''}")
            pause(_POLL_SECONDS, self._stops)
        if away:
            self._note(f"goes on without {', '.join(away)}")
        job = self._lead.submit(there)
        self._note(f"started with {', '.join(there)}")
        return job

    def _until_end(self, job: str) -> str:
        """Follows the job to its end, and ends it when a site has left it, which cannot come back into it.

        Of a job that was stopped the sites leave one by one, and the server last.
        """
        seen: set[str] = set()
        missed, lost = 0, 0
        try:
            while True:
                status = self._status(self._canceled)
                if status.job == job:
                    self._report(status.run)
                    seen |= status.taking_part
                    missed = missed + 1 if seen - status.taking_part else 0
                    ending = status.run.get("task") == END or (missed and self._lead.was_stopped(job))
                    if missed >= _MISSES and not ending:
                        self._note(f"{', '.join(sorted(seen - status.taking_part))} has left the run")
                        self._lead.abort(job)
                        return _LEFT
                elif (outcome := self._outcome(job)).startswith("FINISHED"):
                    if outcome != _DONE and self._lead.was_stopped(job):
                        return _STOPPED
                    return _LEFT if missed and outcome != _DONE else outcome
                elif seen and (lost := lost + 1) >= _LOST:  # a server that was killed does not know its jobs
                    self._note("the server was started again")
                    return _LEFT
                pause(_POLL_SECONDS, self._canceled)
        except CanceledError:
            self._lead.abort(job)
            raise

    def _outcome(self, job: str) -> str:
        with contextlib.suppress(DRMCError):  # the server is away, which the next status waits for
            return self._lead.outcome(job)
        return ""

    def _report(self, run: dict[str, Any]) -> None:
        before, self._told = self._told, run
        if "round" in run and run["round"] != before.get("round"):
            self._tell({"event": "round", **{key: run[key] for key in ("round", "rounds", "step")}})
        if run.get("validation") and run["validation"] != before.get("validation"):
            self._tell({"event": "validation", **run["validation"]})
        if run.get("failed") and run["failed"] != before.get("failed"):
            self._note(run["failed"])

    def _judge(self, outcome: str) -> None:
        """Whether to start it once more."""
        reached_round, failed = self._told.get("round"), self._told.get("failed", "")
        self._ends = [end for end in self._ends if end == reached_round]
        self._ends += [reached_round] if outcome != _LEFT else []
        if len(self._ends) >= _ATTEMPTS:
            raise DRMCError(
                f"the run ended {_ATTEMPTS} times in round {reached_round} ({failed or outcome}): correct "
                "that and start it again, it continues"
            )
        self._note(f"the run was interrupted after round {reached_round or 0}; it goes on from there")

    def _status(self, canceled: Cancel) -> Status:
        """As `Lead.status`; waits while the server is away."""
        told = False
        while True:
            try:
                return self._lead.status()
            except InputError:
                raise
            except DRMCError as error:
                if not told:
                    self._note(f"{error}; waiting for it")
                    told = True
                pause(_POLL_SECONDS, canceled)

    def _note(self, message: str) -> None:
        self._tell({"event": "notice", "message": message})


def _leave_in_time(code: int) -> None:
    """Ends the process when Python ends it, which threads of a closed session may hold up for ever."""
    begun = threading.Event()

    def leave() -> None:
        begun.wait()
        time.sleep(_LEAVE_SECONDS)
        os._exit(code)

    threading.Thread(target=leave, daemon=True, name="drmc-leave").start()
    # Called before the threads of pools are waited for; `atexit` comes after them.
    threading._register_atexit(begun.set)  # type: ignore[attr-defined]


@contextmanager
def _quiet() -> Iterator[None]:
    """NVIDIA FLARE prints and logs for a console of its own."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(before)


def stop_run(kit: Path) -> bool:
    """Ends the run that is under way, or a `start` that waits; it continues when it is started again.

    Returns:
        Whether there was one. A `start` that waits is seen only where it has this very kit, no copy of it.

    Raises:
        InputError: the kit is refused.
        DRMCError: there is no server, or it did not end the run.
    """
    read_kit(Path(kit), LEAD)
    if stop_waiting(kit):
        return True
    with Lead(kit) as lead:
        job = lead.status().job
        if job:
            lead.stop(job)
        return bool(job)
