"""Before a training starts: the torchrun command, the checks, and two machines that meet."""

from __future__ import annotations

import json
import os
import shlex
import socket
import subprocess
import sys
from collections import namedtuple
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from drmc.cli import main as cli
from drmc.errors import InputError
from drmc.files import write_json
from drmc.training import checkpoint, launch, preflight
from drmc.training.config import TrainingConfig
from drmc.training.launch import STOP_FILE, Launch, new_configuration, shell_line
from drmc.training.loop import train
from drmc.training.preflight import OK, REFUSED, WARNING
from drmc.training.start import initial_network
from drmc.training.tasks.base import Task
from drmc.training.trainer import Trainer
from hypothesis import given
from hypothesis import strategies as st
from support.engine.small_training import CENTERS, PATIENCE, make_dataset, tiny_config

ENGINE = Path(launch.__file__).resolve().parents[2]
CONFIG = Path("my training.json")


def checked(config: TrainingConfig, tmp_path: Path, **where) -> preflight.Preflight:
    """The checks of a configuration, written to a file as a user has it."""
    path = tmp_path / "training.json"
    write_json(path, config.to_dict())
    return preflight.preflight(Launch(path, **where))


def texts(found: preflight.Preflight, level: str) -> list[str]:
    return [check.text for check in found.checks if check.level == level]


# ---- the command


def test_one_machine_needs_no_meeting_point():
    assert Launch(CONFIG, 4).command() == [
        *("torchrun", "--standalone", "--nproc-per-node=4", "--max-restarts=3"),
        *("-m", "drmc.training", str(CONFIG)),
    ]
    assert Launch(CONFIG, 4).command("/bin/py", progress="json") == [
        *("/bin/py", "-m", "torch.distributed.run", *Launch(CONFIG, 4).command()[1:], "--progress", "json"),
    ]


def test_several_machines_meet_and_the_first_one_hosts():
    first, second, any_one = (
        Launch(CONFIG, 8, nodes=2, node_rank=rank, endpoint="node0:29500") for rank in (0, 1, None)
    )
    assert first.world == 16
    assert first.command()[1:5] == [
        *("--nnodes=2", "--rdzv-backend=c10d", "--rdzv-endpoint=node0:29500", "--rdzv-conf=is_host=1")
    ]
    assert "--rdzv-conf=is_host=0" in second.command()
    assert not [word for word in any_one.command() if "is_host" in word or "standalone" in word]


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ({"processes": 0}, "processes = 0: must be at least 1"),
        ({"nodes": 2}, "name the machine and port where they meet"),
        ({"nodes": 2, "node_rank": 2, "endpoint": "a:1"}, "node rank 2: must lie between 0 and 1"),
        ({"endpoint": "node0"}, "write HOST:PORT"),
        ({"endpoint": "node0:70000"}, "write HOST:PORT"),
        ({"endpoint": ":29500"}, "write HOST:PORT"),
    ],
)
def test_a_launch_that_cannot_be_is_refused(where, said):
    with pytest.raises(InputError, match=said):
        Launch(CONFIG, **where)


def test_an_address_of_version_6_keeps_its_colons():
    assert Launch(CONFIG, endpoint="[::1]:29500").meeting_point() == ("::1", 29500)


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), min_size=1))
def test_the_line_is_read_back_by_a_shell(words):
    line = shell_line(words, {"A": words[0]}, windows=False)
    setting, *command = shlex.split(line)
    assert command == words and setting == f"A={words[0]}"


def test_the_line_for_windows():
    line = shell_line(["C:\\Program Files\\python.exe", "-m", "x"], {"A": "1 2"}, windows=True)
    assert line == 'set "A=1 2" && "C:\\Program Files\\python.exe" -m x'


# ---- the checks


def test_a_sound_training_passes_and_nothing_is_written(config, tmp_path):
    found = checked(config, tmp_path)
    assert texts(found, REFUSED) == []
    assert (found.output, found.step, found.steps) == (config.output, 0, config.steps)
    said = "\n".join(texts(found, OK))
    parameters = sum(p.numel() for p in initial_network(config).parameters())
    assert f"{parameters} parameters" in said and "A 2 + 1, B 2 + 1" in said and "starts at step 0" in said
    assert not Path(config.output).exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"centers": ("A", "C9")}, "center C9 has no patient in the split 'train'"),
        ({"dataset": "/there/is/none"}, "no such dataset"),
        ({"output": "/dev/null/run"}, "cannot be written; choose another output folder"),
    ],
)
def test_what_would_fail_later_is_refused_now(config, tmp_path, changes, said):
    assert said in " ".join(texts(checked(replace(config, **changes), tmp_path), REFUSED))


