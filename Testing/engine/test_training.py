"""Training: a step follows from configuration and counter, however often stopped or on how many processes."""

from __future__ import annotations

import hashlib
import json
import math
import os
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
import torch.distributed as distributed
from drmc import cli
from drmc.dataset import read_manifest, select
from drmc.errors import DRMCError, InputError
from drmc.models import find_model, load_network
from drmc.network import INPUT_SCALE, NetworkConfig
from drmc.training import loop
from drmc.training.config import TrainingConfig
from drmc.training.dataset import Pair, PatchSampler, load_pair
from drmc.training.loop import Trainer, charbonnier, initial_network, learning_rate, train
from drmc.training.muon import MuonAdamW, orthogonalized

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


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("data"))


@pytest.fixture
def config(dataset, tmp_path) -> TrainingConfig:
    return tiny_config(dataset, tmp_path / "run")


def tiny_config(dataset: Path, output: Path, **changes) -> TrainingConfig:
    rates = {"learning_rate": 1e-3, "warmup_steps": 2, "steps": 6}
    seldom = {"checkpoint_every": 100, "validate_every": 100}
    shape = {"name": "tiny", "centers": CENTERS, "network": TINY, "patch": 8, "threads": 1}
    return TrainingConfig(str(dataset), str(output), **{**rates, **seldom, **shape, **changes})


@pytest.fixture(scope="module")
def pairs(dataset) -> dict[str, list[Pair]]:
    found = select(read_manifest(dataset), "train", CENTERS)
    return {center: [load_pair(case, 4.0) for case in cases] for center, cases in found.items()}


def sampler_of(pairs, patch: int = 8, seed: int = 1, **options) -> PatchSampler:
    return PatchSampler(pairs, patch=patch, seed=seed, **{"hot_fraction": 0.5, "scale_range": 2.0, **options})


def checkpoint(output: str | Path) -> dict:
    return torch.load(Path(output) / loop.CHECKPOINT, weights_only=True)


