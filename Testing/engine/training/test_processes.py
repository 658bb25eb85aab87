"""Several processes of a training: the same steps for any number of them, and what happens when one ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.distributed as distributed
from drmc.training.config import TrainingConfig
from drmc.training.loop import train
from drmc.training.processes import Processes
from drmc.training.start import initial_network
from drmc.training.trainer import Trainer
from support.engine.small_training import (
    CENTERS,
    PATIENCE,
    ROUNDING,
    TINY,
    apart,
    checkpoint,
    ended,
    environment,
    finish,
    launch,
    same,
    tiny_config,
    train_in,
    written,
)

# Process 1 is killed in the third step, once: the file says that it was.
KILL_ONCE = """
import os, signal, sys
from drmc.training.trainer import Trainer
original = Trainer.train_step
def train_step(self, sampler):
    record = original(self, sampler)
    if self.rank == 1 and self.step == 3 and not os.path.exists(sys.argv[1] + ".killed"):
        open(sys.argv[1] + ".killed", "x").close()
        os.kill(os.getpid(), signal.SIGKILL)
    return record
Trainer.train_step = train_step
from drmc.cli.main import main
sys.exit(main(["train", sys.argv[1]]))
"""

# Leaves the group after having made an optimizer, whose first one loads much of PyTorch.
LEAVE = """
import gc, weakref
import torch, torch.distributed as distributed
from drmc.training.processes import joined
with joined(deterministic=True) as processes:
    group = weakref.ref(distributed.group.WORLD)
    torch.optim.SGD([torch.nn.Parameter(torch.ones(2))], lr=0.1)
    processes.all_reduce_({"any": 1.0})
