"""Checks before a training starts: whether it would fail, or take months."""

from __future__ import annotations

import errno
import math
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch

from drmc.datasets.manifest import in_both_splits, read_manifest, select
from drmc.errors import DRMCError, InputError
from drmc.networks.protocol import ResidualNetwork
from drmc.runtime import hardware
from drmc.runtime.progress import duration
from drmc.runtime.threads import torch_threads
from drmc.training.arguments import Asked
from drmc.training.checkpoint import KEPT_CHECKPOINTS, read_checkpoint
from drmc.training.config import TrainingConfig
from drmc.training.launch import Launch
from drmc.training.strategies.registry import make_strategy
from drmc.training.tasks.registry import make_task
from drmc.training.trainer import Trainer

OK, WARNING, REFUSED = "ok", "warning", "refused"
LONG_SECONDS = 24 * 3600.0
_FREE_MEMORY = 1.5  # gradients and temporary arrays on top of what a step keeps for its backward pass
_VALUES_PER_PARAMETER = 4  # of a checkpoint: network, moving average, two moments
_CHECKPOINTS = KEPT_CHECKPOINTS + 2  # the last ones, the best one, and the one being written


class Check(NamedTuple):
    """The result of one check: `level` ok, warning or refused, and `text`, one line for the user."""

    level: str
    text: str


@dataclass
class Preflight:
    """All checks of a launch.

    Attributes:
        checks: the results.
        output: folder of the run.
        step: the step from which the run would continue.
        steps: steps of the whole run.
    """

    checks: list[Check] = field(default_factory=list)
    output: str = ""
    step: int = 0
    steps: int = 0


class StepCost(NamedTuple):
    """The cost of one patch: bytes kept for the backward pass, and seconds of one core of this processor."""

    memory_bytes: float
    seconds: float


def preflight(launch: Launch, ask: Callable[[], Asked] | None = None) -> Preflight:
    """Checks configuration, dataset, devices, disk, checkpoint and rendezvous; neither trains nor writes.

    Args:
        launch: how the training is started.
        ask: gives the training that the command line asks for; None: that of the launch's configuration.
    """
    found = Preflight()
    try:
        wanted = ask() if ask is not None else None
        found.checks += [Check(WARNING, text) for text in (wanted.notes if wanted else ())]
        config = TrainingConfig.read(launch.config) if wanted is None else wanted.config()
        network = make_task(config).initial_network()
    except DRMCError as refusal:
        found.checks.append(Check(REFUSED, str(refusal)))
    else:
        found.output, found.steps = config.output, config.steps
        parameters = sum(p.numel() for p in network.parameters())
        found.checks += [
            _configuration(config, parameters),
            *_dataset(config),
            *_devices(config, launch, step_cost(config, network)),
            *_processes(config, launch),
            _disk(config, network),
            _checkpoint(config, found),
        ]
    if launch.endpoint:
        found.checks.append(_rendezvous(launch))
    return found


def _configuration(config: TrainingConfig, parameters: int) -> Check:
    count = len(make_strategy(config).step_slots)
    return Check(
        OK,
        f"configuration: {config.name}, {parameters} parameters, {config.steps} steps of {count} patches of "
        f"{' x '.join(map(str, make_task(config).patch_shape))} voxels",
    )


def _dataset(config: TrainingConfig) -> Iterator[Check]:
    try:
        cases = read_manifest(Path(config.dataset))
        cases_of = [select(cases, split, config.centers) for split in ("train", "validation")]
    except InputError as refusal:
        yield Check(REFUSED, str(refusal))
        return
    counts = [{c: len({case.patient for case in found}) for c, found in of.items()} for of in cases_of]
    each = ", ".join(f"{c} {counts[0][c]} + {counts[1][c]}" for c in config.centers)
    yield Check(
        OK,
        f"dataset: all images are there; patients for training + validation: {each} "
        f"(their content: drmc validate {config.dataset})",
    )
    for text in in_both_splits(*cases_of):
        yield Check(WARNING, f"dataset: {text}")


def step_cost(config: TrainingConfig, network: torch.nn.Module) -> StepCost:
    """Measures the cost of a patch on this processor, on a small one, and scales it.

    In one thread, and in seconds of the processor: what else runs on it does not count.

    Args:
        config: the configuration, for the size of its patches and the dtype of its products.
        network: the network.
    """
    task = make_task(config)
    edge = min(task.probe, config.patch)
    patch_BCDHW = task.example(edge)
    dtype = torch.bfloat16 if config.precision == "bf16" else None
    own = {p.untyped_storage().data_ptr() for p in network.parameters()}
    kept: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch_threads(1):
        for _ in range(2):  # the first time includes the start of libraries
            kept.clear()
            start = time.process_time()
            with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
                residual_BCDHW = network(patch_BCDHW, dtype)[0]
            residual_BCDHW.square().mean().backward()
            seconds = time.process_time() - start
    scale = math.prod(task.patch_shape) / edge**3
    return StepCost(scale * sum(kept.values()), scale * seconds)