def same(a, b) -> bool:
    """Whether nested states are equal bit by bit."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def stop_after(monkeypatch, step: int, request=lambda trainer: trainer.request_stop()) -> None:
    original = Trainer.train_step

    def train_step(self, sampler):
        record = original(self, sampler)
        if self.step == step:
            request(self)
        return record

    monkeypatch.setattr(Trainer, "train_step", train_step)


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
        ({"ema_decay": 1.0}, "ema_decay"),
        ({"beta2": 1.0}, "beta2"),
        ({"optimizer": "sgd"}, "optimizer"),
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
    with pytest.raises(InputError, match="case x: low and full dose differ in size"):
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
    lows = [low.tobytes() for low, _ in first.values()]
    assert len(set(lows)) == len(keys)
    other = sampler_of(pairs, seed=2)
    assert not any(np.array_equal(first[key][0], other.draw(*key)[0]) for key in keys)


def made_pair(full: np.ndarray, low: np.ndarray) -> Pair:
    body = np.ones(full.shape, bool)
    index = np.flatnonzero(body)
    share = np.cumsum(full.ravel().astype(np.float64))
    return Pair(
        "made", low.astype(np.float32), full.astype(np.float32), body, index, index, share / share[-1]
    )


def test_low_and_full_are_cut_turned_and_scaled_together():
    image = np.arange(20.0 * 22 * 24).reshape(20, 22, 24) + 1
    sampler = sampler_of({"A": [made_pair(image, 3 * image)]}, scale_range=2.0)
    scales, orders = [], set()
    for step in range(150):
        low, full = sampler.draw(step, "A", 0)
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
        _, full = sampler.draw(step, "A", 0)
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
    names = {id(p): name for name, p in trainer.network.named_parameters()}
    groups = [([names[id(p)] for p in g["params"]], g) for g in trainer.optimizer.param_groups]
    assert sorted(name for grouped, _ in groups for name in grouped) == sorted(names.values())
    banks = {"qkv_M3CC", "depthwise_MC333", "project_MCC", "weight1_MFC", "weight2_MCF"}
    for grouped, group in groups:
        for name in grouped:
            assert group["matrices"] == (name.split(".")[-1] in banks)
            assert group["rate"] == (7.0 if group["matrices"] else 0.5 if name.startswith("tail.") else 1.0)
    assert not any(g["matrices"] for g in Trainer(replace(config, optimizer="adamw")).optimizer.param_groups)


def test_the_rate_warms_up_and_falls_to_its_final_value():
    config = tiny_config(
        Path(), Path(), steps=1000, warmup_steps=100, learning_rate=2e-4, final_learning_rate=1e-6
    )
    rates = [learning_rate(config, step) for step in range(1001)]
    assert rates[0] == pytest.approx(2e-6) and rates[99] == rates[100] == 2e-4 == max(rates)
    assert rates[:100] == sorted(rates[:100]) and rates[100:] == sorted(rates[100:], reverse=True)
    assert rates[550] == pytest.approx((2e-4 + 1e-6) / 2)  # halfway down the cosine
    assert rates[1000] == pytest.approx(1e-6) and rates[999] == pytest.approx(1e-6, rel=1e-2)
    assert learning_rate(replace(config, warmup_steps=0), 0) == 2e-4


def test_training_starts_at_the_identity_from_the_seed():
    config = tiny_config(Path(), Path())
    network, again = initial_network(config), initial_network(config)
    assert same(network.state_dict(), again.state_dict())
    assert not same(network.state_dict(), initial_network(replace(config, seed=9)).state_dict())
    residual, _ = network(torch.rand(1, 1, 8, 8, 8))
    assert not residual.any()


def test_the_fitted_tail_is_the_best_one(pairs):
    network = initial_network(tiny_config(Path(), Path())).double()
    sampler = sampler_of(pairs)
    patches = [sampler.draw(step, center, 0) for step in range(3) for center in CENTERS]
    loop.fit_tail(network, patches, ridge=1e-12, every=1)

    def error() -> torch.Tensor:
        """Mean squared error over all voxels of the patches, differentiable by the tail."""
        low, full = (
            torch.from_numpy(np.stack(side))[:, None].double() for side in zip(*patches, strict=True)
        )
        return ((network(low)[0] - (full - low)) ** 2).mean()

    fitted = error()
    fitted.backward()
    before = np.mean([(full - low) ** 2 for low, full in patches])
    assert fitted.item() < 0.9 * before
    # a minimum: no direction lowers the error, and any step away raises it
    with torch.no_grad():
        for sign in (1, -1):
            network.tail.weight.add_(sign * 0.02 * network.tail.weight.abs().mean())
            assert error().item() > fitted.item()
            network.tail.weight.sub_(sign * 0.02 * network.tail.weight.abs().mean())
        scale = float(network.tail.weight.abs().mean())
    assert float(network.tail.weight.grad.abs().max()) * scale < 1e-3 * fitted.item()


# ---- steps


def test_every_slot_of_a_step_goes_to_exactly_one_process(config):
    config = replace(config, centers=("A", "B", "C"), patches_per_center=2)
    whole = sorted(Trainer(config).slots())
    assert whole == [(c, i) for c in "ABC" for i in (0, 1)]
    for world in (2, 4, 7):
        dealt = [slot for rank in range(world) for slot in Trainer(config, rank, world).slots()]
        assert sorted(dealt) == whole


def test_a_step_moves_the_network_and_the_average_follows(config, pairs):
    trainer = Trainer(config)
    before = {k: v.clone() for k, v in trainer.average.state_dict().items()}
    record = trainer.train_step(sampler_of(pairs))
    assert record["step"] == trainer.step == 1 and record["rate"] == learning_rate(config, 0)
    assert (
        set(record["loss"]) == set(CENTERS) and record["loss"]["B"] > record["loss"]["A"] > config.charbonnier
    )
    moved = trainer.network.tail.weight.detach()
    assert float(moved.abs().max()) > 0
    # the average forgets its start quickly: 0.1 of it and 0.9 of the first step
    assert torch.allclose(trainer.average.tail.weight, 0.9 * moved, atol=1e-9)
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
        low, full = super().draw(step, center, slot)
        return (low * np.nan, full) if step == self.at else (low, full)


def test_a_step_without_finite_gradients_changes_nothing_and_is_counted(config, pairs):
    trainer = Trainer(config)
    sampler = Poisoned(pairs, at=1)
    trainer.train_step(sampler)
    states = (
        trainer.network.state_dict(),
        trainer.average.state_dict(),
        trainer.optimizer.state_dict()["state"],
    )
    before = [{k: v.clone() for k, v in s.items()} if k < 2 else _cloned(s) for k, s in enumerate(states)]
    record = trainer.train_step(sampler)
    assert not math.isfinite(record["gradient_norm"]) and trainer.skipped == 1 and trainer.step == 2
    after = (
        trainer.network.state_dict(),
        trainer.average.state_dict(),
        trainer.optimizer.state_dict()["state"],
    )
    assert all(same(a, b) for a, b in zip(before, after, strict=True))
    trainer.train_step(sampler)
    assert trainer.skipped == 1 and not same(before[0], trainer.network.state_dict())
    assert all(bool(torch.isfinite(v).all()) for v in trainer.network.state_dict().values())


def _cloned(state: dict) -> dict:
    return {number: {k: v.clone() for k, v in slots.items()} for number, slots in state.items()}


@pytest.mark.parametrize("progress", ["json", "text"])
def test_what_is_said_stays_json_when_a_loss_is_not_finite(progress, config, monkeypatch, tmp_path, capsys):
    original = PatchSampler.draw

    def draw(self, step, center, slot):
        low, full = original(self, step, center, slot)
        return (low * np.nan, full) if step == 1 else (low, full)

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


def test_a_run_of_nothing_but_skipped_steps_fails(config, monkeypatch):
    original = PatchSampler.draw
    monkeypatch.setattr(PatchSampler, "draw", lambda *key: tuple(np.nan * p for p in original(*key)))
    with pytest.raises(DRMCError, match=r"1\d steps had no finite gradients"):
        train(replace(config, steps=12))


# ---- stopping and going on


@pytest.mark.parametrize(
    "start",
    [
        {},
        {"tail_fit_patches": 2, "tail_rate": 0.5},
        {"optimizer": "muon", "averaging_start": True, "loss_margin": 1, "tile": 16},
    ],
)
def test_a_stopped_and_resumed_run_is_bit_identical(config, tmp_path, monkeypatch, start):
    config = replace(config, **start)
    straight = train(config)
    resumed_config = replace(config, output=str(tmp_path / "stopped"))
    with monkeypatch.context() as patched:
        stop_after(patched, 3)
        assert train(resumed_config) == Path(resumed_config.output) / loop.CHECKPOINT
    assert checkpoint(resumed_config.output)["step"] == 3
    events: list[dict] = []
    resumed = train(resumed_config, report=events.append)
    assert (events[0]["event"], events[0]["step"]) == ("resumed", 3)
    a, b = checkpoint(config.output), checkpoint(resumed_config.output)
    for key in ("network", "average", "optimizer", "step", "best"):
        assert same(a[key], b[key]), key
    assert a["step"] == 6
    weights = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (straight, resumed)]
    assert weights[0] == weights[1]
    # without resuming another three steps would give something else
    assert not same(a["network"], Trainer(config).network.state_dict())


def test_the_log_drops_steps_that_are_taken_again(config, tmp_path):
    Path(config.output).mkdir()
    log = Path(config.output) / "training.jsonl"
    kept = [{"event": "progress", "step": 50}, {"event": "validation", "step": 100}]
    lines = [*map(json.dumps, kept), json.dumps({"event": "progress", "step": 150}), '{"event": "progr']
    log.write_text("\n".join(lines))
    with loop._Log(Path(config.output), 0, 100, None) as record:
        record({"event": "resumed", "step": 100})
    read = [json.loads(line) for line in log.read_text().splitlines()]
    assert read == [*kept, {"event": "resumed", "step": 100}]


def test_a_stop_before_the_first_step_is_saved_too(config):
    def stop(record: dict) -> None:
        if record["event"] == "started":
            os.kill(os.getpid(), signal.SIGTERM)

    handlers = [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)]
    path = train(config, report=stop)
    assert [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)] == handlers
    assert path.is_file() and checkpoint(config.output)["step"] < config.steps


def test_a_stop_during_validation_is_saved_too(config, monkeypatch):
    def slow(self, network) -> dict[str, dict[str, float]]:
        os.kill(os.getpid(), signal.SIGTERM)
        return {"psnr": dict.fromkeys(CENTERS, 30.0)}

    monkeypatch.setattr(loop.Validation, "measure", slow)
    train(replace(config, validate_every=4))
    state = checkpoint(config.output)
    assert state["step"] == 4 and state["best"] == 30


def test_another_configuration_does_not_resume(config, monkeypatch):
    stop_after(monkeypatch, 2)
    train(config)
    with pytest.raises(InputError, match="made with another 'learning_rate'"):
        train(replace(config, learning_rate=5e-4))
    trainer = Trainer(replace(config, checkpoint_every=7, validate_every=3))  # these do not change the steps
    assert trainer.resume() and trainer.step == 2


def test_a_damaged_checkpoint_gives_way_to_the_one_before(config, monkeypatch):
    stop_after(monkeypatch, 4)
    train(replace(config, checkpoint_every=1))
    output = Path(config.output)
    assert sorted(p.name for p in output.glob("checkpoint*")) == [
        "checkpoint.1.pt",
        "checkpoint.2.pt",
        "checkpoint.pt",
    ]
    newest = output / loop.CHECKPOINT
    newest.write_bytes(newest.read_bytes()[:1000])
    trainer = Trainer(config)
    assert trainer.resume() and trainer.step == 3
    newest.unlink()  # killed between renaming the old and writing the new one
    trainer = Trainer(config)
    assert trainer.resume() and trainer.step == 3


# ---- processes


STOP_RANK_ONE = """
import os, signal, sys
from drmc.training import loop
original = loop.Trainer.train_step
def train_step(self, sampler):
    record = original(self, sampler)
    if self.rank == 1 and self.step == 2:
        os.kill(os.getpid(), signal.SIGTERM)
    return record
