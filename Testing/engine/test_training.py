"""Training: configuration, data, loss, start and steps of one process."""

from __future__ import annotations

import json
import math
import shutil
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
from drmc.networks.drmc import DRMC, NetworkConfig
from drmc.networks.protocol import INPUT_SCALE
from drmc.training.config import TrainingConfig
from drmc.training.loop import train
from drmc.training.muon import MuonAdamW, orthogonalized
from drmc.training.pairs import Pair
from drmc.training.presets import PRESETS
from drmc.training.processes import Processes
from drmc.training.sampler import PatchSampler
from drmc.training.start import initial_network
from drmc.training.trainer import Trainer, charbonnier, learning_rate
from drmc.training.validation import Validation
from small_training import (
    CENTERS,
    ROUNDING,
    TINY,
    apart,
    ball,
    checkpoint,
    load_pair,
    made_pair,
    make_dataset,
    same,
    sampler_of,
    tiny_config,
    write_nifti,
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("data"))


@pytest.fixture
def config(dataset, tmp_path) -> TrainingConfig:
    return tiny_config(dataset, tmp_path / "run")


@pytest.fixture(scope="module")
def pairs(dataset) -> dict[str, list[Pair]]:
    found = select(read_manifest(dataset), "train", CENTERS)
    return {center: [load_pair(case, 4.0) for case in cases] for center, cases in found.items()}


# ---- configuration


def test_a_configuration_survives_its_file(config, tmp_path):
    path = tmp_path / "config.json"
    changed = replace(config, centers=("A",), hot_fraction=0.25, network=replace(TINY, gate="top2"))
    path.write_text(json.dumps(changed.to_dict()))
    assert TrainingConfig.read(path) == changed
    assert changed != config
    path.write_text(json.dumps({"dataset": "../data", "output": "run"}))
    read = TrainingConfig.read(path)
    assert Path(read.dataset).resolve() == tmp_path.parent.resolve() / "data"
    assert Path(read.output) == tmp_path.resolve() / "run"
    defaults = TrainingConfig(dataset="", output="")
    assert replace(read, dataset="", output="") == defaults
    assert (defaults.patch, defaults.network, defaults.centers) == (
        64,
        NetworkConfig(),
        ("C1", "C2", "C3", "C4"),
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"stepz": 5}, "unknown key 'stepz'"),
        ({"network": {"channels": 8, "depth": 3}}, "depth"),
        ({"network": {"channels": 10, "heads": 3}}, "multiple of heads"),
        ({"network": "large"}, "network"),
        ({"patch": 0}, "patch"),
        ({"patch": 4}, "patch"),  # a model with such a tile cannot be loaded
        ({"steps": 0}, "steps"),
        ({"steps": "many"}, "steps"),
        ({"steps": 10.5}, "steps"),
        ({"learning_rate": 0}, "learning_rate"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"hot_fraction": 1.5}, "hot_fraction"),
        ({"scale_range": 0.5}, "scale_range"),
        ({"dose_mixing": 1.5}, "dose_mixing"),
        ({"ema_decay": 1.0}, "ema_decay"),
        ({"beta2": 1.0}, "beta2"),
        ({"optimizer": "adam"}, "optimizer"),
        ({"strategy": "federated"}, "strategy"),
        ({"strategy": "ftl", "federated_steps": 6}, "federated_steps"),
        ({"strategy": "specialist", "watched_dataset": "w"}, "watched_dataset"),
        ({"watched_centers": ["A"]}, "watched_centers"),
        ({"round_steps": 0}, "round_steps"),
        ({"export": "first"}, "export"),
        ({"precision": "fp16"}, "precision"),
        ({"gradient_clip": -1}, "gradient_clip"),
        ({"preset": "huge"}, "preset"),
        ({"initial_weights": "no-such-model"}, "no-such-model"),
        ({"muon_rate": 0}, "muon_rate"),
        ({"loss_margin": 4}, "loss_margin"),  # nothing is left of a patch of 8 voxels
        ({"tile": 7}, "tile"),
        ({"card": "mine"}, "card"),
        ({"centers": []}, "centers"),
        ({"centers": "A"}, "centers"),
        ({"centers": ["A", "A"]}, "centers"),
        ({"seed": -1}, "seed"),
        ({"form": "fast"}, "form"),
        ({"name": "../tiny"}, "name"),
    ],
)
def test_bad_configurations_are_refused_in_one_line(changes, said, config, tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**config.to_dict(), **changes}))
    with pytest.raises(InputError) as refusal:
        TrainingConfig.read(path)
    assert said in str(refusal.value) and "\n" not in str(refusal.value)


