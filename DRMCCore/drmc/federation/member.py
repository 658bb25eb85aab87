"""A site's part: it trains its own network from the weights that came, and gives back weights and numbers."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch

from drmc.datasets.manifest import in_both_splits, is_simulated
from drmc.denoising.staging import Claim
from drmc.errors import CanceledError
from drmc.federation.arrays import Arrays, arrays_of, take, tensors_of
from drmc.federation.models import write_common_model
from drmc.federation.plan import Plan, Round, rounds
from drmc.federation.site import SiteSettings
from drmc.federation.strategy import member_strategy
from drmc.files import disk_full_as_error
from drmc.training.export import export
from drmc.training.loop import Log, first_record, run_steps, stop_if_nothing_is_learned
from drmc.training.processes import joined
from drmc.training.tasks.base import Scores
from drmc.training.tasks.registry import make_task
from drmc.training.trainer import Trainer
from drmc.training.watch import Watch, progress

Numbers = dict[str, float]
TRAIN, VALIDATE, FINISH = "train", "validate", "finish"
TASKS = (TRAIN, VALIDATE, FINISH)
_REMEDY = "make room and join again; the run continues"


class Member:
    """One site of a federated training, with its data and its optimizer, which stay there.

    The weights of a round depend on the weights that came and on the site's state at the end of the round
    before, of which the last few are kept as checkpoints. So a round is repeated bit by bit after any fault.

    Attributes:
        center: the site's center.
        patients: number of its training patients.
    """

    def __init__(
        self,
        plan: Plan,
        site: str,
        settings: SiteSettings,
        report: Callable[[dict[str, Any]], None] = lambda record: None,
    ):
        """Reads the data.

        Args:
            plan: what the consortium agreed on.
            site: the site's name in it.
            settings: the site's own settings.
            report: receives the records of the log, and notices.

        Raises:
            InputError: dataset or output folder cannot be used.
            OutputInUseError: another run has the output folder.
        """
        self.center, self._report = plan.sites[site], report
        self.config = plan.config(settings.dataset, settings.output, **settings.own())
        self._common = plan.config()
        self._rounds = rounds(self.config)
        if self.config.threads:
            torch.set_num_threads(self.config.threads)
        training, validation = settings.cases(self.center)
        self._task = make_task(self.config)
        self._data = self._task.fingerprint(training, validation)
        self._warnings = in_both_splits(training, validation)
        for text in self._warnings:
            report({"event": "notice", "message": f"warning: {text}"})
        self.patients = len({case.patient for case in training[self.center]})
        self._stopped, self._begun = False, False
        with ExitStack() as stack:
            stack.enter_context(Claim(Path(settings.output))).take()
            Path(settings.output).mkdir(parents=True, exist_ok=True)
            self._processes = stack.enter_context(joined(deterministic=self.config.deterministic))
            # Every center has its place: draws depend on it.
            drawn = {c: training.get(c, []) for c in self.config.centers}
            self._sampler = self._task.sampler(drawn, pooled=False)
            self._held_out = self._task.held_out(validation)
            self._trainer = self._new_trainer(None)
            self._open = stack.pop_all()

    def close(self) -> None:
        """Gives the output folder free."""
        self._open.close()

    def request_stop(self) -> None:
        """Makes the task under way end after its step."""
        self._stopped = True
        self._trainer.request_stop()

    def answer(self, task: str, arrays: Arrays, about: dict[str, Any]) -> tuple[Arrays, Numbers]:
        """Does a task of the server.

        Args:
            task: `TRAIN`, one round from these weights; `VALIDATE` them; or `FINISH`, to write the models,
                with "ftl" after the steps that the site takes alone.
            arrays: the weights of all sites.
            about: `round` of the first task; of the last one see `write_common_model`.

        Returns:
            The site's own weights, only of the first task, and numbers.

        Raises:
            CanceledError: a stop was requested.
            DRMCError: the weights do not fit, the disk is full, or gradients stay non-finite.
        """
        self._stopped = self._trainer.stop_requested = False
        with disk_full_as_error(self.config.output, _REMEDY):
            if task == TRAIN:
                return self._train(self._rounds[int(about["round"])], arrays)
            if task == VALIDATE:
                take(arrays, tensors_of(self._trainer.sites[0]), "the server")
                return {}, self._validated("validation", self._rounds[-1].last)
            return {}, self._finish(arrays, about)

    # ---- tasks
    def _train(self, this: Round, arrays: Arrays) -> tuple[Arrays, Numbers]:
        self._go_to(this.first)
        trainer, site = self._trainer, self._trainer.sites[0]
        take(arrays, tensors_of(site), "the server")
        numbers = {
            "patients": float(self.patients),
            "simulated": float(is_simulated(Path(self.config.dataset))),
        }
        if this.judged:
            numbers |= self._validated("validation", this.first)
        records, start = [], time.monotonic()
        while trainer.step < this.last:
            if self._stopped:
                raise CanceledError
            records.append(trainer.train_step(self._sampler))
            stop_if_nothing_is_learned(trainer)
        seconds = time.monotonic() - start
        trainer.seconds += seconds
        trainer.save()
        patches = len(records) * self.config.patches_per_center
        pace = progress(records, patches=patches, seconds=seconds)
        counts = {"steps": self.config.steps, "seconds": trainer.seconds, "skipped": trainer.skipped}
        with self._log(this.first) as log:
            log({"event": "progress", "round": this.number, **pace, **counts})
        if math.isfinite(pace["loss"][self.center]):
            numbers["loss"] = pace["loss"][self.center]
        return arrays_of(tensors_of(site)), numbers

    def _finish(self, arrays: Arrays, about: dict[str, Any]) -> Numbers:
        numbers: Numbers = {}
        if self._rounds[-1].last < self.config.steps:
            numbers = self._continue_alone(arrays)
        write_common_model(self._common, Path(self.config.output), arrays, about)
        with self._log(self.config.steps) as log:
            log({"event": "finished", "step": self._trainer.step, "steps": self._trainer.step})
        return numbers

    def _continue_alone(self, arrays: Arrays) -> Numbers:
        """The steps after the rounds, from the mean or from a checkpoint after it."""
        last = self._rounds[-1].last
        trainer = self._trainer = self._new_trainer(None)
        trainer.resume()
        if trainer.step <= last:
            self._go_to(last)
            trainer = self._trainer
            take(arrays, tensors_of(trainer.sites[0]), "the server")
            trainer.strategy.end_rounds(trainer.sites)  # type: ignore[attr-defined]
        if self._stopped:
            raise CanceledError
        with self._log(trainer.step) as log:
            run_steps(trainer, self._sampler, self._held_out, None, log)
        if trainer.step < self.config.steps:
            raise CanceledError
        export(trainer)
        return self._validated("own", trainer.step)

    # ---- state
    def _new_trainer(self, up_to: int | None) -> Trainer:
        strategy = member_strategy(self.config, self.center)
        patients = {self.center: self.patients}
        trainer = Trainer(
            self.config, self._processes, patients, self._data, strategy, warnings=self._warnings
        )
        if up_to is not None:
            trainer.resume(up_to=up_to)
        return trainer

    def _go_to(self, step: int) -> None:
        """Makes the state that of the end of the round before, or of the last round that the site was in."""
        if self._trainer.step == step > 0:
            return
        self._trainer = trainer = self._new_trainer(step)
        if trainer.step < step:
            self._report(
                {
                    "event": "notice",
                    "message": f"the others are at step {step}, this site is at {trainer.step}: it goes on "
                    "from their weights, with its optimizer as it was",
                }
            )
            trainer.step = step

    def _validated(self, prefix: str, step: int) -> Numbers:
        """Scores of the moving average, by `PREFIX.measure`; what is not defined is left out."""
        scores = self._held_out.measure(self._trainer.sites[0].average)
        with self._log(step) as log:
            log({"event": "validation", "step": step, **scores})
        gain = {"gain": {self.center: self._task.gain(scores)}}
        return {f"{prefix}.{key}": v for key, v in _own({**scores, **gain}, self.center) if math.isfinite(v)}

    @contextmanager
    def _log(self, step: int) -> Iterator[Log]:
        """The log, without records of steps that are taken again."""
        trainer = self._trainer
        with (
            Watch(trainer.output, 0, step, self._report) as watch,
            Log(trainer.output, 0, step, watch) as log,
        ):
            if not self._begun:
                self._begun = True
                log({**first_record(trainer, None), "step": step, "tensorboard": watch.tensorboard})
            yield log


def _own(scores: Scores, center: str) -> Iterator[tuple[str, float]]:
    for measure, by_center in scores.items():
        yield measure, float(by_center[center])
