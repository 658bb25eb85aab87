"""Training pairs and patches: place, values, doses, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
import SimpleITK as sitk
from drmc.cli import main as cli
from drmc.datasets.manifest import read_manifest
from drmc.errors import InputError
from drmc.networks.protocol import INPUT_SCALE
from support.engine.small_training import (
    CENTERS,
    ball,
    load_pair,
    made_pair,
    sampler_of,
    tiny_config,
    write_nifti,
)


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
