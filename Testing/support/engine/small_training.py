"""What tests of the training share: a small dataset, a configuration that runs in a second, processes."""

from __future__ import annotations

import json
import multiprocessing
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch
from drmc.datasets.manifest import Case
from drmc.networks.drmc import NetworkConfig
from drmc.training.checkpoint import CHECKPOINT
from drmc.training.config import TrainingConfig
from drmc.training.loop import train
from drmc.training.pairs import Pair, Wanted, load_pairs
from drmc.training.sampler import PatchSampler
from drmc.training.trainer import Trainer

TINY = NetworkConfig(channels=8, blocks=1, experts=3, heads=2, hidden=4)
CENTERS = ("A", "B")
PATIENCE = 500  # seconds; only a hang is that slow


def write_nifti(path: Path, array: np.ndarray, spacing: float = 2.0) -> None:
    image = sitk.GetImageFromArray(array.astype(np.float32))
    image.SetSpacing((spacing,) * 3)
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path))


def ball(shape=(26, 28, 30), radius: float = 9.0) -> np.ndarray:
    axes = np.ogrid[tuple(slice(n) for n in shape)]
    return sum((a - (n - 1) / 2) ** 2 for a, n in zip(axes, shape, strict=True)) < radius**2


def make_dataset(folder: Path, centers=CENTERS, patients: int = 2) -> Path:
    """Balls of SUV 2 with a hot spot, 2 mm voxels; low dose = full dose plus noise, more at later centers."""
    rng = np.random.default_rng(1)
    cases = []
    for number, center in enumerate(centers):
        for split, count in (("train", patients), ("validation", 1)):
            for index in range(count):
                name = f"{center}-{split}-{index}"
                body = ball()
                full = np.where(body, 2.0, 0.0)
                full[12:15, 12:15, 16:19] = 8.0
                low = full + body * rng.normal(0, 0.4 * (1 + number), full.shape)
                write_nifti(folder / name / "full.nii.gz", full)
                write_nifti(folder / name / "low.nii.gz", low)
                images = {"full": f"{name}/full.nii.gz", "low": {"4": f"{name}/low.nii.gz"}}
                cases.append({"id": name, "center": center, "split": split, **images})
    (folder / "dataset.json").write_text(json.dumps({"simulated": True, "cases": cases}))
    return folder


def tiny_config(dataset: Path, output: Path, **changes) -> TrainingConfig:
    rates = {"learning_rate": 1e-3, "warmup_steps": 2, "steps": 6}
    seldom = {"checkpoint_every": 100, "validate_every": 100}
    shape = {"name": "tiny", "centers": CENTERS, "network": TINY, "patch": 8, "threads": 1}
    return TrainingConfig(str(dataset), str(output), **{**rates, **seldom, **shape, **changes})


def sampler_of(pairs, patch: int = 8, seed: int = 1, **options) -> PatchSampler:
    return PatchSampler(pairs, patch=patch, seed=seed, **{"hot_fraction": 0.5, "scale_range": 2.0, **options})


def checkpoint(output: str | Path) -> dict:
    return torch.load(Path(output) / CHECKPOINT, weights_only=True)


def apart(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor], config: TrainingConfig) -> float:
    """Largest difference of two networks' parameters in steps of the learning rate.

    Adam divides a gradient by its size, so that rounding of a gradient near zero, which differs between
    processors and numbers of processes, moves a parameter by a small share of a step; another gradient moves
    it by a whole one.
    """
    return max(float((a[key] - b[key]).abs().max()) for key in a) / config.learning_rate


ROUNDING = 0.03  # steps


def same(a, b) -> bool:
    """Whether nested states are equal bit by bit."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def stop_after(monkeypatch, step: int, request=Trainer.request_stop) -> None:
    """Does `request(trainer)` after that step."""
    monkeypatch.setattr(Trainer, "train_step", Trainer.train_step)  # undone afterwards
    request_after(step, request)


def request_after(step: int, request) -> None:
    """As `stop_after`, for good."""
    original = Trainer.train_step

    def train_step(self, sampler):
        record = original(self, sampler)
        if self.step == step:
            request(self)
        return record

    Trainer.train_step = train_step


def load_pair(
    case: Case, dose_reduction_factor: float, margin: int = 8, *, wanted: Wanted | None = None
) -> Pair:
    """One pair of a patient, as `load_pairs` reads it."""
    return load_pairs(
        replace(case, low={dose_reduction_factor: case.low[dose_reduction_factor]}), margin, wanted=wanted
    )[0]


def made_pair(full: np.ndarray, low: np.ndarray) -> Pair:
    body = np.ones(full.shape, bool)
    index = np.flatnonzero(body)
    share = np.cumsum(full.ravel().astype(np.float64))
    return Pair(
        "made", low.astype(np.float32), full.astype(np.float32), body, index, index, share / share[-1]
    )


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def environment(rank: int, world: int, port: int) -> dict[str, str]:
    """What torchrun says to a process."""
    numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "MASTER_PORT": port}
    fixed = {"MASTER_ADDR": "127.0.0.1", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return {**fixed, **{key: str(number) for key, number in numbers.items()}}


def forked(function, *arguments) -> multiprocessing.Process:
    """A process of its own that runs `function`, started quickly: torch is imported already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["drmc.training.loop", "torch._dynamo"])  # which optimizers import
    process = context.Process(target=function, args=arguments)
    process.start()
    return process


def _train_as(config: TrainingConfig, environment: dict[str, str], step: int, request) -> None:
    os.environ.update(environment)
    if request is not None:
        request_after(step, request)
    train(config)


def train_in(world: int, config: TrainingConfig, step: int = 0, request=None) -> None:
    """Trains in `world` processes (gloo) to the end; each does `request(trainer)` after that step."""
    port = free_port()
    processes = [
        forked(_train_as, config, environment(rank, world, port), step, request) for rank in range(world)
    ]
    for process in processes:
        process.join(PATIENCE)
        process.kill()
    assert [process.exitcode for process in processes] == [0] * world


def written(config: TrainingConfig) -> Path:
    """The configuration as a file."""
    path = Path(config.output).parent / f"{Path(config.output).name}.json"
    path.write_text(json.dumps(config.to_dict()))
    return path


def launch(
    config: TrainingConfig, world: int, *arguments: str, code: str | None = None
) -> list[subprocess.Popen]:
    """The processes that torchrun starts, in its environment."""
    program = ["-m", "drmc.training"] if code is None else ["-c", code]
    path, port = written(config), free_port()
    return [
        subprocess.Popen(
            [sys.executable, *program, str(path), *arguments],
            env={**os.environ, **environment(rank, world, port)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(world)
    ]


def ended(processes: list[subprocess.Popen]) -> tuple[list[int], list[str]]:
    """Waits for the processes; their exit codes and standard errors."""
    try:
        outputs = [process.communicate(timeout=PATIENCE) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [process.returncode for process in processes], [error for _, error in outputs]


def finish(processes: list[subprocess.Popen]) -> list[str]:
    """As `ended`, with the exit codes asserted to be 0."""
    codes, errors = ended(processes)
    assert codes == [0] * len(processes), "\n".join(errors)
    return errors
