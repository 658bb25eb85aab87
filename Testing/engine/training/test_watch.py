"""What is watched: validation in chosen tiles, routing sums, TensorBoard, the text of a training."""

from __future__ import annotations

import json
import math
import sys
import types
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from drmc.datasets.manifest import read_manifest, select
from drmc.errors import InputError
from drmc.imaging.smoothing import FWHM_PER_SIGMA, smooth
from drmc.measures.metrics import nrmse, psnr
from drmc.networks.protocol import INPUT_SCALE
from drmc.training import command, validation
from drmc.training.config import TrainingConfig
from drmc.training.held_out_tiles import choose_boxes, inner_part, part_of_lesion
from drmc.training.loop import train
from drmc.training.pairs import Pair, Wanted
from drmc.training.sampler import PatchSampler
from drmc.training.start import initial_network
from drmc.training.trainer import Trainer
from drmc.training.validation import Validation
from drmc.training.watch import GateWatch, Watch, entropy, progress
from hypothesis import given, settings
from hypothesis import strategies as st
from support.engine.small_training import CENTERS, TINY, load_pair, make_dataset, sampler_of, tiny_config


def made_pair(full: np.ndarray, low: np.ndarray, lesions=(), factor: float | None = 4.0) -> Pair:
    """A pair that is body wherever the full dose is above 0."""
    full, low = full.astype(np.float32), low.astype(np.float32)
    body = full > 0
    index = np.flatnonzero(body)
    flat = tuple(np.flatnonzero(lesion) for lesion in lesions)
    return Pair("made", low, full, body, index, index, np.ones(1), factor, flat)


def noisy_pair(shape=(30, 32, 34), seed: int = 1, **options) -> Pair:
    rng = np.random.default_rng(seed)
    full = rng.uniform(0.5, 4.0, shape)
    return made_pair(full, full + rng.normal(0, 0.5, shape), **options)


@pytest.fixture
def config(tmp_path) -> TrainingConfig:
    return tiny_config(tmp_path, tmp_path / "run", centers=("A",))


def shifting(config: TrainingConfig, suv: float):
    """A network that adds `suv` everywhere."""
    network = initial_network(config)
    with torch.no_grad():
        network.tail.bias.fill_(suv / INPUT_SCALE)
    return network


def measured(pair: Pair, tile: int, margin: int, count: int = 4) -> np.ndarray:
    """How often each voxel is measured."""
    times = np.zeros(pair.full.shape, int)
    for start in choose_boxes(pair, tile, margin, count):
        sizes = zip(start, pair.full.shape, strict=True)
        times[tuple(slice(*inner_part(s, n, tile, margin)) for s, n in sizes)] += 1
    return times