def test_a_file_that_is_no_configuration_is_refused(tmp_path):
    path = tmp_path / "config.json"
    for text, said in (("{", "not JSON"), ("[]", "JSON object"), ('{"output": "x"}', "'dataset' is missing")):
        path.write_text(text)
        with pytest.raises(InputError, match=said):
            TrainingConfig.read(path)
    with pytest.raises(InputError, match="cannot be read"):
        TrainingConfig.read(tmp_path / "none.json")


# ---- data


def test_a_manifest_that_names_what_is_not_there_is_refused(dataset, tmp_path):
    manifest = json.loads((dataset / "dataset.json").read_text())
    entry = manifest["cases"][0]
    path = tmp_path / "dataset.json"
    cases = {
        "no such dataset": None,
        "is not JSON": "{",
        "lists no cases": json.dumps({"cases": []}),
        "A-train-0 names": json.dumps({"cases": [entry]}),
        "A-train-0 has a bad or missing entry": json.dumps(
            {"cases": [{k: v for k, v in entry.items() if k != "split"}]}
        ),
        "A-train-0 has no low-dose image": json.dumps({"cases": [{**entry, "low": {}}]}),
    }
    for said, text in cases.items():
        if text is not None:
            path.write_text(text)
        if "no low-dose" in said:
            write_nifti(tmp_path / entry["full"], np.zeros((2, 2, 2)))
        with pytest.raises(InputError, match=said) as refusal:
            read_manifest(tmp_path)
        assert "\n" not in str(refusal.value)


def test_a_pair_is_cropped_to_the_body_and_keeps_its_values(dataset):
    case = read_manifest(dataset)[0]
    pair = load_pair(case, 4.0, margin=1)
    body = ball()
    stored = sitk.GetArrayFromImage(sitk.ReadImage(str(case.full)))
    assert pair.low.shape == pair.full.shape == pair.body.shape
    for axis in range(3):
        occupied = np.flatnonzero(pair.body.any(axis=tuple(a for a in range(3) if a != axis)))
        assert occupied[0] <= 1 and occupied[-1] >= pair.full.shape[axis] - 2
    assert pair.full.size < stored.size
    assert pair.full.dtype == pair.low.dtype == np.float32
    assert pair.full.sum() == pytest.approx(stored.sum()) and pair.full.max() == 8
    assert pair.body[pair.full > 0].all()
    assert set(pair.body_index) == set(np.flatnonzero(pair.body)) and set(pair.hot_index) <= set(
        pair.body_index
    )
    noise = (pair.low - pair.full)[pair.full > 0]
    assert noise.std() == pytest.approx(0.4, rel=0.1) and len(noise) == body.sum()


