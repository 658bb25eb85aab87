"""The training loop: one slot per center and step, equal steps for any number of processes, exact resume."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

import drmc
from drmc.datasets.manifest import Case, in_both_splits, is_simulated, read_manifest, select
from drmc.denoising.staging import Claim
from drmc.errors import DRMCError
from drmc.files import disk_full_as_error, jsonable, write_text
from drmc.training.checkpoint import CHECKPOINT
from drmc.training.config import TrainingConfig
from drmc.training.export import export, write_models
from drmc.training.launch import STOP_FILE
from drmc.training.processes import joined
from drmc.training.tasks.base import HeldOut, Sampler
from drmc.training.tasks.registry import make_task
from drmc.training.trainer import Trainer
from drmc.training.watch import Record, Watch, facts, progress

_REMEDY = "make room and start again; the run continues from its last checkpoint"
SKIPPED_IN_A_ROW = 20  # then a run is taken to be stuck


def train(config: TrainingConfig, *, report: Callable[[Record], None] | None = None) -> Path:
    """Runs or resumes a training.

    Args:
        config: the configuration.
        report: receives every record that is logged, in the first process.

    Returns:
        The weight file; the folder if each model is of one center (specialists); the checkpoint if the run
        was stopped.

    Raises:
        InputError: dataset, weights or checkpoint do not fit the configuration.
        DRMCError: the disk is full, another process failed, or gradients stay non-finite.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    cases = read_manifest(Path(config.dataset))
    training = select(cases, "train", config.centers)
    validation = select(cases, "validation", config.centers)
    watched = _watched_cases(config)
    with (
        disk_full_as_error(Path(config.output), _REMEDY),
        joined(deterministic=config.deterministic) as processes,
        Claim(Path(config.output)) as claim,
    ):
        processes.broadcast_object(claim.take)
        task = make_task(config)
        data = processes.broadcast_object(lambda: task.fingerprint(training, validation))
        patients = {c: len({case.patient for case in found}) for c, found in training.items()}
        warnings = in_both_splits(training, validation)
        trainer = Trainer(config, processes, patients, data, warnings=warnings)
        version = trainer.resume()
        any_center = trainer.strategy.any_center
        needed = config.centers if any_center else {center for center, _ in trainer.slots}
        drawn = {c: found if c in needed else [] for c, found in training.items()}
        sampler = task.sampler(drawn, pooled=any_center)
        first = trainer.rank == 0  # this process validates and writes
        held_out, beside = (
            task.held_out(found) if first and found else None for found in (validation, watched)
        )
        if first:
            trainer.output.mkdir(parents=True, exist_ok=True)
            if os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0":
                (trainer.output / STOP_FILE).unlink(missing_ok=True)  # it stopped an earlier run
        with (
            _signals(trainer),
            Watch(trainer.output, trainer.rank, trainer.step, report) as watch,
            Log(trainer.output, trainer.rank, trainer.step, watch) as log,
        ):
            log({**first_record(trainer, version), "tensorboard": watch.tensorboard})
            begun = bool(config.initial_weights or config.watched_dataset)
            if held_out is not None and trainer.step == 0 and begun:
                _validate(trainer, held_out, beside, log)
            run_steps(trainer, sampler, held_out, beside, log)
            event = "finished" if trainer.step >= config.steps else "stopped"
            log({"event": event, "step": trainer.step, "steps": config.steps})
        if trainer.step < config.steps:
            return trainer.output / CHECKPOINT
        return export(trainer) if first else trainer.output


def run_steps(
    trainer: Trainer,
    sampler: Sampler,
    held_out: HeldOut | None,
    beside: HeldOut | None,
    log: Log,
) -> None:
    """Takes the steps that are left, with validations and checkpoints, until the last one or a stop.

    Args:
        trainer: the run.
        sampler: its patches.
        held_out: what it is validated on, in the first process.
        beside: what is validated as well, if anything.
        log: receives the records.

    Raises:
        DRMCError: another process failed, or gradients stay non-finite.
    """
    config = trainer.config
    recent: list[dict] = []
    before = trainer.seconds
    saved = trainer.step or None  # all processes know when the first one writes
    while trainer.step < config.steps and not trainer.stopping:
        if trainer.rank == 0 and (trainer.output / STOP_FILE).exists():
            trainer.request_stop()
        start = time.monotonic()
        recent.append(trainer.train_step(sampler))
        trainer.seconds += time.monotonic() - start
        stop_if_nothing_is_learned(trainer)
        last = trainer.step == config.steps or trainer.stopping
        if trainer.step % 50 == 0 or last:
            patches = len(recent) * len(trainer.centers) * config.patches_per_center
            pace = progress(recent, patches=patches, seconds=trainer.seconds - before)
            counts = {"steps": config.steps, "seconds": trainer.seconds, "skipped": trainer.skipped}
            log({"event": "progress", **pace, **counts})
            recent.clear()
            before = trainer.seconds
        if trainer.step in config.kept_steps:
            trainer.share(optimizers=False)
            if trainer.rank == 0:
                write_models(
                    trainer, {"weights": "step", "weights_step": trainer.step}, f"-step{trainer.step}"
                )
        validates = trainer.step % config.validate_every == 0 or trainer.step == config.steps
        saves = trainer.step % config.checkpoint_every == 0
        if validates or saves:
            trainer.share(optimizers=True)
        if held_out is not None and validates:
            _validate(trainer, held_out, beside, log)
        if saves:
            if trainer.rank == 0:
                trainer.save()
            saved = trainer.step
    # after the last step, or after a stop before the first step or during a validation
    if saved != trainer.step:
        trainer.share(optimizers=True)
        if trainer.rank == 0:
            trainer.save()