# ---- where it is measured


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_no_voxel_is_measured_twice_or_in_the_zero_padding(data):
    shape = data.draw(st.tuples(*[st.integers(3, 40)] * 3))
    tile = data.draw(st.integers(4, 24))
    margin = data.draw(st.integers(0, (tile - 1) // 2))
    count = data.draw(st.integers(1, 6))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    full = np.where(rng.random(shape) < 0.7, rng.uniform(0, 5, shape), 0)
    lesion = np.zeros(shape, bool)
    lesion[tuple(rng.integers(0, n) for n in shape)] = True
    pair = made_pair(full, full, [lesion])
    starts = choose_boxes(pair, tile, margin, count)
    times = measured(pair, tile, margin, count)
    assert times.max(initial=0) <= 1 and len(starts) <= count + 2
    for start in starts:
        for s, n in zip(start, shape, strict=True):
            first, end = inner_part(s, n, tile, margin)
            assert 0 <= first < end <= n and 0 <= s <= max(0, n - tile)
            # away from the faces of what the network sees, mirrored surroundings included
            before = max(0, tile - n) // 2
            assert first - s + before >= margin and end - s + before <= tile - margin
    assert starts == choose_boxes(pair, tile, margin, count)


def test_the_tiles_lie_where_the_uptake_is():
    full = np.full((60, 40, 40), 0.5)
    full[4:12, 4:12, 4:12] = 9.0  # two hot organs
    full[40:48, 24:32, 20:28] = 6.0
    hottest, second, ordinary = choose_boxes(made_pair(full, full), 16, 2, 2)
    sums = [full[tuple(slice(s + 2, s + 14) for s in start)].mean() for start in (hottest, second, ordinary)]
    assert sums[0] > sums[1] > 2 * sums[2] == 1.0
    for organ in (np.s_[4:12, 4:12, 4:12], np.s_[40:48, 24:32, 20:28]):
        assert (measured(made_pair(full, full), 16, 2, 2)[organ] == 1).mean() > 0.7


def test_a_tile_goes_to_the_lesions_even_where_the_uptake_is_low():
    full = np.full((60, 30, 30), 0.5)
    full[:30] = 5.0
    lesions = [np.zeros(full.shape, bool) for _ in range(3)]
    lesions[0][50:53, 10:13, 10:13] = lesions[1][46:48, 10:13, 14:17] = True
    lesions[2][:, 3, 3] = True  # larger than a tile: never held
    pair = made_pair(full, full, lesions)
    times = measured(pair, 16, 2, 1)
    assert times[lesions[0]].all() and times[lesions[1]].all()
    without = measured(replace(pair, lesions=()), 16, 2, 1)
    assert not without[lesions[0]].all()


def test_a_lesion_counts_in_a_tile_that_holds_half_of_it():
    mask = np.zeros((12, 10, 10), bool)
    mask[4:8, 3, 2:4] = True
    lesion, rest = np.flatnonzero(mask), (slice(1, 9), slice(2, 6))
    for first, voxels in ((0, 8), (5, 6), (6, 4), (7, None)):
        box = (slice(first, 12), *rest)
        part = part_of_lesion(lesion, mask.shape, box)
        if voxels is None:
            assert part is None
        else:
            assert len(part) == voxels and mask[box].ravel()[part].all()


def test_lesions_come_to_the_grid_of_the_pair(tmp_path):
    make_dataset(tmp_path, centers=("A",), patients=1)
    manifest = json.loads((tmp_path / "dataset.json").read_text())
    labels = np.zeros((26, 28, 30), np.uint8)
    labels[12:15, 12:15, 16:19] = 1  # the hot spot
    labels[13, 20, 13] = 2
    for place, name in ((labels, "lesions.nii.gz"), (0 * labels, "none.nii.gz")):
        image = sitk.GetImageFromArray(place)
        image.SetSpacing((2.0,) * 3)
        sitk.WriteImage(image, str(tmp_path / name))
        manifest["cases"][0]["lesions"] = name
        (tmp_path / "dataset.json").write_text(json.dumps(manifest))
        case = select(read_manifest(tmp_path), "train", ("A",))["A"][0]
        pair = load_pair(case, 4.0, margin=1, wanted=Wanted(lesions=True))
        if name == "none.nii.gz":
            assert pair.lesions == ()
        else:
            assert [len(lesion) for lesion in pair.lesions] == [27, 1] and pair.dose_reduction_factor == 4.0
            assert (pair.full.ravel()[pair.lesions[0]] == 8).all()
            assert pair.full.ravel()[pair.lesions[1]] == 2
            assert load_pair(case, 4.0).lesions == ()


# ---- what is measured


@pytest.mark.parametrize(("tile", "loss_margin"), [(8, 0), (12, 2), (16, 3), (48, 0)])
def test_the_identity_measures_the_low_dose_and_a_shift_what_it_should(config, tile, loss_margin):
    config = replace(config, tile=tile, loss_margin=loss_margin)
    pairs = [noisy_pair(seed=seed) for seed in (1, 2)]
    margin = max(loss_margin, min(4, tile // 8))
    masks = [measured(pair, tile, margin) == 1 for pair in pairs]
    for shift in (0.0, 0.5):
        found = Validation({"A": pairs}, config).measure(shifting(config, shift))
        for key, metric in (("psnr", psnr), ("nrmse", nrmse)):
            expected, low = (
                np.mean([metric(p.low + s, p.full, mask=m) for p, m in zip(pairs, masks, strict=True)])
                for s in (shift, 0.0)
            )
            assert found[key]["A"] == pytest.approx(expected, rel=1e-5)
            assert found[f"{key}_low"]["A"] == pytest.approx(low, rel=1e-5)
        gain = found["psnr"]["A"] - found["psnr_low"]["A"]
        assert found["share"]["A"] == pytest.approx(gain / (10 * math.log10(4)), abs=1e-6)
        assert math.isnan(found["b_mean"]["A"]) and math.isnan(found["b_max_low"]["A"])


def test_the_bias_is_that_of_the_mean_and_the_maximum_of_each_lesion(config):
    pair = noisy_pair()
    lesions = [np.zeros(pair.full.shape, bool) for _ in range(2)]
    lesions[0][8:11, 9:12, 9:12] = lesions[1][12:14, 12:15, 9:11] = True
    pair = made_pair(pair.full, pair.low, lesions)
    found = Validation({"A": [pair]}, replace(config, tile=16)).measure(shifting(config, 0.7))
    for key, statistic in (("b_mean", np.mean), ("b_max", np.max)):
        for name, image in ((key, pair.low + 0.7), (f"{key}_low", pair.low)):
            true = [statistic(pair.full[lesion]) for lesion in lesions]
            bias = [abs(statistic(image[lesion]) - t) / t for lesion, t in zip(lesions, true, strict=True)]
            assert found[name]["A"] == pytest.approx(np.mean(bias), rel=1e-4)


def test_the_margin_of_validation_hides_the_zero_padding(config):
    """A pair in tiles whose margins are as wide as the network sees, or seen as a whole: the same figure."""
    torch.manual_seed(5)
    network = initial_network(config)
    torch.nn.init.normal_(network.tail.weight, std=0.01)
    with (
        torch.no_grad()
    ):  # attention sees the whole tile by its statistics; without it only the neighborhood counts
        for block in network.blocks:
            block.attention.project_MCC.zero_()
            block.router2.outer.weight.zero_()
    pair = noisy_pair((20, 20, 20))
    with torch.no_grad():
        whole = (
            network.denoise(torch.from_numpy(pair.low / INPUT_SCALE)[None, None])[0, 0].numpy() * INPUT_SCALE
        )
    found = {}
    for tile, margin in ((12, 4), (8, 1)):
        tiny = replace(config, tile=tile, loss_margin=min(margin, 3))
        boxes = measured(pair, tile, max(tiny.loss_margin, 1)) == 1
        found[tile] = (
            Validation({"A": [pair]}, tiny).measure(network)["psnr"]["A"],
            psnr(whole, pair.full, mask=boxes),
        )
    assert found[12][0] == pytest.approx(found[12][1], abs=1e-4)
    assert found[8][0] != pytest.approx(found[8][1], abs=1e-3)


def test_the_gaussian_is_the_best_of_all_widths_over_the_whole_image(config):
    axes = np.ogrid[:40, :40, :40]
    full = 1.0 + 4 * np.exp(-sum((a - 20.0) ** 2 for a in axes) / 40)
    rng = np.random.default_rng(3)
    pairs = [made_pair(full, full + rng.normal(0, 0.6, full.shape)) for _ in range(2)]
    config = replace(config, tile=24, validation_tiles=1)
    found = Validation({"A": pairs}, config).measure(initial_network(config))
    mask = measured(pairs[0], 24, 3, 1) == 1
    means = {
        width: np.mean(
            [psnr(smooth(p.low, [width / FWHM_PER_SIGMA / 2] * 3).numpy(), p.full, mask=mask) for p in pairs]
        )
        for width in validation.WIDTHS_MM
    }
    best = max(means, key=means.get)
    assert min(means) < best < max(means) and found["gaussian_fwhm_mm"] == {"A": best}
    assert found["psnr_gaussian"]["A"] == pytest.approx(means[best], abs=0.01)
    assert found["share_gaussian"]["A"] > 0.3 > abs(found["share"]["A"])


def test_only_the_network_is_measured_again(config, monkeypatch):
    held_out = {"A": [noisy_pair(factor=None)], "B": [noisy_pair(seed=2, factor=1.0)]}
    once = Validation(held_out, config)
    monkeypatch.setattr(validation, "smooth", None)
    held_out.clear()
    network = shifting(config, 0.3).train()
    first, second = once.measure(network), once.measure(initial_network(config))
    assert network.training
    for key, values in first.items():
        assert list(values) == ["A", "B"]
        if key.endswith(("_low", "_gaussian", "_mm")):
            assert values == pytest.approx(second[key], nan_ok=True)
    assert first["psnr"]["A"] < second["psnr"]["A"] == pytest.approx(second["psnr_low"]["A"], abs=1e-4)
    of_each = once.measure({"B": network, "": initial_network(config)})
    assert of_each["psnr"] == {"A": second["psnr"]["A"], "B": first["psnr"]["B"]}
    # of one dose nothing is known, at the other there is nothing to gain
    assert all(math.isnan(share) for share in first["share"].values())


def test_a_pair_without_body_where_it_is_measured_is_refused_in_one_line(config):
    full = np.zeros((20, 20, 20))
    full[0, 0, 0] = 5.0
    with pytest.raises(InputError, match="case made: no body") as refusal:
        Validation({"A": [made_pair(full, full)]}, config)
    assert "\n" not in str(refusal.value)


# ---- routing


def gates_of(*patches) -> torch.Tensor:
    return torch.tensor(patches, dtype=torch.float32)


def test_the_sums_of_two_processes_are_those_of_one(config):
    config = replace(config, centers=CENTERS, patches_per_center=2)
    rng = torch.Generator().manual_seed(1)
    gates = torch.relu(torch.randn(4, 2, 3, generator=rng))
    gates[1, 0] = 0
    watch = GateWatch(config)
    slots = [(center, slot) for slot in (0, 1) for center in CENTERS]
    whole = watch.zeros()
    watch.add(whole, gates, slots)
    parts = [watch.zeros() for _ in range(3)]  # the last process has no patch
    for number, part in enumerate(parts[:2]):
        watch.add(part, gates[number::3], slots[number::3])
    watch.add(parts[1], gates[2::3], slots[2::3])
    assert all(list(part) == list(whole) for part in parts)
    added = {key: sum(part[key] for part in parts) for key in whole}
    assert added == pytest.approx(whole)
    record = watch.record({**whole, "other": 1.0})
    assert record["closed_gates"] == pytest.approx(float((gates == 0).float().mean()))
    closed_banks = (gates == 0).all(dim=2).float().mean()
    assert record["dead_banks"] == pytest.approx(float(closed_banks)) and closed_banks > 0


def test_usage_is_each_experts_share_of_its_bank(config):
    gates = gates_of(
        [[3.0, 1.0, 0.0], [0.0, 0.0, 0.0]],
        [[0.0, 0.0, 5.0], [2.0, 2.0, 0.0]],
    )
    watch = GateWatch(replace(config, patches_per_center=2))
    sums = watch.zeros()
    watch.add(sums, gates, [("A", 0), ("A", 1)])
    record = watch.record(sums)
    assert not sums  # nothing is left for the losses
    assert np.allclose(record["usage"]["A"], [[0.375, 0.125, 0.5], [0.25, 0.25, 0.0]])
    assert record["dead_banks"] == 0.25 and record["closed_gates"] == pytest.approx(7 / 12)


def test_entropy_runs_from_one_expert_alone_to_all_alike():
    assert entropy([[1.0, 0.0, 0.0], [0.0, 0.2, 0.0]]) == 0
    assert entropy([[0.2, 0.2, 0.2]]) == pytest.approx(1)
    assert entropy([[0.5, 0.5, 0.0], [0.0, 0.0, 0.0]]) == pytest.approx(math.log(2) / math.log(3))
    assert entropy([[1.0, 0.0], [0.3, 0.3]]) == pytest.approx(0.5)
    assert math.isnan(entropy([[0.0, 0.0]])) and math.isnan(entropy([[1.0]]))


def test_a_step_watches_what_the_network_did(tmp_path):
    folder = make_dataset(tmp_path / "data")
    found = select(read_manifest(folder), "train", CENTERS)
    pairs = {center: [load_pair(case, 4.0) for case in cases] for center, cases in found.items()}
    trainer = Trainer(tiny_config(folder, tmp_path / "run", network=replace(TINY, gate="top2")))
    low = [sampler_of(pairs).draw(0, center, 0)[0] for center in CENTERS]
    with torch.no_grad():
        gates = trainer.sites[0].network(torch.from_numpy(np.stack(low))[:, None])[1].numpy()
    record = trainer.train_step(sampler_of(pairs))
    for number, center in enumerate(CENTERS):
        assert np.allclose(record["usage"][center], gates[number], atol=1e-5)
    assert set(record["loss"]) == set(CENTERS)
    assert record["closed_gates"] == pytest.approx(1 / 3) and record["dead_banks"] == 0


def test_progress_is_the_mean_over_steps_of_what_was_finite():
    step = {"step": 1, "rate": 0.1, "gradient_norm": 2.0, "closed_gates": 0.2, "dead_banks": 0.0}
    step |= {"loss": {"A": 1.0}, "usage": {"A": [[1.0, 0.0]]}}
    other = {
        **step,
        "step": 2,
        "gradient_norm": math.inf,
        "loss": {"A": math.nan},
        "usage": {"A": [[0.0, 1.0]]},
    }
    record = progress([step, other], patches=8, seconds=2.0)
    assert (record["step"], record["gradient_norm"], record["loss"]) == (2, 2.0, {"A": 1.0})
    assert record["usage"] == {"A": [[0.5, 0.5]]} and record["entropy"]["A"] == pytest.approx(1)
    assert record["patches_per_second"] == 4
    assert math.isnan(progress([other], patches=1, seconds=0.0)["gradient_norm"])


# ---- who is told


class StandInWriter:
    """What the watch uses of torch.utils.tensorboard.SummaryWriter."""

    made: list = []  # noqa: RUF012

    def __init__(self, log_dir: str, purge_step: int):
        self.log_dir, self.purge_step, self.scalars, self.closed = log_dir, purge_step, {}, False
        self.made.append(self)

    def add_scalar(self, tag: str, value: float, step: int) -> None:
        assert isinstance(value, float) and not self.closed
        self.scalars[tag, step] = value

    def close(self) -> None:
        self.closed = True


def test_tensorboard_gets_every_number_where_it_is_installed(tmp_path, monkeypatch):
    stand_in = types.ModuleType("torch.utils.tensorboard")
    stand_in.SummaryWriter = StandInWriter
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", stand_in)
    StandInWriter.made.clear()
    config = tiny_config(make_dataset(tmp_path / "data"), tmp_path / "run", steps=3)
    train(config)
    (writer,) = StandInWriter.made
    assert (
        Path(writer.log_dir) == tmp_path / "run" / "tensorboard" and writer.purge_step == 1 and writer.closed
    )
    records = [json.loads(line) for line in (tmp_path / "run" / "training.jsonl").read_text().splitlines()]
    assert records[0]["tensorboard"] is True
    by_event = {record["event"]: record for record in records}
    for center in CENTERS:
        assert writer.scalars[f"progress/loss/{center}", 3] == by_event["progress"]["loss"][center]
        assert writer.scalars[f"validation/psnr/{center}", 3] == by_event["validation"]["psnr"][center]
        assert ("validation/b_mean/" + center, 3) not in writer.scalars  # no lesion, no number
    assert writer.scalars["progress/rate", 3] == by_event["progress"]["rate"]
    assert all(math.isfinite(value) for value in writer.scalars.values())
    assert {step for _, step in writer.scalars} == {3}


def test_the_log_says_where_tensorboard_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with Watch(tmp_path, 0, 0) as watch:
        assert not watch.tensorboard
    with Watch(tmp_path, 1, 0) as other:
        assert not other.tensorboard and not list(tmp_path.iterdir())


def test_a_page_that_cannot_be_written_does_not_end_the_training(tmp_path, monkeypatch):
    def full_disk(path, text) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("drmc.training.page.write_text", full_disk)
    config = tiny_config(make_dataset(tmp_path / "data"), tmp_path / "run", steps=2)
    assert train(config).is_file() and not (tmp_path / "run" / "training.html").exists()


def test_the_text_of_a_training(tmp_path, monkeypatch, capsys):
    original = PatchSampler.draw

    def poisoned(self, step, *key):
        drawn = original(self, step, *key)
        return drawn._replace(low=drawn.low * np.nan) if step == 1 else drawn

    monkeypatch.setattr(PatchSampler, "draw", poisoned)
    records = []
    config = tiny_config(make_dataset(tmp_path / "data"), tmp_path / "run", steps=4)
    train(config, report=records.append)
    by_event = {record["event"]: record for record in records}
    progress_record, found = by_event["progress"], by_event["validation"]
    assert progress_record["skipped"] == 1
    for record in records:
        command._print_text(record)
    lines = capsys.readouterr().err.splitlines()
    assert lines[1].startswith(f"step 4/4  loss A {progress_record['loss']['A']:.5f} B ")
    assert f"{progress_record['patches_per_second']:.3g} patches/s" in lines[1] and "0 min left" in lines[1]
    gain, gaussian = (found[key]["B"] - found["psnr_low"]["B"] for key in ("psnr", "psnr_gaussian"))
    assert f"B {gain:+.2f} ({gaussian:+.2f}; {100 * found['share']['B']:.0f} %)" in lines[2]
    assert lines[0].startswith("started at step 0 of 4") and lines[3] == "finished at step 4 of 4"
    undefined = {
        key: dict.fromkeys(values, None) for key, values in found.items() if isinstance(values, dict)
    }
    command._print_text({**found, **undefined})
    command._print_text({**progress_record, "patches_per_second": None})
    assert "A - (-; -)  B - (-; -)" in capsys.readouterr().err