def test_images_come_to_the_grid_of_two_millimeters(tmp_path):
    coarse = np.where(ball((14, 15, 16), 5.0), 3.0, 0.0)
    write_nifti(tmp_path / "full.nii.gz", coarse, spacing=4.0)
    write_nifti(tmp_path / "low.nii.gz", coarse, spacing=4.0)
    manifest = {"id": "x", "center": "A", "split": "train", "full": "full.nii.gz", "low": {"4": "low.nii.gz"}}
    (tmp_path / "dataset.json").write_text(json.dumps({"cases": [manifest]}))
    pair = load_pair(read_manifest(tmp_path)[0], 4.0)
    assert pair.full.sum() == pytest.approx(
        8 * coarse.sum(), rel=0.02
    )  # eight voxels of 2 mm for one of 4 mm
    write_nifti(tmp_path / "low.nii.gz", coarse[1:], spacing=4.0)
    with pytest.raises(InputError, match=r"case x: low .* lie on different grids"):
        load_pair(read_manifest(tmp_path)[0], 4.0)
    for name in ("low", "full"):
        write_nifti(tmp_path / f"{name}.nii.gz", 0 * coarse)
    with pytest.raises(InputError, match="case x: no body found"):
        load_pair(read_manifest(tmp_path)[0], 4.0)


def test_a_patch_follows_from_its_key_alone(pairs):
    keys = [(step, center, slot) for step in (0, 1, 977) for center in CENTERS for slot in (0, 1)]
    sampler, again = sampler_of(pairs), sampler_of(pairs)
    first = {key: sampler.draw(*key) for key in keys}
    for key in reversed(keys):
        assert all(np.array_equal(a, b) for a, b in zip(first[key], again.draw(*key), strict=True))
    lows = [drawn.low.tobytes() for drawn in first.values()]
    assert len(set(lows)) == len(keys)
    other = sampler_of(pairs, seed=2)
    assert not any(np.array_equal(first[key][0], other.draw(*key)[0]) for key in keys)


def test_low_and_full_are_cut_turned_and_scaled_together():
    image = np.arange(20.0 * 22 * 24).reshape(20, 22, 24) + 1
    sampler = sampler_of({"A": [made_pair(image, 3 * image)]}, scale_range=2.0)
    scales, orders = [], set()
    for step in range(150):
        low, full, _ = sampler.draw(step, "A", 0)
        assert low.shape == full.shape == (8, 8, 8) and low.dtype == np.float32
        assert np.allclose(low, 3 * full, rtol=1e-5)
        steps = [np.diff(full, axis=axis).mean() for axis in range(3)]
        # neighbors along x differ by one unit, those along y by 24, along z by 528, whatever the turn
        scale = abs(steps[0]) / 528
        assert sorted(round(abs(s) / scale) for s in steps) == [1, 24, 528]
        scales.append(scale * INPUT_SCALE)
        orders.add((*np.sign(steps), abs(steps[1]) > abs(steps[2])))
    assert len(orders) == 16  # eight flips, with and without a turn
    assert 0.5 <= min(scales) < 0.6 and 1.7 < max(scales) <= 2.0
    fixed = sampler_of({"A": [made_pair(image, image)]}, scale_range=1.0)
    values = np.unique([(fixed.draw(step, "A", 0)[1] * INPUT_SCALE).round(2) for step in range(5)])
    assert np.isin(values, image.round(2)).mean() > 0.99


def test_mixing_doses_takes_a_part_of_the_noise_away_and_nothing_else(pairs):
    plain, half, always = (sampler_of(pairs, dose_mixing=share) for share in (0.0, 0.5, 1.0))
    parts = {half: [], always: []}
    for step in range(150):
        low, full, _ = plain.draw(step, "A", 0)
        for sampler, found in parts.items():
            mixed, same_full, _ = sampler.draw(step, "A", 0)
            assert np.array_equal(same_full, full) and mixed.dtype == np.float32
            noise = low - full
            found.append(float((mixed - full).ravel() @ noise.ravel() / (noise.ravel() @ noise.ravel())))
            assert np.allclose(mixed - full, found[-1] * noise, atol=1e-6)
    assert 0 <= min(parts[always]) < 0.1 and 0.9 < max(parts[always]) <= 1
    assert 0.35 < np.mean(np.isclose(parts[half], 1, atol=1e-6)) < 0.65