def stop_if_nothing_is_learned(trainer: Trainer) -> None:
    """Raises DRMCError if too many steps had no finite gradients.

    It is called before a step's results are saved, so that the last checkpoint is one of a sound network.
    """
    many = trainer.skipped > max(10, len(trainer.sites) * trainer.config.steps // 20)
    if many or trainer.skipped_in_a_row >= SKIPPED_IN_A_ROW:
        raise DRMCError(
            f"{trainer.skipped} steps up to step {trainer.step} had no finite gradients: lower the learning "
            "rate, or see with 'drmc validate' whether the images contain NaN"
        )


def _validate(trainer: Trainer, held_out: HeldOut, beside: HeldOut | None, log: Log) -> None:
    models = trainer.models()
    found = held_out.measure(models)
    trainer.measured = {key: found[key] for key in trainer.task.kept}
    gain = trainer.task.gain(found)
    better = gain > trainer.best
    if better:
        trainer.best = gain
    watched = {"watched": beside.measure(models[""])} if beside is not None else {}
    log({"event": "validation", "step": trainer.step, **found, **watched})
    if better:
        trainer.save(best=True)


def _watched_cases(config: TrainingConfig) -> dict[str, list[Case]]:
    if not config.watched_dataset:
        return {}
    cases = read_manifest(Path(config.watched_dataset))
    centers = config.watched_centers or sorted({case.center for case in cases if case.split == "validation"})
    return select(cases, "validation", tuple(centers))


def first_record(trainer: Trainer, version: str | None) -> dict:
    """What the log begins with: the run, and what it was resumed from.

    Args:
        trainer: the run.
        version: of the drmc that wrote its checkpoint, None: it starts.
    """
    config = trainer.config
    about = facts(config, trainer.device, trainer.world, simulated=is_simulated(Path(config.dataset)))
    record = {"event": "started", "step": trainer.step, "steps": config.steps, **about}
    if trainer.world > trainer.strategy.most_processes:
        record["idle"] = trainer.world - trainer.strategy.most_processes
    if trainer.warnings:
        record["warnings"] = trainer.warnings
    if version is not None:
        record["event"] = "resumed"
        if version != drmc.__version__:  # the run continues, but not bit by bit
            record["made_with"] = version
    return record


class Log:
    """Writes JSON lines to training.jsonl; on resume, records of steps that will be repeated are removed."""

    def __init__(self, output: Path, rank: int, step: int, report: Callable[[Record], None]):
        self.path, self.rank, self.step, self.report = output / "training.jsonl", rank, step, report

    def __enter__(self) -> Log:
        if self.rank == 0:
            kept = []
            if self.path.is_file():
                for line in self.path.read_bytes().splitlines():
                    try:
                        if json.loads(line).get("step", 0) <= self.step:
                            kept.append(line.decode("utf-8"))
                    except ValueError:
                        continue  # incomplete, after a kill, or no text, after a fault of the disk
            write_text(self.path, "".join(line + "\n" for line in kept))
            self.file = self.path.open("a", encoding="utf-8")
        return self

    def __exit__(self, *_: object) -> None:
        if self.rank == 0:
            self.file.close()

    def __call__(self, record: Record) -> None:
        """Writes a record, and passes it on."""
        if self.rank == 0:
            record = jsonable(record)
            self.file.write(json.dumps(record, allow_nan=False) + "\n")
            self.file.flush()
            self.report(record)


@contextmanager
def _signals(trainer: Trainer) -> Iterator[None]:
    try:
        previous = {s: signal.signal(s, trainer.request_stop) for s in (signal.SIGTERM, signal.SIGINT)}
    except ValueError:  # not the main thread: the caller stops the run in another way
        previous = {}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
