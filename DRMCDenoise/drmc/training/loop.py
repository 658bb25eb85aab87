"""The training loop: one slot per center and step, the same steps for any number of processes, exact resume."""

from __future__ import annotations

import json
import math
import os
import pickle
import signal
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.distributed as distributed

import drmc
from drmc import hardware
from drmc.dataset import is_simulated, read_manifest, select
from drmc.errors import DRMCError, InputError
from drmc.files import atomic_path, write_json
from drmc.network import DRMC
from drmc.training.config import TrainingConfig
from drmc.training.dataset import PatchSampler, load_pair
from drmc.training.launch import STOP_FILE
from drmc.training.muon import MuonAdamW
from drmc.training.tail import fit_tail
from drmc.training.validation import Validation
from drmc.training.watch import GateWatch, Watch, facts, progress, told_configuration

CHECKPOINT = "checkpoint.pt"
KEPT_CHECKPOINTS = 3


def charbonnier(
    residual: torch.Tensor, target: torch.Tensor, epsilon: float, margin: int = 0
) -> torch.Tensor:
    """Equation 3: mean over voxels of sqrt((residual - target)^2 + epsilon^2), in network units.

    `margin` voxels at each face of the last three axes are left out.
    """
    inner = (..., *(slice(margin, n - margin) for n in residual.shape[-3:])) if margin else ...
    return torch.sqrt((residual - target)[inner] ** 2 + epsilon**2).mean()