gc.collect()
assert group() is None, "the group outlives its processes' work"
"""


@pytest.fixture(scope="module")
def by_world(dataset, tmp_path_factory) -> dict[int, TrainingConfig]:
    """The same run of three steps in one, two and four processes; with four, two have nothing to compute."""
    folder = tmp_path_factory.mktemp("processes")
    gates = replace(TINY, gate="top2")  # exactly a third of the gates is closed
    configs = {n: tiny_config(dataset, folder / str(n), steps=3, network=gates) for n in (1, 2, 4)}
    train(configs[1])
    for world in (2, 4):
        train_in(world, configs[world])
    return configs


def network_of(config: TrainingConfig) -> dict[str, torch.Tensor]:
    return checkpoint(config.output)["sites"][""]["network"]


@pytest.mark.parametrize("world", [2, 4])
def test_any_number_of_processes_takes_the_steps_of_one(by_world, world):
    one, several = network_of(by_world[1]), network_of(by_world[world])
    assert apart(one, initial_network(by_world[1]).state_dict(), by_world[1]) > 1
    assert apart(one, several, by_world[1]) < ROUNDING
    states = [checkpoint(by_world[n].output) for n in (1, world)]
    assert [state["step"] for state in states] == [3, 3]
    assert states[0]["best"] == pytest.approx(states[1]["best"], abs=1e-4)


@pytest.mark.parametrize("world", [2, 4])
def test_several_processes_log_what_one_logs(by_world, world):
    records = {}
    for n in (1, world):
        lines = (Path(by_world[n].output) / "training.jsonl").read_text().splitlines()
        records[n] = {record["event"]: record for record in map(json.loads, lines)}
    one, several = records[1]["progress"], records[world]["progress"]
    assert several["loss"] == pytest.approx(one["loss"], rel=1e-4)
    assert several["gradient_norm"] == pytest.approx(one["gradient_norm"], rel=1e-3)
    assert one["closed_gates"] == several["closed_gates"] == pytest.approx(1 / 3)
    assert records[world]["started"].get("idle", 0) == max(0, world - len(CENTERS))


def test_patches_are_shared_where_there_are_more_processes_than_centers(dataset, tmp_path):
    one = tiny_config(dataset, tmp_path / "one", steps=3, patches_per_center=2)
    four = replace(one, output=str(tmp_path / "four"))
    train(one)
    train_in(4, four)  # one patch each
    assert apart(network_of(one), network_of(four), one) < ROUNDING


@pytest.mark.parametrize(
    "strategy",
    [
        {"strategy": "specialist"},
        {"strategy": "ftl", "round_steps": 2, "federated_steps": 4, "optimizer": "muon"},
    ],
)
def test_sites_dealt_to_processes_are_those_of_one_to_the_last_bit(dataset, tmp_path, strategy):
    one = tiny_config(dataset, tmp_path / "one", checkpoint_every=3, validate_every=3, **strategy)
    several = replace(one, output=str(tmp_path / "several"))
    train(one)
    train_in(3, several)
    a, b = checkpoint(one.output), checkpoint(several.output)
    for key in ("sites", "best", "measured", "skipped"):
        assert same(a[key], b[key]), key
    models = sorted(path.name for path in Path(one.output).glob("tiny*.pt"))
    assert len(models) == (3 if strategy["strategy"] == "ftl" else 2)
    for name in models:
        assert (Path(one.output) / name).read_bytes() == (Path(several.output) / name).read_bytes()


def test_what_processes_sum_lies_on_the_training_device(monkeypatch):
    """Nccl sums nothing but what is on its device."""

    class Summed(Exception):
        pass

    def all_reduce(tensor: torch.Tensor) -> None:
        raise Summed(tensor.device.type)

    monkeypatch.setattr(distributed, "all_reduce", all_reduce)
    with pytest.raises(Summed, match="meta"):
        Processes(0, 2, torch.device("meta")).all_reduce_({"A": 1.0})


# ---- ends


def _stop_rank_one(trainer: Trainer) -> None:
    if trainer.rank == 1:
        os.kill(os.getpid(), signal.SIGTERM)


def test_a_stop_of_one_process_stops_all_at_the_same_step(dataset, tmp_path):
    config = tiny_config(dataset, tmp_path / "run", steps=100_000)
    train_in(2, config, 2, _stop_rank_one)
    assert 2 <= checkpoint(config.output)["step"] < 10


def test_sigterm_saves_and_exits_with_zero(dataset, tmp_path):
    config = tiny_config(dataset, tmp_path / "run", steps=100_000, validate_every=2)
    (process,) = launch(config, 1, "--progress", "json")
    try:
        for line in process.stdout:
            if json.loads(line)["event"] == "validation":
                break
        process.send_signal(signal.SIGTERM)
    except BaseException:
        process.kill()
        raise
    (errors,) = finish([process])
    assert "Traceback" not in errors
    state = checkpoint(config.output)
    assert 2 <= state["step"] < config.steps
    assert not list(Path(config.output).glob(".part-*"))
    last = json.loads((Path(config.output) / "training.jsonl").read_text().splitlines()[-1])
    assert last["step"] == state["step"]
    trainer = Trainer(config, data=state["data"])
    assert trainer.resume() and trainer.step == state["step"]


def test_a_killed_process_ends_the_others_in_one_line_and_the_run_goes_on(dataset, tmp_path):
    straight = tiny_config(dataset, tmp_path / "straight", checkpoint_every=1)
    train(straight)
    config = replace(straight, output=str(tmp_path / "killed"))
    codes, errors = ended(launch(config, 2, code=KILL_ONCE))
    assert codes == [1, -signal.SIGKILL]
    last = errors[0].splitlines()[-1]
    assert "another process of this training ended" in last and "Traceback" not in errors[0]
    assert checkpoint(config.output)["step"] in (2, 3)
    train(config)  # on fewer processes
    assert apart(network_of(config), network_of(straight), config) < ROUNDING


def test_torchrun_resumes_by_itself_after_a_kill(dataset, tmp_path):
    straight = tiny_config(dataset, tmp_path / "straight", checkpoint_every=1)
    train(straight)
    config = replace(straight, output=str(tmp_path / "killed"))
    script = tmp_path / "worker.py"
    script.write_text(KILL_ONCE)
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--max-restarts=3"]
    done = subprocess.run(
        [sys.executable, *torchrun, str(script), str(written(config))],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "killed.json.killed").exists()
    events = [json.loads(line) for line in (Path(config.output) / "training.jsonl").read_text().splitlines()]
    assert [e["step"] in (2, 3) for e in events if e["event"] == "resumed"] == [True]
    assert apart(network_of(config), network_of(straight), config) < ROUNDING


def test_whoever_leaves_takes_the_threads_of_the_group_along(dataset, tmp_path):
    # One that is still there when Python ends may abort the process, which torchrun then starts again.
    codes, errors = ended(launch(tiny_config(dataset, tmp_path / "run"), 2, code=LEAVE))
    assert codes == [0, 0], errors


def test_a_port_in_use_is_said_in_one_line(dataset, tmp_path):
    config = tiny_config(dataset, tmp_path / "run")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-m", "drmc.training", str(written(config))],
            env={**os.environ, **environment(0, 2, port)},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert "the port is in use" in done.stderr and str(port) in done.stderr
    assert not Path(config.output).exists()