def test_a_missing_image_is_named(tmp_path):
    folder = make_dataset(tmp_path / "data" if (tmp_path / "data").mkdir() is None else tmp_path)
    missing = folder / "B-train-1" / "low.nii.gz"
    missing.unlink()
    refused = texts(checked(tiny_config(folder, tmp_path / "run"), tmp_path), REFUSED)
    assert len(refused) == 1 and str(missing) in refused[0]


def test_where_a_run_goes_on_is_said(config, tmp_path):
    train(replace(config, steps=2))
    found = checked(config, tmp_path)
    assert found.step == 2 and "checkpoint: training goes on from step 2 of 6" in texts(found, OK)
    done = checked(replace(config, steps=2), tmp_path)
    assert any("all 2 steps are done" in text for text in texts(done, WARNING))
    other = checked(replace(config, learning_rate=0.5), tmp_path)
    assert any("made with another 'learning_rate'" in text for text in texts(other, REFUSED))


def test_a_disk_without_room_is_refused(config, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda folder: usage(10**9, 10**9, 1000))
    assert any(
        "0 MB free, the checkpoints take" in text for text in texts(checked(config, tmp_path), REFUSED)
    )


def test_the_checkpoints_take_what_is_said(config, tmp_path):
    """The room asked for covers the files of a real run, without being many times too large."""
    train(replace(config, checkpoint_every=1))
    written = sum(path.stat().st_size for path in Path(config.output).glob("*.pt"))
    parameters = sum(p.numel() for p in initial_network(config).parameters())
    content = 4 * preflight._VALUES_PER_PARAMETER * parameters
    one = (Path(config.output) / checkpoint.CHECKPOINT).stat().st_size
    assert content < one < 4 * content  # a tiny network's names and shapes weigh more than its numbers
    assert written < 4 * content * preflight._CHECKPOINTS


def test_more_processes_than_work_are_a_warning(config, tmp_path, monkeypatch):
    monkeypatch.setattr(preflight.hardware, "physical_cores", lambda: 2)
    warned = texts(checked(config, tmp_path, processes=3), WARNING)
    assert any("3 processes, but a step has 2 patches: 1 would do nothing" in text for text in warned)
    assert any("3 processes with 1 thread on 2 cores" in text for text in warned)
    assert texts(checked(config, tmp_path, processes=2), WARNING) == []


@pytest.mark.parametrize("strategy", ["specialist", "fedavg", "ftl"])
def test_a_network_of_a_center_is_the_work_of_one_process(config, tmp_path, monkeypatch, strategy):
    """However many patches of its center there are."""
    monkeypatch.setattr(preflight.hardware, "physical_cores", lambda: 4)
    config = replace(config, strategy=strategy, patches_per_center=2)
    (warned,) = texts(checked(config, tmp_path, processes=4), WARNING)
    assert warned.startswith(
        f"4 processes, but {strategy} has 2 networks, each stepped by one process: 2 would"
    )
    assert "patches_per_center" not in warned
    assert texts(checked(config, tmp_path, processes=2), WARNING) == []
    assert texts(checked(replace(config, strategy="joint"), tmp_path, processes=4), WARNING) == []


class TwoCards:
    """torch.cuda of a machine with two GPUs, the second one nearly full."""

    free = (80 * 10**9, 10**5)

    @staticmethod
    def is_available() -> bool:
        return True

    @staticmethod
    def device_count() -> int:
        return 2

    @classmethod
    def mem_get_info(cls, index):
        return cls.free[index], 80 * 10**9

    @staticmethod
    def get_device_name(index):
        return f"card {index}"


def test_gpus_are_counted_and_their_memory_is_compared(config, tmp_path, monkeypatch):
    Cards = type("Torch", (), {"cuda": TwoCards, "__getattr__": lambda self, name: getattr(torch, name)})
    monkeypatch.setattr(preflight, "torch", Cards())
    found = checked(config, tmp_path, processes=3)
    assert any("3 processes on a machine with 2 GPUs" in text for text in texts(found, REFUSED))
    found = checked(config, tmp_path, processes=2)
    assert texts(found, REFUSED) == []
    assert any(text.startswith("GPU 0: card 0, 80.0 GB") for text in texts(found, OK))
    assert any(text.startswith("GPU 1: card 1, 0 MB") for text in texts(found, WARNING))


def test_the_memory_of_a_large_patch_follows_from_a_small_one(config, monkeypatch):
    config = replace(config, patch=24)
    network = initial_network(config)
    monkeypatch.setattr(Task, "probe", 16)
    small = preflight.step_cost(config, network)
    monkeypatch.setattr(Task, "probe", 24)
    assert small.memory_bytes == pytest.approx(preflight.step_cost(config, network).memory_bytes, rel=0.1)
    # at least the patch's tokens are kept in every block
    assert small.memory_bytes > 4 * 24**3 * config.network.channels * config.network.blocks


@pytest.fixture
def taken_port() -> int:
    with closing(socket.socket()) as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        yield holder.getsockname()[1]