loop.Trainer.train_step = train_step
from drmc.cli import main
sys.exit(main(["train", sys.argv[1]]))
"""


def launch(
    config: TrainingConfig, world: int, *arguments: str, code: str | None = None
) -> list[subprocess.Popen]:
    """The processes that torchrun starts, in its environment."""
    path = Path(config.output).parent / f"{Path(config.output).name}.json"
    path.write_text(json.dumps(config.to_dict()))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = ["-m", "drmc.training"] if code is None else ["-c", code]
    shared = {
        **os.environ,
        "WORLD_SIZE": str(world),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }
    return [
        subprocess.Popen(
            [sys.executable, *program, str(path), *arguments],
            env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(world)
    ]


def finish(processes: list[subprocess.Popen]) -> list[str]:
    """Waits for the processes; their standard errors, with the exit codes asserted to be 0."""
    try:
        outputs = [process.communicate(timeout=PATIENCE) for process in processes]
    finally:
        for process in processes:
            process.kill()
    errors = [error for _, error in outputs]
    assert [process.returncode for process in processes] == [0] * len(processes), "\n".join(errors)
    return errors


@pytest.fixture(scope="module")
def one_and_two(dataset, tmp_path_factory) -> tuple[TrainingConfig, TrainingConfig]:
    """The same run of three steps in one process and in two (gloo)."""
    folder = tmp_path_factory.mktemp("processes")
    gates = replace(TINY, gate="top2")  # exactly a third of the gates is closed
    one = tiny_config(dataset, folder / "one", steps=3, network=gates)
    two = replace(one, output=str(folder / "two"))
    train(one)
    finish(launch(two, 2))
    return one, two


def test_two_processes_take_the_steps_of_one(one_and_two):
    one, two = (checkpoint(config.output) for config in one_and_two)
    start = initial_network(one_and_two[0]).state_dict()
    moved = max(float((one["network"][key] - start[key]).abs().max()) for key in start)
    apart = max(float((one["network"][key] - two["network"][key]).abs().max()) for key in start)
    assert moved > 1e-3 and apart < 1e-6
    assert one["step"] == two["step"] == 3 and one["best"] == pytest.approx(two["best"], abs=1e-4)


def test_two_processes_log_what_one_logs(one_and_two):
    one, two = (
        next(
            r for r in map(json.loads, (Path(c.output) / "training.jsonl").open()) if r["event"] == "progress"
        )
        for c in one_and_two
    )
    assert two["loss"] == pytest.approx(one["loss"], abs=1e-6)
    assert two["gradient_norm"] == pytest.approx(one["gradient_norm"], rel=1e-4)
    assert one["closed_gates"] == pytest.approx(1 / 3)
    assert two["closed_gates"] == pytest.approx(1 / 3)


def test_what_processes_sum_lies_on_the_training_device(config, monkeypatch):
    """nccl sums nothing but what is on its device."""

    class Summed(Exception):
        pass

    def all_reduce(tensor: torch.Tensor) -> None:
        if tensor.dtype == torch.float64:
            raise Summed(tensor.device.type)

    monkeypatch.setattr(distributed, "all_reduce", all_reduce)
    trainer = Trainer(config, rank=0, world=2)
    trainer.device = torch.device("meta")
    with pytest.raises(Summed, match="meta"):
        trainer._synchronize(dict.fromkeys(CENTERS, 0.0))


def test_a_stop_of_one_process_stops_all_at_the_same_step(dataset, tmp_path):
    config = tiny_config(dataset, tmp_path / "run", steps=100_000)
    finish(launch(config, 2, code=STOP_RANK_ONE))
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
    trainer = Trainer(config)
    assert trainer.resume() and trainer.step == state["step"]


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
    assert same(dict(network.state_dict()), dict(checkpoint(config.output)["average"]))
    assert entry.card["title"] == "A tiny one" and entry.card["name"] == config.name
    card = entry.card["training"]
    assert card["hardware"]["physical_cores"] >= 1 and card["processes"] == 1
    assert card["simulated"] is True and card["patients"] == {"A": 2, "B": 2}
    assert (card["steps"], card["patches"]) == (6, 12)
    assert card["configuration"]["learning_rate"] == config.learning_rate
    assert str(Path(config.dataset)) not in json.dumps(entry.card)
    assert card["validation_psnr"] == checkpoint(config.output)["best"]
    written = TrainingConfig.from_dict(json.loads((Path(config.output) / "config.json").read_text()))
    assert written == replace(config, dataset="", output="")