def test_patches_by_uptake_meet_the_hot_spot_more_often():
    full = np.full((30, 30, 30), 0.01)
    full[3:7, 22:26, 4:8] = 50.0
    share = {}
    for fraction in (0.0, 1.0):
        sampler = sampler_of({"A": [made_pair(full, full)]}, hot_fraction=fraction, scale_range=1.0)
        share[fraction] = np.mean([sampler.draw(step, "A", 0)[1].max() > 1 for step in range(150)])
    assert share[0.0] < 0.3 and share[1.0] > 0.8


def test_an_image_smaller_than_a_patch_is_mirrored():
    image = np.random.default_rng(1).uniform(1, 2, (5, 12, 3))
    sampler = sampler_of({"A": [made_pair(image, image)]}, scale_range=1.0)
    for step in range(10):
        full = sampler.draw(step, "A", 0).target
        assert full.shape == (8, 8, 8)
        known = np.sort(image, axis=None)
        place = np.searchsorted(known, full * INPUT_SCALE).clip(1, known.size - 1)
        nearest = np.minimum(*(np.abs(known[place - k] - full * INPUT_SCALE) for k in (0, 1)))
        assert nearest.max() < 1e-5
        assert len(np.unique(full)) > 8 * 5 * 3 / 2


def test_a_center_without_training_patients_is_refused_in_one_line(dataset, tmp_path, capsys):
    output = tmp_path / "run"
    path = tmp_path / "config.json"
    path.write_text(json.dumps(tiny_config(dataset, output, centers=("A", "Z")).to_dict()))
    assert cli.main(["train", str(path)]) == 2
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1 and "center Z has no patient in the split 'train'" in errors
    assert not output.exists()


# ---- loss, rate, start


def test_charbonnier_is_epsilon_at_zero_error_and_the_error_far_away():
    residual = torch.zeros(2, 3, requires_grad=True)
    loss = charbonnier(residual, torch.zeros(2, 3), 1e-3)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(1e-3, rel=1e-6)
    assert float(residual.grad.abs().max()) == 0
    far = charbonnier(torch.tensor([3.0, -1.0]), torch.tensor([0.0, 1.0]), 1e-3)
    assert float(far) == pytest.approx(2.5, rel=1e-5)  # the mean over voxels, not a norm
    known = charbonnier(torch.tensor([3e-3]), torch.tensor([0.0]), 4e-3)
    assert float(known) == pytest.approx(5e-3, rel=1e-6)


def test_what_lies_in_the_margin_has_no_share_in_the_loss():
    error = torch.zeros(1, 6, 6, 6)
    error[:, 2:4, 2:4, 2:4] = 3e-3
    inner = charbonnier(error, torch.zeros(()), 4e-3, margin=2)
    assert float(inner) == pytest.approx(5e-3, rel=1e-6)
    error[:, 1] = error[:, :, 4] = error[..., 0] = 7.0
    assert charbonnier(error, torch.zeros(()), 4e-3, margin=2) == inner
    assert charbonnier(error, torch.zeros(()), 4e-3, margin=1) > inner


def test_orthogonalized_matrices_keep_their_singular_vectors():
    rng = torch.Generator().manual_seed(1)
    for shape in ((3, 5, 16, 16), (2, 8, 27), (96, 16)):
        matrices = torch.randn(shape, generator=rng, dtype=torch.float64)
        left, values, right = torch.linalg.svd(matrices, full_matrices=False)
        rotated = left.mT @ orthogonalized(matrices) @ right.mT
        found = torch.diagonal(rotated, dim1=-2, dim2=-1)
        assert torch.allclose(rotated, torch.diag_embed(found), atol=1e-9)
        # directions of next to no weight are left behind, all others come to one size
        assert bool((found[values > 0.05 * values.amax(-1, keepdim=True)] > 0.6).all())
        assert float(found.max()) < 1.3
        assert torch.allclose(orthogonalized(1e-6 * matrices), orthogonalized(matrices), atol=1e-4)
    assert not orthogonalized(torch.zeros(4, 4)).any()


