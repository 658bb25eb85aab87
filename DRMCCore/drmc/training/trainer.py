"""The state of a training and its step: equal steps for any number of processes, exact resume."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from drmc.networks.protocol import ResidualNetwork
from drmc.training.checkpoint import check_same_run, read_checkpoint, write_checkpoint
from drmc.training.config import TrainingConfig
from drmc.training.critics import needs_one_batch
from drmc.training.objectives import critic_record
from drmc.training.processes import Processes
from drmc.training.strategies.base import Site, Strategy, averaged, share_sites
from drmc.training.strategies.registry import make_strategy
from drmc.training.tasks.base import Sampler
from drmc.training.tasks.registry import make_task
from drmc.training.watch import GateWatch


def learning_rate(config: TrainingConfig, step: int) -> float:
    """Linear warm-up, then the schedule, which reaches the final rate in the last step.

    It is a cosine, or for "linear" constant until half of the steps, and then linear.
    """
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(1, config.steps - 1 - config.warmup_steps)
    if config.schedule == "linear":
        height = min(1.0, max(0.0, 2 - 2 * progress))
    else:
        height = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return config.final_learning_rate + (config.learning_rate - config.final_learning_rate) * height


class Trainer:
    """The state of one run: its sites (networks, moving averages, optimizers) and its step.

    Attributes:
        config: the configuration.
        patients: number of training patients of each center.
        data: the fingerprint of the images.
        centers: the centers that its sites learn from.
        task: what the networks learn.
        measured: what the task keeps of the last validation, by center.
        best: the highest gain of a validation, see `Task.gain`.
        warnings: what a reader of the run's figures must know.
    """

    def __init__(
        self,
        config: TrainingConfig,
        processes: Processes | None = None,
        patients: dict[str, int] | None = None,
        data: str = "",
        strategy: Strategy | None = None,
        warnings: Iterable[str] = (),
    ):
        """Makes the sites at their start.

        Args:
            config: the configuration.
            processes: the processes of the run, None: this one alone.
            patients: number of training patients of each center, None: one of each.
            data: the fingerprint of the images.
            strategy: the strategy, None: that of the configuration.
            warnings: sentences of which log and card tell.
        """
        self.config, self.data = config, data
        self.processes = processes = processes or Processes()
        self.rank, self.world, self.device = processes.rank, processes.world, processes.device
        self.output = Path(config.output)
        self.patients = patients or dict.fromkeys(config.centers, 1)
        self.task = make_task(config)
        self.strategy = strategy or make_strategy(config)
        self.centers = [center for centers in self.strategy.site_centers.values() for center in centers]
        self.sites = self.strategy.sites(self.patients, self.processes)
        self.slots = self.strategy.slots(self.sites, self.processes)
        self.objective = self.strategy.objective(self.processes)
        self.gates = GateWatch(config, self.centers)
        self.step, self.seconds, self.skipped, self.skipped_in_a_row = 0, 0.0, 0, 0
        self.best = -math.inf
        self.warnings = list(warnings)
        self.measured: dict[str, dict[str, float]] = {}
        self.stop_requested = self.stop_agreed = False

    def models(self) -> dict[str, ResidualNetwork]:
        """The models that would be exported now, by center, "" for every center.

        With several processes, `share` must be called before.
        """
        return self.strategy.models(self.sites)

    def share(self, *, optimizers: bool) -> None:
        """Copies the sites from the processes that own them to all others; all processes must call it."""
        share_sites(self.sites, self.processes, optimizers=optimizers)

    # ---- one step
    def train_step(self, sampler: Sampler) -> dict:
        """Takes one optimizer step of every site and returns what is logged; all processes must call it.

        Raises:
            DRMCError: another process ended.
        """
        config = self.config
        rate = learning_rate(config, self.step)
        losses = dict.fromkeys(self.centers, 0.0)
        counts = {"gradient_norm": 0.0, "skipped": 0.0, "stop": float(self.stop_requested)}
        judged = dict.fromkeys(self.objective.measures, 0.0)
        shares = {**counts, **self.gates.zeros()}
        for number, site in self.strategy.in_order(self.step, self.sites):
            if site.owner in (None, self.rank):
                norm = self._step_site(number, site, sampler, rate, losses, shares, judged)
                if site.owner is not None or self.rank == 0:  # of one site it is the same in all processes
                    shares["gradient_norm"] += norm / len(self.sites)
                    shares["skipped"] += not math.isfinite(norm)
            self.objective.after_site(site, self.step)
        # One sum over the processes for all that is logged, and for a stop that only one of them received.
        sums = {**losses, **shares, **judged}
        self.processes.all_reduce_(sums)
        self.stop_agreed = sums.pop("stop") > 0
        norm, skipped = sums.pop("gradient_norm"), sums.pop("skipped")
        routing = self.gates.record(sums)
        critics = critic_record({key: sums.pop(key) for key in judged})
        self.skipped += round(skipped)
        self.skipped_in_a_row = self.skipped_in_a_row + 1 if skipped else 0
        self.step += 1
        self.strategy.after_step(self.step, self.sites, self.processes)
        return {
            "step": self.step,
            "rate": rate,
            "gradient_norm": norm,
            **routing,
            "loss": sums,
            **critics,
        }

    def _step_site(
        self,
        number: int,
        site: Site,
        sampler: Sampler,
        rate: float,
        losses: dict[str, float],
        shares: dict,
        judged: dict[str, float],
    ) -> float:
        """Takes this process's part of a site's step; returns the norm of the gradients.

        Losses, statistics of gates and what is logged of critics are added to the last three arguments. A
        step without finite gradients, of the network or of a critic, changes none of them.
        """
        site.optimizer.zero_grad(set_to_none=False)
        self._seed(number)
        statistics = [buffer.clone() for buffer in site.network.buffers()]
        kept = [(tensor, tensor.detach().clone()) for tensor in self.strategy.frozen(site, self.step)]
        critics = {name: critic.copied_state() for name, critic in site.critics.items()}
        finite, groups = True, self._groups_of_slots(site)
        for mine in groups:
            found = self.objective.backward(site, self._draw(mine, sampler), self.step, rate)
            finite &= found.finite
            for (center, _), loss in zip(mine, found.per_slot.tolist(), strict=True):
                losses[center] += loss / self.config.patches_per_center
            self.gates.add(shares, found.gates_BLM, mine)
            for key, value in found.measures.items():
                judged[key] += value
        if not groups:
            finite = self.objective.without_patches(site, self.step, rate)
        norm = self._optimize(site, rate, [tensor for tensor, _ in kept]) if finite else math.nan
        with torch.no_grad():
            for tensor, before in kept:
                tensor.copy_(before)
        if not math.isfinite(norm):
            for buffer, before in zip(site.network.buffers(), statistics, strict=True):
                buffer.copy_(before)
            for name, state in critics.items():
                site.critics[name].load(state)
        return norm

    def _seed(self, site: int) -> None:
        """Makes what chance decides in a site's step (dropout) depend on seed, step and site alone."""
        if needs_one_batch(self.config):
            words = np.random.SeedSequence([self.config.seed, self.step, site]).generate_state(1, np.uint32)
            torch.manual_seed(int(words[0]))

    def _groups_of_slots(self, site: Site) -> list[list[tuple[str, int]]]:
        """This process's slots of a site, in groups that are computed together."""
        slots = [slot for slot in self.slots if slot[0] in site.centers]
        size = self.config.slots_at_once or max(1, len(slots))
        return [slots[k : k + size] for k in range(0, len(slots), size)]

    def _draw(self, mine: list[tuple[str, int]], sampler: Sampler) -> Any:
        """The patches of these slots."""
        drawn = [sampler.draw(self.step, center, slot) for center, slot in mine]
        return self.task.batch(mine, drawn, self.device)

    def _optimize(self, site: Site, rate: float, frozen: list[torch.Tensor]) -> float:
        """Takes the site's step if its gradients are finite; returns their norm before clipping.

        Frozen tensors have no gradient; the caller keeps their values.
        """
        config, parameters = self.config, list(site.network.parameters())
        if site.owner is None:
            self.processes.sum_gradients(parameters)
        for tensor in frozen:
            tensor.grad = None
        norm = float(torch.nn.utils.clip_grad_norm_(parameters, config.gradient_clip or math.inf))
        if math.isfinite(norm):  # a step without finite gradients changes nothing, and is counted
            for group in site.optimizer.param_groups:
                group["lr"] = rate * group["rate"]
            site.optimizer.step()
            with torch.no_grad():
                decay = min(config.ema_decay, (1 + self.step) / (10 + self.step))
                for slow, fast in zip(averaged(site.average), averaged(site.network), strict=True):
                    slow.lerp_(fast, 1 - decay)
        return norm

    # ---- checkpoints
    def groups(self) -> list[list[str]]:
        """The parameters' names in the optimizer's groups, in the order of its state."""
        return [group["names"] for group in self.sites[0].optimizer.param_groups]

    def save(self, *, best: bool = False) -> None:
        """Writes a checkpoint; only the first process may call it, after `share` if there are several.

        Raises:
            OSError: the file cannot be written.
        """
        counts = {
            key: getattr(self, key) for key in ("step", "seconds", "skipped", "best", "measured", "data")
        }
        sites = {site.name: site.state() for site in self.sites}
        state = {
            "config": json.dumps(self.config.to_dict()),
            "sites": sites,
            **self.strategy.state(),
            **counts,
        }
        write_checkpoint(self.output, {**state, "groups": self.groups()}, best=best)

    def load(self, state: dict) -> None:
        """Restores the state of a checkpoint."""
        for site in self.sites:
            site.load(state["sites"][site.name])
        self.strategy.load(state, self.sites)
        for key in ("step", "seconds", "skipped", "best", "measured"):
            setattr(self, key, state[key])

    def resume(self, *, up_to: int | None = None) -> str | None:
        """Restores the newest readable checkpoint of this run, which the first process reads for all.

        Args:
            up_to: the last step that it may be of, None: any.

        Returns:
            The version of drmc that wrote it; None without a checkpoint.

        Raises:
            InputError: it belongs to another run.
        """

        def read() -> dict | None:
            found = read_checkpoint(self.output, up_to=up_to)
            if found is not None:
                check_same_run(*found, self.config, self.data, self.groups())
            return found and found[1]

        state = self.processes.broadcast_object(read)
        if state is not None:
            self.load(state)
        return state and state["version"]

    @property
    def stopping(self) -> bool:
        """Whether the run stops now.

        Several processes stop at the same step, the first one at whose start any of them had received a
        signal.
        """
        return self.stop_agreed or (self.world == 1 and self.stop_requested)

    def request_stop(self, *_: object) -> None:
        """Handles SIGTERM and SIGINT: finish the step, save, stop."""
        self.stop_requested = True