def learning_rate(config: TrainingConfig, step: int) -> float:
    """Linear warm-up, then a cosine to the final rate at the last step."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return config.final_learning_rate + (config.learning_rate - config.final_learning_rate) * cosine


def initial_network(config: TrainingConfig) -> DRMC:
    """A new network whose tail is zero, so that training starts at the identity."""
    torch.manual_seed(config.seed)
    network = DRMC(config.network)
    with torch.no_grad():
        network.head.weight.mul_(config.head_gain)
        if config.averaging_start:
            for block in network.blocks:
                block.attention.depthwise_MC333.mul_(0.3).add_(1 / 27)
        network.tail.weight.zero_()
        network.tail.bias.zero_()
    return network


def _parameter_groups(network: DRMC, config: TrainingConfig) -> list[dict]:
    """Matrices and kernels with weight decay, vectors without; tail and, with Muon, the experts at their own rates."""
    groups: dict[tuple, list] = {}
    for name, parameter in network.named_parameters():
        is_stack = name.startswith("blocks.") and parameter.ndim >= 3  # maps and kernels of a bank
        if is_stack and config.optimizer == "muon":
            rate, matrices = config.muon_rate, True
        else:
            rate, matrices = config.tail_rate if name.startswith("tail.") else 1.0, False
        decay = config.weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((rate, matrices, decay), []).append(parameter)
    return [
        {"params": chosen, "rate": rate, "matrices": matrices, "weight_decay": decay}
        for (rate, matrices, decay), chosen in groups.items()
    ]


class Trainer:
    """State of one run: network, its moving average, optimizer and step."""

    def __init__(self, config: TrainingConfig, rank: int = 0, world: int = 1, device: str = "cpu"):
        self.config, self.rank, self.world, self.device = config, rank, world, torch.device(device)
        self.output = Path(config.output)
        self.network = initial_network(config).to(self.device).train()
        self.network.form = config.form
        self.average = initial_network(config).to(self.device).eval()
        groups = _parameter_groups(self.network, config)
        self.optimizer = MuonAdamW(groups, lr=config.learning_rate, betas=(0.9, config.beta2))
        self.gates = GateWatch(config)
        self.step, self.seconds, self.skipped, self.best = 0, 0.0, 0, -math.inf
        self.stop_requested = self.stop_agreed = False

    # ------------------------------------------------------------------------------------------------ one step
    def slots(self) -> list[tuple[str, int]]:
        """This process's share of the step's slots, one per center and patch."""
        slots = [(center, i) for i in range(self.config.patches_per_center) for center in self.config.centers]
        return slots[self.rank :: self.world]

    def train_step(self, sampler: PatchSampler) -> dict:
        """One optimizer step; returns what is logged."""
        config = self.config
        rate = learning_rate(config, self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["rate"]
        self.optimizer.zero_grad(set_to_none=False)
        mine = self.slots()
        total = len(config.centers) * config.patches_per_center
        losses = dict.fromkeys(config.centers, 0.0)
        shares = {"stop": float(self.stop_requested), **self.gates.zeros()}
        if mine:
            drawn = [sampler.draw(self.step, center, slot) for center, slot in mine]
            low_BCDHW, full_BCDHW = (
                torch.from_numpy(np.stack(side))[:, None].to(self.device) for side in zip(*drawn, strict=True)
            )
            residual_BCDHW, gates_BLM = self.network(low_BCDHW)
            per_slot = [
                charbonnier(r, f - x, config.charbonnier, config.loss_margin)
                for r, f, x in zip(residual_BCDHW, full_BCDHW, low_BCDHW, strict=True)
            ]
            (torch.stack(per_slot).sum() / total).backward()
            for (center, _), loss in zip(mine, per_slot, strict=True):
                losses[center] += float(loss.detach()) / config.patches_per_center
            self.gates.add(shares, gates_BLM, mine)
        # one sum over the processes for everything that is logged, and for a stop that only one of them heard of
        sums = {**losses, **shares}
        norm = self._synchronize(sums)
        self.stop_agreed = sums.pop("stop") > 0
        routing = self.gates.record(sums)
        if math.isfinite(norm):
            self.optimizer.step()
            with torch.no_grad():
                decay = min(config.ema_decay, (1 + self.step) / (10 + self.step))
                for slow, fast in zip(self.average.parameters(), self.network.parameters(), strict=True):
                    slow.lerp_(fast, 1 - decay)
        else:  # a step without finite gradients changes nothing, and is counted
            self.skipped += 1
        self.step += 1
        return {
            "step": self.step,
            "rate": rate,
            "gradient_norm": norm,
            **routing,
            "loss": sums,
        }

    def _synchronize(self, losses: dict[str, float]) -> float:
        """Sums gradients and the named values over the processes, clips, and returns the norm before clipping."""
        parameters = list(self.network.parameters())
        if self.world > 1:
            for p in parameters:
                if p.grad is None:
                    p.grad = torch.zeros_like(p)
                distributed.all_reduce(p.grad)
            values = torch.tensor(list(losses.values()), dtype=torch.float64, device=self.device)
            distributed.all_reduce(values)
            losses.update(zip(losses, values.tolist(), strict=True))
        return float(torch.nn.utils.clip_grad_norm_(parameters, self.config.gradient_clip))

    def fit_tail(self, sampler: PatchSampler) -> None:
        """Sets the tail of a new run by least squares, on patches that no step of the run will draw."""
        draws = (
            sampler.draw(self.config.steps + i, center, 0)
            for i in range(self.config.tail_fit_patches)
            for center in self.config.centers
        )
        fit_tail(self.network, draws)
        self.network.train()
        self.average.load_state_dict(self.network.state_dict())

    # --------------------------------------------------------------------------------------------- checkpoints
    def save(self) -> None:
        """Writes the checkpoint atomically and keeps the last ones."""
        state = {
            "config": json.dumps(self.config.to_dict()),
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "skipped": self.skipped,
            "best": self.best,
            "version": drmc.__version__,
        }
        path = self.output / CHECKPOINT
        older = [path.with_suffix(f".{k}.pt") for k in range(1, KEPT_CHECKPOINTS)]
        for source, target in zip(reversed([path, *older[:-1]]), reversed(older), strict=True):
            if source.is_file():
                os.replace(source, target)
        with atomic_path(path) as temporary:
            torch.save(state, temporary)

    def resume(self) -> bool:
        """Loads the newest readable checkpoint of this run; False where there is none."""
        for path in [self.output / CHECKPOINT, *sorted(self.output.glob("checkpoint.*.pt"))]:
            if not path.is_file():
                continue
            try:
                state = torch.load(path, map_location=self.device, weights_only=True)
            except (RuntimeError, EOFError, OSError, pickle.UnpicklingError):
                continue  # cut off by a full disk or a crash: the one before it serves
            saved = json.loads(state["config"])
            mine = self.config.to_dict()
            changed = sorted(k for k in mine if mine[k] != saved.get(k) and k not in _MAY_CHANGE)
            if changed:
                raise InputError(
                    f"{path}: made with another '{changed[0]}' ({saved.get(changed[0])}, now {mine[changed[0]]}); "
                    "choose another output folder or restore the configuration"
                )
            self.network.load_state_dict(state["network"])
            self.average.load_state_dict(state["average"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.step, self.seconds = state["step"], state["seconds"]
            self.skipped, self.best = state["skipped"], state["best"]
            return True
        return False

    @property
    def stopping(self) -> bool:
        """Several processes leave at the same step: at the first one at whose start any of them was asked to."""
        return self.stop_agreed or (self.world == 1 and self.stop_requested)

    def request_stop(self, *_) -> None:
        """SIGTERM and SIGINT: finish the step, save, leave."""
        self.stop_requested = True


_MAY_CHANGE = {
    "steps",
    "dataset",
    "output",
    "form",
    "checkpoint_every",
    "validate_every",
    "validation_tiles",
    "threads",
    "card",
}


def train(config: TrainingConfig, *, report=None) -> Path:
    """Runs or resumes the training; returns the weight file. `report(record)` receives every logged record."""
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if config.threads:
        torch.set_num_threads(config.threads)
    device = f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if torch.cuda.is_available() else "cpu"
    cases = read_manifest(Path(config.dataset))
    training = select(cases, "train", config.centers)
    validation = select(cases, "validation", config.centers)
    Path(config.output).mkdir(parents=True, exist_ok=True)
    if rank == 0 and os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0":
        (Path(config.output) / STOP_FILE).unlink(missing_ok=True)  # asked an earlier run to stop
    if world > 1:
        distributed.init_process_group("nccl" if device != "cpu" else "gloo")
    try:
        trainer = Trainer(config, rank, world, device)
        resumed = trainer.resume()
        pairs, held_out = (
            {
                c: [
                    load_pair(case, dose, with_lesions=split is validation)
                    for case in found
                    for dose in case.low
                ]
                for c, found in split.items()
            }
            for split in (training, validation)
        )
        measured = Validation(held_out, config) if rank == 0 else None
        sampler = PatchSampler(
            pairs,
            patch=config.patch,
            seed=config.seed,
            hot_fraction=config.hot_fraction,
            scale_range=config.scale_range,
        )
        with (
            _signals(trainer),
            Watch(Path(config.output), rank, trainer.step, report) as watch,
            _Log(Path(config.output), rank, trainer.step, watch) as log,
        ):
            about = facts(config, trainer.device, world, simulated=is_simulated(Path(config.dataset)))
            about |= {"tensorboard": watch.tensorboard}
            event = "resumed" if resumed else "started"
            log({"event": event, "step": trainer.step, "steps": config.steps, **about})
            if trainer.step == 0 and config.tail_fit_patches:
                trainer.fit_tail(sampler)
                _validate(trainer, measured, log)
            _run_steps(trainer, sampler, measured, log)
            event = "finished" if trainer.step >= config.steps else "stopped"
            log({"event": event, "step": trainer.step, "steps": config.steps})
        if trainer.step < config.steps:
            return Path(config.output) / CHECKPOINT
        return export(trainer, cases) if rank == 0 else Path(config.output)
    finally:
        if world > 1:
            distributed.destroy_process_group()


def _run_steps(trainer: Trainer, sampler: PatchSampler, validation: Validation | None, log) -> None:
    config = trainer.config
    recent: list[dict] = []
    before = trainer.seconds
    saved = None
    while trainer.step < config.steps and not trainer.stopping:
        if trainer.rank == 0 and (trainer.output / STOP_FILE).exists():
            trainer.request_stop()
        start = time.monotonic()
        recent.append(trainer.train_step(sampler))
        trainer.seconds += time.monotonic() - start
        last = trainer.step == config.steps or trainer.stopping
        if trainer.step % 50 == 0 or last:
            patches = len(recent) * len(config.centers) * config.patches_per_center
            pace = progress(recent, patches=patches, seconds=trainer.seconds - before)
            counts = {"steps": config.steps, "seconds": trainer.seconds, "skipped": trainer.skipped}
            log({"event": "progress", **pace, **counts})
            recent.clear()
            before = trainer.seconds
        if trainer.step % config.validate_every == 0 or trainer.step == config.steps:
            _validate(trainer, validation, log)
        if trainer.rank == 0 and trainer.step % config.checkpoint_every == 0:
            trainer.save()
            saved = trainer.step
    # the last step, or wherever a stop came: before the first step, or while validating
    if trainer.rank == 0 and saved != trainer.step:
        trainer.save()
    if trainer.skipped > max(10, config.steps // 20):
        raise DRMCError(f"{trainer.skipped} steps had no finite gradients; lower the learning rate")


def _validate(trainer: Trainer, validation: Validation | None, log) -> None:
    """In the first process, the only one with something to measure on."""
    if validation is not None:
        found = validation.measure(trainer.average)
        trainer.best = max(trainer.best, float(np.mean(list(found["psnr"].values()))))
        log({"event": "validation", "step": trainer.step, **found})


def export(trainer: Trainer, cases: list) -> Path:
    """Writes the moving average as a model with its card; returns the weight file."""
    from drmc.models import save_model

    config = trainer.config
    patients = {c: sum(case.center == c and case.split == "train" for case in cases) for c in config.centers}
    card = {
        **config.card,
        "name": config.name,
        "training": {
            "simulated": is_simulated(Path(config.dataset)),
            "patients": patients,
            "steps": trainer.step,
            "patches": trainer.step * len(config.centers) * config.patches_per_center,
            "seconds": round(trainer.seconds),
            "hardware": hardware.describe(trainer.device),
            "processes": trainer.world,
            "threads_per_process": torch.get_num_threads(),
            "validation_psnr": trainer.best,
            "configuration": told_configuration(config),
            "version": drmc.__version__,
        },
    }
    path = Path(config.output) / f"{config.name}.pt"
    save_model(path, trainer.average, config.tile or config.patch, card)
    write_json(Path(config.output) / "config.json", replace(config, dataset="", output="").to_dict())
    return path


def _finite(value):
    """The record with None for what JSON has no number for."""
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


class _Log:
    """JSON lines into training.jsonl; on resume, records of steps that will be taken again are dropped."""

    def __init__(self, output: Path, rank: int, step: int, report):
        self.path, self.rank, self.step, self.report = output / "training.jsonl", rank, step, report

    def __enter__(self):
        if self.rank == 0:
            kept = []
            if self.path.is_file():
                for line in self.path.read_text(encoding="utf-8").splitlines():
                    try:
                        if json.loads(line).get("step", 0) <= self.step:
                            kept.append(line)
                    except ValueError:
                        continue  # a line cut off by a kill
            self.file = self.path.open("w", encoding="utf-8")
            self.file.writelines(line + "\n" for line in kept)
        return self

    def __exit__(self, *_):
        if self.rank == 0:
            self.file.close()

    def __call__(self, record: dict) -> None:
        if self.rank == 0:
            record = _finite(record)
            self.file.write(json.dumps(record, allow_nan=False) + "\n")
            self.file.flush()
            if self.report is not None:
                self.report(record)


@contextmanager
def _signals(trainer: Trainer):
    try:
        previous = {s: signal.signal(s, trainer.request_stop) for s in (signal.SIGTERM, signal.SIGINT)}
    except ValueError:  # not the main thread: whoever runs us stops us otherwise
        previous = {}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
