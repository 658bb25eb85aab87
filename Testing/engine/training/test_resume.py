"""Resuming: whatever ends a run, it goes on from its last checkpoint to the same parameters."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import multiprocessing
import os
import random
import resource
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from drmc.cli import main as cli
from drmc.errors import InputError
from drmc.models.registry import find_model
from drmc.models.weights import load_network
from drmc.training import checkpoint as checkpoints
from drmc.training import loop
from drmc.training.config import TrainingConfig
from drmc.training.loop import train
from drmc.training.page import write_page
from drmc.training.trainer import Trainer
from drmc.training.validation import Validation
from support.engine.denoising_cases import tree
from support.engine.small_training import (
    CENTERS,
    checkpoint,
    forked,
    same,
    stop_after,
    tiny_config,
    written,
)


def measured(psnr: float, low: float) -> dict[str, dict[str, float]]:
    """What a validation finds, at every center the same."""
    values = {"psnr": psnr, "psnr_low": low, "psnr_gaussian": low, "share": 0.0}
    return {key: dict.fromkeys(CENTERS, value) for key, value in values.items()}


# ---- stopping and going on


@pytest.mark.parametrize(
    "start",
    [
        {},
        {"tail_rate": 0.5},
        {"optimizer": "muon", "averaging_start": True, "loss_margin": 1, "tile": 16},
    ],
)
def test_a_stopped_and_resumed_run_is_bit_identical(config, tmp_path, monkeypatch, start):
    config = replace(config, **start)
    straight = train(config)
    resumed_config = replace(config, output=str(tmp_path / "stopped"))
    with monkeypatch.context() as patched:
        stop_after(patched, 3)
        assert train(resumed_config) == Path(resumed_config.output) / checkpoints.CHECKPOINT
    assert checkpoint(resumed_config.output)["step"] == 3
    events: list[dict] = []
    resumed = train(resumed_config, report=events.append)
    assert (events[0]["event"], events[0]["step"]) == ("resumed", 3)
    a, b = checkpoint(config.output), checkpoint(resumed_config.output)
    for key in ("sites", "step", "best", "measured", "data"):
        assert same(a[key], b[key]), key
    assert a["step"] == 6
    weights = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (straight, resumed)]
    assert weights[0] == weights[1]
    # without resuming another three steps would give something else
    assert not same(dict(a["sites"][""]["network"]), dict(Trainer(config).sites[0].network.state_dict()))


def test_the_log_drops_steps_that_are_taken_again(config, tmp_path):
    Path(config.output).mkdir()
    log = Path(config.output) / "training.jsonl"
    kept = [{"event": "progress", "step": 50}, {"event": "validation", "step": 100}]
    lines = [*map(json.dumps, kept), json.dumps({"event": "progress", "step": 150}), '{"event": "progr']
    log.write_text("\n".join(lines))
    with loop.Log(Path(config.output), 0, 100, lambda record: None) as record:
        record({"event": "resumed", "step": 100})
    read = [json.loads(line) for line in log.read_text().splitlines()]
    assert read == [*kept, {"event": "resumed", "step": 100}]


def test_a_log_that_a_disk_has_damaged_is_read_but_for_the_damage(config, monkeypatch):
    stop_after(monkeypatch, 2)
    train(config)
    log = Path(config.output) / "training.jsonl"
    whole = log.read_bytes()
    log.write_bytes(whole + b'\xff\xfe{"event"\n')
    assert write_page(config.output).is_file()
    trainer = Trainer(config, data=checkpoint(config.output)["data"])
    assert trainer.resume()
    with loop.Log(Path(config.output), 0, trainer.step, lambda record: None):
        pass
    assert log.read_bytes() == whole


def test_a_stop_before_the_first_step_is_saved_too(config):
    def stop(record: dict) -> None:
        if record["event"] == "started":
            os.kill(os.getpid(), signal.SIGTERM)

    handlers = [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)]
    path = train(config, report=stop)
    assert [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)] == handlers
    assert path.is_file() and checkpoint(config.output)["step"] < config.steps


def test_a_stop_during_validation_is_saved_too(config, monkeypatch):
    def slow(self, networks) -> dict[str, dict[str, float]]:
        os.kill(os.getpid(), signal.SIGTERM)
        return measured(30.0, 28.0)

    monkeypatch.setattr(Validation, "measure", slow)
    train(replace(config, validate_every=4))
    state = checkpoint(config.output)
    assert state["step"] == 4 and state["best"] == 2


def test_another_configuration_does_not_resume(config, monkeypatch):
    stop_after(monkeypatch, 2)
    train(config)
    with pytest.raises(InputError, match="made with another 'learning_rate'"):
        train(replace(config, learning_rate=5e-4))
    may_change = replace(config, checkpoint_every=7, validate_every=3, export="last", slots_at_once=1)
    trainer = Trainer(may_change, data=checkpoint(config.output)["data"])
    assert trainer.resume() and trainer.step == 2


def with_zeros(checkpoint: bytes) -> bytes:
    """A checkpoint whose weights of the head are zero, as a disk may leave them; PyTorch reads it."""
    state = torch.load(io.BytesIO(checkpoint), weights_only=True)
    (site,) = state["sites"].values()
    weights = site["network"]["head.weight"].numpy().tobytes()
    assert checkpoint.count(weights) >= 1
    return checkpoint.replace(weights, bytes(len(weights)))


def test_a_damaged_checkpoint_gives_way_to_the_one_before(config, monkeypatch):
    stop_after(monkeypatch, 4)
    train(replace(config, checkpoint_every=1))
    output = Path(config.output)
    assert sorted(p.name for p in output.glob("checkpoint*")) == [
        *("checkpoint.1.pt", "checkpoint.2.pt", "checkpoint.pt"),
    ]
    newest, data = output / checkpoints.CHECKPOINT, checkpoint(output)["data"]
    whole = newest.read_bytes()
    for damaged in (whole[:1000], with_zeros(whole)):
        newest.write_bytes(damaged)
        trainer = Trainer(config, data=data)
        assert trainer.resume() and trainer.step == 3
    newest.unlink()  # killed between renaming the old and writing the new one
    trainer = Trainer(config, data=data)
    assert trainer.resume() and trainer.step == 3


@pytest.mark.parametrize("content", [b"", b"\0" * 1000, b"no checkpoint"])
def test_a_run_whose_checkpoints_are_all_damaged_does_not_start_anew(config, content):
    train(replace(config, checkpoint_every=2, export="last"))
    for path in Path(config.output).glob("checkpoint*.pt"):
        path.write_bytes(content)
    before = tree(Path(config.output))
    with pytest.raises(InputError, match=r"checkpoint\.pt: cannot be read, nor can another checkpoint"):
        train(config)
    assert tree(Path(config.output)) == before


# ---- what ends a run


def _train_and_tell(config: TrainingConfig, connection) -> None:
    """Trains, and says each step that was taken."""
    original = Trainer.train_step

    def train_step(self, sampler):
        record = original(self, sampler)
        connection.send(self.step)
        return record

    Trainer.train_step = train_step
    train(config)


def test_ten_kills_change_not_a_bit(dataset, tmp_path):
    often = {"checkpoint_every": 2, "validate_every": 50}
    straight = tiny_config(dataset, tmp_path / "straight", steps=100, **often)
    train(straight)
    config = replace(straight, output=str(tmp_path / "killed"))
    chance = random.Random(7)
    for kill in range(10):
        receiver, sender = multiprocessing.Pipe(duplex=False)
        process = forked(_train_and_tell, config, sender)
        sender.close()
        target = 9 * kill + chance.randint(1, 9)
        while receiver.recv() < target:
            pass
        time.sleep(chance.uniform(0, 0.02))  # anywhere in a step, a validation or a checkpoint
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
    train(config)
    a, b = checkpoint(straight.output), checkpoint(config.output)
    for key in ("sites", "step", "best", "measured"):
        assert same(a[key], b[key]), key
    assert a["step"] == 100
    model = f"{config.name}.pt"
    weights = [(Path(c.output) / model).read_bytes() for c in (straight, config)]
    assert weights[0] == weights[1]
    assert not list(Path(config.output).glob(".part-*"))


def test_a_full_disk_is_said_in_one_line_and_the_run_goes_on(config, tmp_path, monkeypatch, capsys):
    """A limit on the size of files, which is what a disk without room looks like to the program."""
    straight = replace(config, output=str(tmp_path / "straight"), checkpoint_every=2)
    train(straight)
    config = replace(config, checkpoint_every=2)
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill_the_disk(trainer: Trainer) -> None:
        size = (trainer.output / checkpoints.CHECKPOINT).stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, unlimited[1]))

    with monkeypatch.context() as patched:
        stop_after(patched, 3, fill_the_disk)
        try:
            code = cli.main(["train", str(written(config))])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    last = capsys.readouterr().err.splitlines()[-1]
    assert code == 1 and last.startswith("drmc: ") and "make room and start again" in last
    names = {path.name for path in Path(config.output).iterdir()}
    assert not {name for name in names if name.startswith(".part-") or name.endswith(".1.pt")}
    assert checkpoint(config.output)["step"] == 2
    train(config)
    assert same(checkpoint(config.output)["sites"], checkpoint(straight.output)["sites"])


def test_the_last_checkpoints_outlive_a_save_that_fails(config, monkeypatch):
    stop_after(monkeypatch, 4)
    train(replace(config, checkpoint_every=1))
    output = Path(config.output)
    before = {path.name: path.read_bytes() for path in output.glob("*.pt")}
    assert len(before) == checkpoints.KEPT_CHECKPOINTS

    def no_room(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoints.os, "fsync", no_room)
    with pytest.raises(OSError):
        checkpoints.write_checkpoint(output, {"step": 5})
    assert {path.name: path.read_bytes() for path in output.iterdir() if path.suffix == ".pt"} == before


# ---- what does not go on


def refusal(config: TrainingConfig) -> str:
    with pytest.raises(InputError) as refused:
        train(config)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_changed_images_are_refused_unless_accepted(dataset, tmp_path, monkeypatch):
    data, output = tmp_path / "data", tmp_path / "run"
    shutil.copytree(dataset, data)
    config = tiny_config(data, output)
    with monkeypatch.context() as patched:
        stop_after(patched, 2)
        train(config)
    # neither another place nor another split changes what the run reads
    moved = data.rename(tmp_path / "moved")
    manifest = json.loads((moved / "dataset.json").read_text())
    test_case = {**manifest["cases"][0], "id": "new", "split": "test"}
    (moved / "dataset.json").write_text(json.dumps({**manifest, "cases": [*manifest["cases"], test_case]}))
    config = replace(config, dataset=str(moved))
    with monkeypatch.context() as patched:
        stop_after(patched, 4)
        train(config)
    assert checkpoint(output)["step"] == 4
    image = moved / manifest["cases"][0]["low"]["4"]
    shutil.copy(moved / manifest["cases"][1]["low"]["4"], image)
    assert "images" in refusal(config) and "accept_changed_data" in refusal(config)
    assert checkpoint(output)["step"] == 4
    train(replace(config, accept_changed_data=True))
    assert checkpoint(output)["step"] == 6


def test_a_checkpoint_of_other_code_is_refused_in_one_line(config, monkeypatch):
    with monkeypatch.context() as patched:
        stop_after(patched, 2)
        train(config)
    path = Path(config.output) / checkpoints.CHECKPOINT
    state = checkpoint(config.output)
    torch.save({**state, "groups": state["groups"][::-1]}, path)
    assert "ordered the parameters in another way" in refusal(config)
    torch.save({**state, "format": 1}, path)
    assert "another version of drmc" in refusal(config)
    torch.save({**state, "version": "0.0.1"}, path)  # not refused, but said
    events: list[dict] = []
    train(config, report=events.append)
    assert (events[0]["event"], events[0]["made_with"]) == ("resumed", "0.0.1")


# ---- the best and the last


def test_the_model_is_the_best_or_the_last_as_asked(config, monkeypatch):
    gains = {2: 1.0, 4: 3.0, 6: 2.0}
    measure = lambda *_: measured(30.0 + gains[trainers[-1].step], 30.0)
    monkeypatch.setattr(Validation, "measure", measure)
    trainers: list[Trainer] = []
    stop_after(monkeypatch, 1, trainers.append)
    config = replace(config, validate_every=2, checkpoint_every=1)
    for asked, step in (("best", 4), ("last", 6)):
        one = replace(config, export=asked, output=f"{config.output}-{asked}")
        entry = find_model(train(one))
        training = entry.card["training"]
        assert (training["weights"], training["weights_step"], training["steps"]) == (asked, step, 6)
        assert training["validation_gain"] == pytest.approx(gains[step])
        best = torch.load(Path(one.output) / checkpoints.BEST, weights_only=True)
        state = best if asked == "best" else checkpoint(one.output)
        assert (best["step"], state["step"]) == (4, step)
        exported = load_network(entry)[0].state_dict()
        assert same(dict(exported), dict(state["sites"][""]["average"]))
        assert not same(best["sites"], checkpoint(one.output)["sites"])
    assert checkpoint(one.output)["best"] == pytest.approx(3.0)
