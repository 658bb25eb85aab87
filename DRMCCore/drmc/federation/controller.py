"""What NVIDIA FLARE runs at the server: rounds, their mean, and the model at the end."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from nvflare.apis.fl_context import FLContext
from nvflare.app_common.workflows.model_controller import ModelController
from nvflare.widgets.info_collector import InfoCollector

from drmc.errors import DRMCError
from drmc.federation.arrays import Arrays
from drmc.federation.common_model import Answer, CommonModel
from drmc.federation.layout import END, GROUP, RUN
from drmc.federation.member import FINISH, TRAIN, VALIDATE
from drmc.federation.messages import FAILED, question, replied
from drmc.federation.plan import PLAN, Plan

_END_SECONDS = 30  # a site that does not hear of the end has its models all the same
_SEEN_SECONDS = 6.0  # in which the lead's `start` reads why a run ends


class FederatedRounds(ModelController):
    """Asks the sites for their rounds, from the first one that is not done."""

    def __init__(self, sites: list[str], plan: str):
        """Makes the controller of one job.

        Args:
            sites: those that take part.
            plan: fingerprint of the lead's plan, which must be the server's.
        """
        super().__init__(persistor_id="")
        self._sites, self._fingerprint = sites, plan
        self._state: dict[str, Any] = {"sites": sites}

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Says where the run is to those who may ask."""
        if event_type == InfoCollector.EVENT_TYPE_GET_STATS:
            collector = fl_ctx.get_prop(InfoCollector.CTX_KEY_STATS_COLLECTOR, None)
            if collector is not None:
                collector.set_info(group_name=GROUP, info=self._state)

    def run(self) -> None:
        """Takes the rounds that are left, has the last weights validated, and ends the training everywhere.

        Raises:
            DRMCError: a site failed or sent what does not fit, or the plan is another one.
        """
        try:
            self._run()
        except Exception as error:
            self._state["failed"] = " ".join(str(error).split())
            time.sleep(_SEEN_SECONDS)
            raise

    def _run(self) -> None:
        root = Path(self.engine.get_workspace().get_root_dir())
        plan = Plan.read(root / PLAN)
        if plan.fingerprint != self._fingerprint:
            raise DRMCError("the lead's kit and the server's are of different plans")
        common = CommonModel(plan, root / RUN)
        self._say(common)
        common.note("started", sites=self._sites, round=common.number)
        while (this := common.next_round) is not None:
            answers = self._ask(common, TRAIN, common.arrays, {"round": this.number})
            if answers is None:
                return
            for site, answer in answers.items():
                common.check(site, answer)
            common.take_round(answers)
            self._say(common)
        validated = self._ask(common, VALIDATE, common.arrays, {})
        if validated is None:
            return
        common.judge({site: answer.numbers for site, answer in validated.items()})
        arrays, about = common.finish()
        self._say(common)
        own = self._ask(common, FINISH, arrays, about)
        if own is None:
            return
        common.note("finished", step=common.step, own={site: one.numbers for site, one in own.items()})
        data = question({}, {}, self._fingerprint)
        self.send_model_and_wait(task_name=END, data=data, targets=list(self._sites), timeout=_END_SECONDS)

    def _ask(
        self, common: CommonModel, task: str, arrays: Arrays, about: dict[str, Any]
    ) -> dict[str, Answer] | None:
        """The answers of all sites; None if the job is ended from outside."""
        self._state["task"] = task
        data = question(arrays, about, self._fingerprint)
        found = self.send_model_and_wait(task_name=task, data=data, targets=list(self._sites))
        if self.abort_signal.triggered:
            return None
        answers = {}
        for site, mine, numbers in map(replied, found):
            if FAILED in numbers:
                common.note("failed", site=site, task=task)
                raise DRMCError(f"{site} failed: its own 'drmc federate join' says why")
            answers[site] = Answer(mine, numbers)
        if missing := [site for site in self._sites if site not in answers]:
            raise DRMCError(f"{', '.join(missing)} did not answer")
        return answers

    def _say(self, common: CommonModel) -> None:
        self._state |= {"round": common.number, "rounds": len(common.rounds), "step": common.step}
        self._state["validation"] = common.validation