def _devices(config: TrainingConfig, launch: Launch, cost: StepCost) -> Iterator[Check]:
    slots = len(make_strategy(config).step_slots)
    per_process = -(-slots // launch.world)
    memory = _FREE_MEMORY * per_process * cost.memory_bytes
    if torch.cuda.is_available():
        yield from _gpus(launch, memory)
        return
    cores = hardware.physical_cores()
    used = min(cores, launch.processes * (config.threads or cores))
    total = cost.seconds * config.steps * slots / launch.nodes / used
    level = WARNING if total > LONG_SECONDS else OK
    expected = "expected long, " if level == WARNING else ""
    on = _count(cores, "core") + (f" of which {used} will be used" if used < cores else "")
    yield Check(level, f"device: CPU only, {on}: {expected}about {_duration(total)} for all steps")
    installed = hardware.memory_bytes()
    if installed is not None and memory * launch.processes > installed:
        yield Check(
            WARNING,
            f"memory: a step takes about {_size(memory * launch.processes)} of {_size(installed)}; "
            "lower patch or patches_per_center",
        )


def _gpus(launch: Launch, memory: float) -> Iterator[Check]:
    count = torch.cuda.device_count()
    if launch.processes > count:
        yield Check(
            REFUSED,
            f"{launch.processes} processes on a machine with {_count(count, 'GPU')}: "
            f"each needs one of its own, use at most {count}",
        )
    for index in range(min(count, launch.processes)):
        free, installed = torch.cuda.mem_get_info(index)
        what = f"{torch.cuda.get_device_name(index)}, {_size(free)} of {_size(installed)} free"
        if free < memory:
            yield Check(
                WARNING,
                f"GPU {index}: {what}, a step takes about {_size(memory)}: end what else runs there, use "
                "more processes, or lower patches_per_center",
            )
        else:
            yield Check(OK, f"GPU {index}: {what}, a step takes about {_size(memory)}")


def _processes(config: TrainingConfig, launch: Launch) -> Iterator[Check]:
    strategy = make_strategy(config)
    try:
        strategy.check_processes(launch.world)
    except InputError as refusal:
        yield Check(REFUSED, str(refusal))
    most = strategy.most_processes
    if strategy.splits_sites:
        work, more = f"a step has {_count(most, 'patch', 'patches')}", " or raise patches_per_center"
    else:
        work, more = f"{strategy.name} has {_count(most, 'network')}, each stepped by one process", ""
    if launch.world > most:
        yield Check(
            WARNING,
            f"{launch.world} processes, but {work}: {launch.world - most} would do nothing; "
            f"use {_count(most, 'process', 'processes')}{more}",
        )
    cores = hardware.physical_cores()
    threads = launch.processes * max(1, config.threads)
    if threads > cores:
        yield Check(
            WARNING,
            f"{_count(launch.processes, 'process', 'processes')} with "
            f"{_count(max(1, config.threads), 'thread')} on {_count(cores, 'core')}: "
            f"they wait for each other; use at most {cores} in all",
        )


def _disk(config: TrainingConfig, network: ResidualNetwork) -> Check:
    folder = Path(config.output)
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        return Check(
            REFUSED, f"output {config.output}: {folder} cannot be written; choose another output folder"
        )
    strategy, parameters = make_strategy(config), 0
    for number, name in enumerate(strategy.site_centers):
        critics = (critic.module for critic in strategy.critics(number, name, network).values())
        parameters += sum(p.numel() for module in (network, *critics) for p in module.parameters())
    needed = 4 * _VALUES_PER_PARAMETER * parameters * _CHECKPOINTS
    free = shutil.disk_usage(folder).free
    if free < needed:
        return Check(
            REFUSED,
            f"output {config.output}: {_size(free)} free, the checkpoints take {_size(needed)}; "
            "make room or choose another output folder",
        )
    return Check(OK, f"disk: {_size(free)} free, the checkpoints take {_size(needed)}")


def _checkpoint(config: TrainingConfig, found: Preflight) -> Check:
    try:
        if read_checkpoint(Path(config.output)) is None:
            return Check(OK, f"checkpoint: none in {config.output}, training starts at step 0")
        cases = read_manifest(Path(config.dataset))
        data = make_task(config).fingerprint(
            *(select(cases, split, config.centers) for split in ("train", "validation"))
        )
        trainer = Trainer(config, data=data)
        trainer.resume()
    except DRMCError as refusal:
        return Check(REFUSED, str(refusal))
    found.step = trainer.step
    if trainer.step >= config.steps:
        return Check(
            WARNING,
            f"checkpoint: all {config.steps} steps are done; raise steps, or choose another output folder",
        )
    return Check(OK, f"checkpoint: training goes on from step {trainer.step} of {config.steps}")


def _rendezvous(launch: Launch) -> Check:
    """Whether the port can be opened, if it is one of this machine."""
    host, port = launch.meeting_point()
    needs = "every node needs dataset and output folder under the same path"
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        return Check(REFUSED, f"rendezvous {launch.endpoint}: there is no machine {host} ({error.strerror})")
    if launch.node_rank:
        return Check(OK, f"rendezvous: at {launch.endpoint}, opened by node 0; {needs}")
    with socket.socket(family, kind) as probe:
        if os.name == "posix":  # a port that was just closed is free
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:  # the address of another machine
                return Check(OK, f"rendezvous: at {launch.endpoint}, opened there; {needs}")
            return Check(
                REFUSED,
                f"rendezvous {launch.endpoint}: the port cannot be opened ({error.strerror}); "
                "choose another port, or end the program that has it",
            )
    return Check(OK, f"rendezvous: port {port} of this machine is free; {needs}")


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"


def _size(number: float) -> str:
    for unit, size in (("TB", 1e12), ("GB", 1e9)):
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return f"{number / 1e6:.0f} MB"


def _duration(seconds: float) -> str:
    return f"{seconds / 86400:.0f} days" if seconds >= 2 * 86400 else duration(seconds)
