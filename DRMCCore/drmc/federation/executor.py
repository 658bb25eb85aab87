"""What NVIDIA FLARE calls at a site; it is installed there, so that no code travels."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

from nvflare.apis.event_type import EventType
from nvflare.apis.executor import Executor
from nvflare.apis.fl_constant import ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable, make_reply
from nvflare.apis.signal import Signal

from drmc.errors import CanceledError, DRMCError
from drmc.federation.layout import END, EVENTS, SITE
from drmc.federation.member import TASKS, Member
from drmc.federation.messages import FAILED, Ledger, asked, reply
from drmc.federation.plan import PLAN, Plan
from drmc.federation.site import SiteSettings
from drmc.files import jsonable


class SiteExecutor(Executor):
    """Does the tasks of `drmc.federation.member` with the site's own data.

    Why a task failed is told at the site alone: a message may hold a path.
    """

    def __init__(self) -> None:
        super().__init__()
        self._kit = Path()
        self._member: Member | None = None
        self._ledger: Ledger | None = None
        self._plan = ""

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Gives the output folder free at the end of a run."""
        if event_type == EventType.END_RUN and self._member is not None:
            self._member.close()
            self._member = None

    def execute(
        self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal
    ) -> Shareable:
        """Does one task; an answer without weights and with the number `failed` says that it failed."""
        self._kit = Path(fl_ctx.get_engine().get_workspace().get_root_dir())
        if task_name == END:
            self._tell({"event": END})
            return reply({}, {})
        if task_name not in TASKS:
            return make_reply(ReturnCode.TASK_UNKNOWN)
        try:
            return self._answer(task_name, shareable, fl_ctx, abort_signal)
        except CanceledError:
            self._tell({"event": "notice", "message": "the server ended this task"})
            return make_reply(ReturnCode.TASK_ABORTED)
        except (DRMCError, OSError) as error:
            self._tell({"event": "failed", "message": " ".join(str(error).split())})
        except Exception as error:
            self._tell({"event": "failed", "message": f"{type(error).__name__}: {error}"})
        return reply({}, {FAILED: 1.0})

    def _answer(self, task: str, shareable: Shareable, fl_ctx: FLContext, abort: Signal) -> Shareable:
        member = self._member or self._begin(fl_ctx.get_identity_name())
        arrays, about, plan = asked(shareable)
        if plan != self._plan:
            raise DRMCError("the server's plan is not that of this kit: ask the lead for a new kit")
        assert self._ledger is not None
        self._ledger.note("received", task, arrays, about)
        done = threading.Event()
        threading.Thread(target=_stop_on_abort, args=(abort, member, done), daemon=True).start()
        try:
            mine, numbers = member.answer(task, arrays, about)
        finally:
            done.set()
        self._ledger.note("sent", task, mine, numbers)
        return reply(mine, numbers)

    def _begin(self, site: str) -> Member:
        plan = Plan.read(self._kit / PLAN)
        settings = SiteSettings.read(self._kit / SITE)
        self._plan = plan.fingerprint
        self._member = Member(plan, site, settings, self._tell)
        self._ledger = Ledger(Path(settings.output))
        return self._member

    def _tell(self, record: dict[str, Any]) -> None:
        """Adds a line for `drmc federate join`, which prints it."""
        with (self._kit / EVENTS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(jsonable(record)) + "\n")


def _stop_on_abort(abort: Signal, member: Member, done: threading.Event) -> None:
    while not done.wait(0.5):
        if abort.triggered:
            member.request_stop()
            return