def test_a_port_in_use_is_refused_in_one_line(config, tmp_path, taken_port, capsys):
    path = tmp_path / "training.json"
    write_json(path, config.to_dict())
    at = f"127.0.0.1:{taken_port}"
    assert cli.main(["train", str(path), "--check", "--nodes", "2", "--rendezvous", at]) == 2
    said = capsys.readouterr().err.strip()
    assert "\n" not in said
    assert said.startswith(f"drmc: rendezvous {at}: the port cannot be opened (Address already in use)")
    # the machine that joins does not open it
    arguments = ["--nodes", "2", "--node-rank", "1", "--rendezvous", at]
    assert cli.main(["train", str(path), "--check", *arguments]) == 0
    assert not Path(config.output).exists()


def test_a_machine_that_is_not_there_is_refused(config, tmp_path):
    found = checked(config, tmp_path, nodes=2, endpoint="no-such-machine.invalid:29500")
    assert any("there is no machine no-such-machine.invalid" in text for text in texts(found, REFUSED))


def test_the_checks_for_programs_are_json_lines(config, tmp_path, capsys):
    path = tmp_path / "training.json"
    write_json(path, config.to_dict())
    assert cli.main(["train", str(path), "--check", "--progress", "json"]) == 0
    *checks, result = map(json.loads, capsys.readouterr().out.splitlines())
    assert {check["event"] for check in checks} == {"check"} and {check["level"] for check in checks} <= {
        OK,
        WARNING,
    }
    assert result["event"] == "result" and result["output"] == config.output
    assert shlex.split(result["command"])[-3:] == ["-m", "drmc.training", str(path)]
    path.write_text('{"dataset": "d", "output": "o", "stesp": 1}')
    assert cli.main(["train", str(path), "--check", "--progress", "json"]) == 2
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line.get("level") for line in lines] == [REFUSED, None, None]
    assert lines[-1]["exit_code"] == 2 and lines[-1]["message"] == lines[0]["text"]


# ---- a configuration for a dataset


def test_a_configuration_of_a_preset_can_be_read(dataset, tmp_path):
    pytest.importorskip("drmc.training.presets")
    path = new_configuration(dataset, "tiny", tmp_path / "run")
    config = TrainingConfig.read(path)
    assert config.centers == CENTERS
    assert Path(config.dataset).resolve() == dataset.resolve()
    assert Path(config.output).resolve() == (tmp_path / "run").resolve()


# ---- what runs


def test_a_file_in_the_output_folder_stops_a_run_with_a_checkpoint(config, monkeypatch):
    step = Trainer.train_step

    def and_ask(trainer, sampler):
        (trainer.output / STOP_FILE).touch()
        return step(trainer, sampler)

    monkeypatch.setattr(Trainer, "train_step", and_ask)
    assert train(config) == Path(config.output) / checkpoint.CHECKPOINT
    saved = torch.load(Path(config.output) / checkpoint.CHECKPOINT, weights_only=True)
    assert saved["step"] == 2  # the file was there before the second step
    monkeypatch.setattr(Trainer, "train_step", step)
    assert train(config).name == f"{config.name}.pt"  # asked an earlier run, not this one


def free_port() -> int:
    with closing(socket.socket()) as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def test_two_machines_take_the_steps_of_one_process(config, tmp_path):
    """Two torchrun agents with one process each, meeting at a port of the loopback device."""
    together = replace(config, steps=3, output=str(tmp_path / "together"))
    alone = replace(config, steps=3, output=str(tmp_path / "alone"))
    path = tmp_path / "training.json"
    write_json(path, together.to_dict())
    endpoint = f"127.0.0.1:{free_port()}"
    agents = []
    for rank in (0, 1):
        one = Launch(path, nodes=2, node_rank=rank, endpoint=endpoint, max_restarts=0)
        command = one.command(sys.executable)
        command.insert(3, "--local-addr=127.0.0.1")  # a test machine's name may not resolve
        environment = {**os.environ, **one.environment(sys.executable), "OMP_NUM_THREADS": "1"}
        environment["PYTHONPATH"] = os.pathsep.join([str(ENGINE), os.environ.get("PYTHONPATH", "")])
        agents.append(
            subprocess.Popen(
                command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
        )
    try:
        said = [agent.communicate(timeout=PATIENCE)[0] for agent in agents]
    finally:
        for agent in agents:
            agent.kill()
    assert [agent.returncode for agent in agents] == [0, 0], said
    train(alone)
    first, second = (torch.load(Path(one.output) / "tiny.pt", weights_only=True) for one in (together, alone))
    weights = [one["state"] if "state" in one else one for one in (first, second)]
    assert weights[0].keys() == weights[1].keys()
    for name, value in weights[1].items():
        if isinstance(value, torch.Tensor):
            torch.testing.assert_close(weights[0][name], value, rtol=0, atol=1e-6)