def test_a_step_of_muon_has_the_size_of_one_of_adamw_and_leaves_the_others_to_it():
    torch.manual_seed(3)
    start = [torch.randn(3, 8, 24), torch.randn(5, 4, 3, 3, 3), torch.randn(7)]
    gradients = [torch.randn_like(p) * 10.0**k for k, p in enumerate(start)]

    def stepped(kind, groups) -> list[torch.Tensor]:
        parameters = [p.clone().requires_grad_() for p in start]
        optimizer = kind(
            [{"params": [parameters[i] for i in g], **options} for g, options in groups], lr=1e-2
        )
        for _ in range(3):
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = gradient.clone()
            optimizer.step()
        return [(p - q).detach() for p, q in zip(parameters, start, strict=True)]

    plain = stepped(torch.optim.AdamW, [((0, 1, 2), {})])
    assert all(map(torch.equal, stepped(MuonAdamW, [((0, 1, 2), {"matrices": False})]), plain))
    mixed = stepped(MuonAdamW, [((0, 1), {"matrices": True}), ((2,), {})])
    assert torch.equal(mixed[2], plain[2])
    for moved in mixed[:2]:  # three steps in one direction, each 0.2 of the rate in root mean square
        assert float(moved.square().mean().sqrt()) == pytest.approx(3 * 0.2 * 1e-2, rel=0.25)


def test_every_parameter_is_in_one_group_and_the_experts_are_muons(config):
    config = replace(config, optimizer="muon", muon_rate=7.0, tail_rate=0.5)
    trainer = Trainer(config)
    names = {id(p): name for name, p in trainer.sites[0].network.named_parameters()}
    groups = [([names[id(p)] for p in g["params"]], g) for g in trainer.sites[0].optimizer.param_groups]
    assert sorted(name for grouped, _ in groups for name in grouped) == sorted(names.values())
    banks = {"qkv_M3CC", "depthwise_MC333", "project_MCC", "weight1_MFC", "weight2_MCF"}
    for grouped, group in groups:
        for name in grouped:
            assert group["matrices"] == (name.split(".")[-1] in banks)
            assert group["rate"] == (7.0 if group["matrices"] else 0.5 if name.startswith("tail.") else 1.0)
    assert not any(
        g["matrices"] for g in Trainer(replace(config, optimizer="adamw")).sites[0].optimizer.param_groups
    )


def test_the_rate_warms_up_and_falls_to_its_final_value():
    config = tiny_config(
        Path(), Path(), steps=1000, warmup_steps=100, learning_rate=2e-4, final_learning_rate=1e-6
    )
    rates = [learning_rate(config, step) for step in range(1000)]
    assert rates[0] == pytest.approx(2e-6) and rates[99] == rates[100] == 2e-4 == max(rates)
    assert rates[:100] == sorted(rates[:100]) and rates[100:] == sorted(rates[100:], reverse=True)
    assert rates[549] == pytest.approx((2e-4 + 1e-6) / 2, rel=0.01)  # halfway down the cosine
    assert rates[999] == 1e-6 < rates[998]  # in the last step, not after it
    constant = replace(config, warmup_steps=0, final_learning_rate=2e-4)
    assert {learning_rate(constant, step) for step in range(1000)} == {2e-4}
    assert learning_rate(replace(config, warmup_steps=0), 0) == 2e-4


def test_training_starts_at_the_identity_from_the_seed():
    config = tiny_config(Path(), Path())
    network, again = initial_network(config), initial_network(config)
    assert same(network.state_dict(), again.state_dict())
    assert not same(network.state_dict(), initial_network(replace(config, seed=9)).state_dict())
    residual, _ = network(torch.rand(1, 1, 8, 8, 8))
    assert not residual.any()


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


# ---- presets and the command line


