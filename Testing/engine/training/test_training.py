"""Training steps of one process, the exported model, precision and fine-tuning."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from drmc.cli import main as cli
from drmc.datasets.manifest import read_manifest, select
from drmc.errors import DRMCError, InputError
from drmc.models.registry import find_model
from drmc.models.weights import load_network
from drmc.networks.protocol import INPUT_SCALE
from drmc.training.config import TrainingConfig
from drmc.training.loop import train
from drmc.training.pairs import Pair
from drmc.training.processes import Processes
from drmc.training.sampler import PatchSampler
from drmc.training.trainer import Trainer, learning_rate
from drmc.training.validation import Validation
from support.engine.small_training import (
    CENTERS,
    ROUNDING,
    TINY,
    apart,
    checkpoint,
    load_pair,
    made_pair,
    same,
    sampler_of,
    tiny_config,
    write_nifti,
)

# ---- steps


def test_every_slot_of_a_step_goes_to_exactly_one_process(config):
    config = replace(config, centers=("A", "B", "C"), patches_per_center=2)
    whole = sorted(Trainer(config).slots)
    assert whole == [(c, i) for c in "ABC" for i in (0, 1)]
    for strategy in ("joint", "mixed", "specialist", "fedavg", "ftl"):
        for world in (1, 2, 4, 7):
            processes = [Processes(rank, world) for rank in range(world)]
            shares = [Trainer(replace(config, strategy=strategy), one).slots for one in processes]
            assert sorted(slot for share in shares for slot in share) == whole
            if strategy in ("joint", "mixed"):
                assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_step_moves_the_network_and_the_average_follows(config, pairs):
    trainer = Trainer(config)
    before = {k: v.clone() for k, v in trainer.sites[0].average.state_dict().items()}
    record = trainer.train_step(sampler_of(pairs))
    assert record["step"] == trainer.step == 1 and record["rate"] == learning_rate(config, 0)
    assert (
        set(record["loss"]) == set(CENTERS) and record["loss"]["B"] > record["loss"]["A"] > config.charbonnier
    )
    moved = trainer.sites[0].network.tail.weight.detach()
    assert float(moved.abs().max()) > 0
    # the average forgets its start quickly: 0.1 of it and 0.9 of the first step
    assert torch.allclose(trainer.sites[0].average.tail.weight, 0.9 * moved, atol=1e-9)
    assert float(before["tail.weight"].abs().max()) == 0


def test_training_learns_what_the_low_dose_lacks(config):
    """A constant offset between low and full dose, which any working step direction finds."""
    image = np.random.default_rng(2).uniform(0.5, 3, (16, 16, 16))
    sampler = sampler_of({"A": [made_pair(image + 1.0, image)]}, scale_range=1.0)
    trainer = Trainer(replace(config, centers=("A",), steps=60, learning_rate=3e-3, warmup_steps=1))
    losses = [trainer.train_step(sampler)["loss"]["A"] for _ in range(60)]
    assert losses[0] == pytest.approx(1 / INPUT_SCALE, rel=0.01)
    assert np.mean(losses[-5:]) < 0.4 * losses[0]


class Poisoned(PatchSampler):
    """Gives NaN at one step."""

    def __init__(self, pairs, at: int):
        super().__init__(pairs, patch=8, seed=1, hot_fraction=0.0, scale_range=1.0)
        self.at = at

    def draw(self, step, center, slot):
        drawn = super().draw(step, center, slot)
        return drawn._replace(low=drawn.low * np.nan) if step == self.at else drawn


def test_a_step_without_finite_gradients_changes_nothing_and_is_counted(config, pairs):
    trainer = Trainer(config)
    sampler = Poisoned(pairs, at=1)
    trainer.train_step(sampler)
    states = (
        trainer.sites[0].network.state_dict(),
        trainer.sites[0].average.state_dict(),
        trainer.sites[0].optimizer.state_dict()["state"],
    )
    before = [{k: v.clone() for k, v in s.items()} if k < 2 else _cloned(s) for k, s in enumerate(states)]
    record = trainer.train_step(sampler)
    assert not math.isfinite(record["gradient_norm"]) and trainer.skipped == 1 and trainer.step == 2
    after = (
        trainer.sites[0].network.state_dict(),
        trainer.sites[0].average.state_dict(),
        trainer.sites[0].optimizer.state_dict()["state"],
    )
    assert all(same(a, b) for a, b in zip(before, after, strict=True))
    trainer.train_step(sampler)
    assert trainer.skipped == 1 and not same(before[0], trainer.sites[0].network.state_dict())
    assert all(bool(torch.isfinite(v).all()) for v in trainer.sites[0].network.state_dict().values())


def _cloned(state: dict) -> dict:
    return {number: {k: v.clone() for k, v in slots.items()} for number, slots in state.items()}


@pytest.mark.parametrize("progress", ["json", "text"])
def test_what_is_said_stays_json_when_a_loss_is_not_finite(progress, config, monkeypatch, tmp_path, capsys):
    original = PatchSampler.draw

    def draw(self, step, center, slot):
        drawn = original(self, step, center, slot)
        return drawn._replace(low=drawn.low * np.nan) if step == 1 else drawn

    monkeypatch.setattr(PatchSampler, "draw", draw)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(replace(config, steps=3).to_dict()))
    assert cli.main(["train", str(path), "--progress", progress]) == 0
    assert checkpoint(config.output)["skipped"] == 1

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    logged = (Path(config.output) / "training.jsonl").read_text().splitlines()
    printed = capsys.readouterr().out.splitlines() if progress == "json" else []
    for lines in (logged, printed) if printed else (logged,):
        events = [json.loads(line, parse_constant=refuse)["event"] for line in lines]
        assert events == ["started", "progress", "validation", "finished"]


@pytest.mark.parametrize(
    ("bad", "steps", "said"),
    [
        (lambda step: True, 12, "11 steps up to step 11 had no finite gradients"),
        (lambda step: step >= 30, 10_000, "20 steps up to step 50 had no finite gradients"),
        (lambda step: step % 2, 100, "11 steps up to step 22 had no finite gradients"),
    ],
)
def test_a_run_that_takes_no_steps_ends_at_once_and_in_one_line(bad, steps, said, config, monkeypatch):
    original = PatchSampler.draw

    def draw(self, step, center, slot):
        drawn = original(self, step, center, slot)
        return drawn._replace(low=drawn.low * np.nan) if bad(step) else drawn

    monkeypatch.setattr(PatchSampler, "draw", draw)
    with pytest.raises(DRMCError, match=said) as refusal:
        train(replace(config, steps=steps, checkpoint_every=5))
    assert "\n" not in str(refusal.value)
    kept = Path(config.output) / "checkpoint.pt"
    assert not kept.exists() or checkpoint(config.output)["skipped"] < 20


# ---- the model


def test_every_dose_of_a_patient_is_trained_on(dataset, tmp_path, monkeypatch):
    manifest = json.loads((dataset / "dataset.json").read_text())
    for entry in manifest["cases"]:
        for side in ("full", "low"):
            write_nifti(
                tmp_path / f"{entry['id']}_{side}.nii.gz",
                sitk.GetArrayFromImage(sitk.ReadImage(str(dataset / entry["id"] / f"{side}.nii.gz"))),
            )
        entry["full"] = f"{entry['id']}_full.nii.gz"
        entry["low"] = {"4": f"{entry['id']}_low.nii.gz", "2": f"{entry['id']}_full.nii.gz"}
    (tmp_path / "dataset.json").write_text(json.dumps(manifest))
    seen = {}
    original = PatchSampler.__init__

    def recorded(self, pairs, **options):
        seen.update(pairs)
        original(self, pairs, **options)

    monkeypatch.setattr(PatchSampler, "__init__", recorded)
    train(tiny_config(tmp_path, tmp_path / "run", steps=1))
    noisy = {center: [bool((p.low != p.full).any()) for p in found] for center, found in seen.items()}
    assert noisy == {center: [True, False, True, False] for center in CENTERS}


def test_the_exported_model_loads_and_says_what_made_it(config):
    config = replace(config, card={"title": "A tiny one", "name": "another"})
    path = train(config)
    entry = find_model(path)
    network, tile = load_network(entry)
    assert tile == config.patch and network.config == TINY
    wider = replace(config, tile=12, output=str(Path(config.output).with_name("wider")))
    assert load_network(find_model(train(wider)))[1] == 12
    assert same(dict(network.state_dict()), dict(checkpoint(config.output)["sites"][""]["average"]))
    assert entry.card["title"] == "A tiny one" and entry.card["name"] == config.name
    card = entry.card["training"]
    assert card["hardware"]["physical_cores"] >= 1 and card["processes"] == 1
    assert card["simulated"] is True and card["patients"] == {"A": 2, "B": 2}
    assert (card["steps"], card["patches"]) == (6, 12)
    assert card["configuration"]["learning_rate"] == config.learning_rate
    assert str(Path(config.dataset)) not in json.dumps(entry.card)
    measured = checkpoint(config.output)["measured"]
    assert card["validation_psnr"] == pytest.approx(np.mean(list(measured["psnr"].values())))
    assert card["validation_gain"] == pytest.approx(checkpoint(config.output)["best"])
    assert (card["weights"], card["weights_step"], card["strategy"]) == ("best", 6, "joint")
    written = TrainingConfig.from_dict(json.loads((Path(config.output) / "config.json").read_text()))
    assert written == replace(config, dataset="", output="")


# ---- precision and memory


def test_bfloat16_trains_float32_weights_nearly_alike(config, pairs):
    sampler = sampler_of(pairs)
    exact, low = Trainer(config), Trainer(replace(config, precision="bf16"))
    start = {key: value.clone() for key, value in exact.sites[0].network.state_dict().items()}
    for _ in range(3):
        records = [trainer.train_step(sampler) for trainer in (exact, low)]
    a, b = (dict(trainer.sites[0].network.state_dict()) for trainer in (exact, low))
    assert all(value.dtype == torch.float32 for value in b.values())
    flat = lambda state: torch.cat([(state[key] - start[key]).flatten() for key in start])
    cosine = torch.nn.functional.cosine_similarity(flat(a), flat(b), dim=0)
    assert 0.95 < float(cosine) and not same(a, b)
    assert records[1]["loss"] == pytest.approx(records[0]["loss"], rel=0.02)


def test_slots_computed_one_after_the_other_make_the_same_step(config, pairs):
    config = replace(config, patches_per_center=2)
    sampler = sampler_of(pairs)
    together, in_turn = Trainer(config), Trainer(replace(config, slots_at_once=1))
    records = [trainer.train_step(sampler) for trainer in (together, in_turn)]
    assert records[1]["loss"] == pytest.approx(records[0]["loss"], rel=1e-5)
    assert records[1]["closed_gates"] == pytest.approx(records[0]["closed_gates"])
    a, b = (trainer.sites[0].network.state_dict() for trainer in (together, in_turn))
    assert apart(a, b, config) < ROUNDING


# ---- fine-tuning


@pytest.fixture(scope="module")
def shipped(dataset, tmp_path_factory) -> Path:
    """A model of both centers."""
    return train(tiny_config(dataset, tmp_path_factory.mktemp("shipped") / "run", steps=3))


def test_fine_tuning_goes_on_from_a_model_and_watches_what_it_forgets(dataset, shipped, tmp_path):
    path = tmp_path / "tune.json"
    values = {"preset": "tiny", "dataset": str(dataset), "output": "run", "centers": ["B"], "steps": 4}
    tuning = {"initial_weights": str(shipped), "watched_dataset": str(dataset), "watched_centers": ["A"]}
    path.write_text(json.dumps({**values, **tuning, "patch": 8, "validate_every": 2}))
    config = TrainingConfig.read(path)
    assert config.network == TINY  # the model's, not the preset's
    start = Trainer(config)
    given = dict(load_network(find_model(shipped))[0].state_dict())
    assert same(dict(start.sites[0].network.state_dict()), given) and same(
        dict(start.sites[0].average.state_dict()), given
    )
    records: list[dict] = []
    entry = find_model(train(config, report=records.append))
    validations = [r for r in records if r["event"] == "validation"]
    assert [r["step"] for r in validations] == [0, 2, 4]
    assert all(set(r["psnr"]) == {"B"} and set(r["watched"]["psnr"]) == {"A"} for r in validations)
    before = Validation(_held_out(dataset, "A"), config).measure(load_network(find_model(shipped))[0])
    assert validations[0]["watched"]["psnr"]["A"] == pytest.approx(before["psnr"]["A"], abs=1e-4)
    assert validations[-1]["watched"]["psnr"]["A"] != validations[0]["watched"]["psnr"]["A"]
    begun = find_model(shipped)
    assert entry.card["training"]["initial_weights"] == {
        "name": shipped.stem,
        "sha256": begun.sha256,
        "training": begun.card["training"],
    }
    assert begun.card["training"]["patients"].keys() == {"A", "B"}
    assert str(tmp_path.parent) not in json.dumps(entry.card)


def _held_out(dataset: Path, center: str) -> dict[str, list[Pair]]:
    cases = select(read_manifest(dataset), "validation", (center,))[center]
    return {center: [load_pair(case, 4.0) for case in cases]}


def test_another_network_than_the_model_s_is_refused(dataset, shipped, tmp_path):
    values = {"dataset": str(dataset), "output": str(tmp_path / "run"), "centers": ["B"]}
    config = TrainingConfig.from_dict(
        {**values, "initial_weights": str(shipped), "network": {"channels": 16}}
    )
    with pytest.raises(InputError, match="channels = 16 is not that of initial_weights") as refusal:
        train(config)
    assert "\n" not in str(refusal.value) and not (tmp_path / "run").exists()
