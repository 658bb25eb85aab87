"""What the lead's `start` does when sites or the server fall out; the server is played by a script."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from itertools import chain, repeat

import pytest
from drmc.errors import CanceledError, DRMCError
from drmc.federation import consortium
from drmc.federation.consortium import Status, _Follower
from drmc.federation.layout import END
from drmc.federation.waiting import Waiting, stop_waiting
from support.engine.federations import SITES, small_plan

BOTH, ONE = dict.fromkeys(SITES, True), {"hospital-a": True, "hospital-b": False}
DONE = "FINISHED:COMPLETED"


def running(number: int, *, sites=BOTH, **run) -> Status:
    """A job that has averaged `number` rounds, with the sites that are there."""
    there = {site for site, connected in sites.items() if connected}
    return Status(sites, "job", there, {"round": number, "rounds": 3, "step": 2 * number, **run})


class Played:
    """A lead whose server says what is written; a text is the end of the job, an error is raised."""

    def __init__(self, script: Iterable[Status | str | DRMCError], **plan):
        self.plan = small_plan(**plan)
        self.submitted: list[list[str]] = []
        self.aborted = 0
        self.stopped = False
        self._script: Iterator = iter(script)
        self._outcome = "RUNNING"

    def status(self) -> Status:
        said = next(self._script)
        if isinstance(said, DRMCError):
            raise said
        if isinstance(said, str):
            self._outcome = said
            return Status(BOTH)
        self._outcome = "RUNNING"
        return said

    def outcome(self, job: str) -> str:
        return self._outcome

    def submit(self, sites: list[str]) -> str:
        self.submitted.append(sites)
        return "job"

    def abort(self, job: str) -> None:
        self.aborted += 1

    def was_stopped(self, job: str) -> bool:
        return self.stopped


@pytest.fixture
def follow(monkeypatch, tmp_path):
    monkeypatch.setattr(consortium, "_POLL_SECONDS", 0.0)
    told: list[dict] = []

    def run(lead: Played, canceled=lambda: False) -> list[str]:
        told.clear()
        with Waiting(tmp_path, canceled) as waiting:
            _Follower(lead, told.append, canceled, waiting).follow()
        return [record["message"] for record in told if record["event"] == "notice"]

    return run


def test_it_waits_for_all_and_ends_with_the_run(follow):
    lead = Played([Status(ONE), Status(ONE), Status(ONE), Status(BOTH), running(0), running(3), DONE])
    assert follow(lead) == ["waiting for hospital-b", "started with hospital-a, hospital-b"]
    assert lead.submitted == [list(SITES)]


def test_it_goes_on_with_enough_sites_when_patience_ends(follow):
    lead = Played([Status(ONE), Status(ONE), running(3, sites=ONE), DONE], min_sites=1, patience_minutes=0)
    assert follow(lead) == ["goes on without hospital-b", "started with hospital-a"]
    assert lead.submitted == [["hospital-a"]]


def test_a_site_that_leaves_ends_the_round_which_is_taken_again(follow):
    left = [running(1), running(1, sites=ONE), running(1, sites=ONE)]
    lead = Played([Status(BOTH), Status(BOTH), *left, Status(ONE), Status(BOTH), running(3), DONE])
    told = follow(lead)
    assert told[1:4] == [
        "hospital-b has left the run",
        "the run was interrupted after round 1; it goes on from there",
        "waiting for hospital-b",
    ]
    assert lead.aborted == 1 and len(lead.submitted) == 2


def test_a_single_missing_answer_is_no_leaving(follow):
    lead = Played([Status(BOTH), Status(BOTH), running(1), running(1, sites=ONE), running(2), DONE])
    assert len(follow(lead)) == 1 and not lead.aborted


def test_a_server_that_was_started_again_gets_the_run_again(follow):
    lost = [DRMCError("there is no server at x:1"), *[Status(BOTH)] * 5]
    lead = Played([Status(BOTH), Status(BOTH), running(1), *lost, Status(BOTH), running(1), DONE])
    told = follow(lead)
    assert told[1:3] == ["there is no server at x:1; waiting for it", "the server was started again"]
    assert len(lead.submitted) == 2


def test_a_run_that_is_under_way_is_followed(follow):
    lead = Played([running(1), running(2), DONE])
    assert follow(lead) == [] and not lead.submitted


def test_the_same_failure_three_times_is_the_end(follow):
    failing = [Status(BOTH), running(1, failed="hospital-b failed"), "FINISHED:EXECUTION_EXCEPTION"]
    with pytest.raises(DRMCError, match=r"ended 3 times in round 1 \(hospital-b failed\)"):
        follow(Played([Status(BOTH), *failing * 3]))


def test_a_run_that_somebody_stops_is_not_started_again(follow):
    with pytest.raises(CanceledError, match="'start' continues it"):
        follow(Played([Status(BOTH), Status(BOTH), running(1), "FINISHED:ABORTED"]))


def test_a_run_whose_sites_end_their_part_before_the_server_is_stopped_all_the_same(follow):
    """NVIDIA FLARE takes up to ten seconds to end a job at the server; at the sites it has ended by then."""
    ending = [running(1, sites=ONE), *[running(1, sites={})] * 4]
    lead = Played([Status(BOTH), Status(BOTH), running(1), *ending, "FINISHED:ABORTED"])
    lead.stopped = True
    with pytest.raises(CanceledError, match="'start' continues it"):
        follow(lead)
    assert not lead.aborted and len(lead.submitted) == 1


def test_a_run_whose_sites_are_gone_before_its_end_is_finished(follow):
    lead = Played([Status(BOTH), Status(BOTH), running(3), running(3, sites=ONE, task=END), DONE])
    assert follow(lead) == ["started with hospital-a, hospital-b"]
    assert len(lead.submitted) == 1


def test_a_run_that_finishes_while_it_is_stopped_is_finished(follow):
    lead = Played([Status(BOTH), Status(BOTH), running(3), DONE])
    lead.stopped = True
    assert len(follow(lead)) == 1


def test_no_end_is_told_that_cannot_come(follow):
    """All sites are needed, so patience changes nothing."""
    lead = Played([Status(ONE), Status(ONE), Status(BOTH), running(3), DONE], min_sites=2)
    assert follow(lead)[0] == "waiting for hospital-b"
    lead = Played([Status(ONE), Status(ONE), Status(BOTH), running(3), DONE], min_sites=1)
    assert follow(lead)[0] == "waiting for hospital-b; after 30 minutes it goes on with at least 1"


def test_a_stop_ends_the_job(follow, monkeypatch):
    monkeypatch.setattr(consortium, "_POLL_SECONDS", 0.01)
    lead = Played([Status(BOTH), Status(BOTH), *[running(1)] * 9])
    with pytest.raises(CanceledError):
        follow(lead, lambda: bool(lead.submitted))
    assert lead.aborted == 1


# ---- a stop from another command while there is no job


def asked(kit, answers: list[bool], lead: Played, aborted: int) -> threading.Thread:
    """`stop` in another thread, as soon as something waits after so many jobs were aborted."""

    def ask() -> None:
        while not answers:
            time.sleep(0.01)
            if lead.aborted == aborted and stop_waiting(kit):
                answers.append(True)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    return thread


AWAY = DRMCError("there is no server at x:1")
LEFT = [running(1), running(1, sites=ONE), running(1, sites=ONE)]


@pytest.mark.parametrize(
    ("script", "aborted"),
    [
        (repeat(Status(ONE)), 0),
        (repeat(AWAY), 0),
        (chain([Status(BOTH), Status(BOTH), *LEFT], repeat(Status(ONE))), 1),
    ],
    ids=["for a site", "for the server", "for a site that has left the run"],
)
def test_a_run_that_waits_is_stopped_by_another_command(follow, tmp_path, monkeypatch, script, aborted):
    monkeypatch.setattr(consortium, "_POLL_SECONDS", 0.01)
    answers: list[bool] = []
    lead = Played(script)
    thread = asked(tmp_path, answers, lead, aborted)
    with pytest.raises(
        CanceledError, match=r"^the run was stopped by 'drmc federate stop'; 'start' continues"
    ):
        follow(lead)
    thread.join()
    assert answers == [True] and not stop_waiting(tmp_path)
    assert follow(Played([Status(BOTH), Status(BOTH), running(3), DONE]))  # the next start is not stopped


def test_a_run_whose_job_has_begun_is_not_stopped_through_the_kit(tmp_path):
    with Waiting(tmp_path, lambda: False) as waiting:
        waiting.end()
        assert not stop_waiting(tmp_path) and not waiting()
        waiting.begin()
        begun = threading.Timer(0.5, waiting.end)  # it begins while it is asked
        begun.start()
        assert not stop_waiting(tmp_path) and not waiting()
    assert [path.name for path in tmp_path.iterdir()] == [".waiting"]


def test_a_cancel_while_it_waits_is_no_stop_of_another_command(follow, monkeypatch):
    monkeypatch.setattr(consortium, "_POLL_SECONDS", 0.01)
    with pytest.raises(CanceledError) as canceled:
        follow(Played(repeat(Status(ONE))), lambda: True)
    assert "stop'" not in str(canceled.value)