def test_the_paper_is_a_preset():
    config = TrainingConfig.from_dict({"preset": "paper", "dataset": "d", "output": "o"})
    network = DRMC(config.network)
    assert sum(parameter.numel() for parameter in network.parameters()) == 539_487
    assert config.network.router_init == "official"
    assert config.steps * config.patches_per_center == 200 * 1024  # patches of a center
    assert config.patch == 64 and config.centers == ("C1", "C2", "C3", "C4")
    assert {learning_rate(config, step) for step in (0, 1, 100_000, config.steps - 1)} == {1e-4}
    assert (config.charbonnier, config.weight_decay, config.hot_fraction) == (1e-3, 0, 0)
    # the start is that of the network itself, and what is exported the network, not an average
    mine = initial_network(replace(config, network=TINY))
    torch.manual_seed(config.seed)
    assert same(dict(mine.state_dict()), dict(DRMC(TINY).state_dict()))
    assert config.ema_decay == 0 and config.export == "last"


def test_without_a_moving_average_the_average_is_the_network(config, pairs):
    trainer = Trainer(replace(config, ema_decay=0.0))
    for _ in range(2):
        trainer.train_step(sampler_of(pairs))
    assert same(dict(trainer.sites[0].average.state_dict()), dict(trainer.sites[0].network.state_dict()))
    assert not same(dict(trainer.sites[0].network.state_dict()), dict(initial_network(config).state_dict()))


def test_values_stand_on_top_of_their_preset():
    values = {"preset": "default", "dataset": "d", "output": "o"}
    preset = TrainingConfig.from_dict(values)
    wide = TrainingConfig.from_dict({**values, "network": {"channels": 24}, "steps": 7})
    assert wide == replace(preset, network=replace(preset.network, channels=24), steps=7)
    baseline = TrainingConfig.from_dict({**values, "network": "baseline"}).network
    blocks = preset.network.blocks * preset.network.experts
    assert baseline == replace(preset.network, gate="none", experts=1, blocks=blocks)
    paper = TrainingConfig.from_dict({"dataset": "d", "output": "o", "network": "baseline"}).network
    assert sum(parameter.numel() for parameter in DRMC(paper).parameters()) == 529_841
    for name in PRESETS:
        whole = TrainingConfig.from_dict({**values, "preset": name})
        assert TrainingConfig.from_dict(whole.to_dict()) == whole


def test_the_command_line_writes_the_whole_configuration(tmp_path, capsys):
    written = tmp_path / "all.json"
    arguments = ["--preset", "tiny", "--dataset", "data", "--output", str(tmp_path / "run")]
    settings = ["steps=7", "network.channels=12", 'centers=["A"]', "name=mine"]
    sets = [part for setting in settings for part in ("--set", setting)]
    assert cli.main(["train", *arguments, *sets, "--write-config", str(written)]) == 0
    config = TrainingConfig.read(written)
    assert (config.steps, config.network.channels, config.centers, config.name) == (7, 12, ("A",), "mine")
    assert Path(config.dataset) == Path("data").resolve()
    assert set(json.loads(written.read_text())) == set(config.to_dict())
    # a file, and the command line on top of it
    assert cli.main(["train", str(written), "--set", "steps=9", "--write-config", str(written)]) == 0
    assert TrainingConfig.read(written) == replace(config, steps=9)
    capsys.readouterr()
    for wrong, said in ((["--set", "steps"], "KEY=VALUE"), (["--set", "stepz=3"], "stepz"), ([], "dataset")):
        assert cli.main(["train", "--preset", "tiny", *wrong]) == 2
        errors = capsys.readouterr().err
        assert said in errors and errors.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_dataset_with_a_missing_file_is_refused_in_one_line(dataset, tmp_path, capsys):
    data = tmp_path / "data"
    shutil.copytree(dataset, data)
    (data / "A-train-1" / "low.nii.gz").unlink()
    arguments = ["--preset", "tiny", "--dataset", str(data), "--output", str(tmp_path / "run")]
    assert cli.main(["train", *arguments, "--set", 'centers=["A"]']) == 2
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1 and "A-train-1" in errors and "not there" in errors
    assert not (tmp_path / "run").exists()


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
