"""Strategies: who learns from whom. The same draws and the same loop in all of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from drmc.errors import InputError
from drmc.models.registry import find_model
from drmc.models.weights import load_network
from drmc.training.config import TrainingConfig
from drmc.training.loop import train
from drmc.training.sampler import PatchSampler
from drmc.training.start import initial_network
from drmc.training.trainer import Trainer
from drmc.training.validation import Validation
from support.engine.small_training import checkpoint, made_pair, make_dataset, same, stop_after, tiny_config

SITES = {"specialist": {}, "fedavg": {"round_steps": 3}, "ftl": {"round_steps": 2, "federated_steps": 3}}
SITES["flmrcm"] = {"round_steps": 2}


@pytest.fixture(scope="module")
def uneven(tmp_path_factory) -> Path:
    """Three training patients at A, one at B."""
    folder = make_dataset(tmp_path_factory.mktemp("uneven"), patients=3)
    manifest = json.loads((folder / "dataset.json").read_text())
    dropped = ("B-train-1", "B-train-2")
    manifest["cases"] = [case for case in manifest["cases"] if case["id"] not in dropped]
    (folder / "dataset.json").write_text(json.dumps(manifest))
    return folder


def sites_of(config: TrainingConfig) -> dict:
    return checkpoint(config.output)["sites"]


def model(config: TrainingConfig, ending: str = "") -> dict[str, torch.Tensor]:
    entry = find_model(Path(config.output) / f"{config.name}{ending}.pt")
    return dict(load_network(entry)[0].state_dict())


def largest_difference(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    return max(float((a[key] - b[key]).abs().max()) for key in a)


def mean_of(states: list[dict], weights: list[float]) -> dict[str, torch.Tensor]:
    return {key: sum(w * s[key].double() for w, s in zip(weights, states, strict=True)) for key in states[0]}


def test_federated_averaging_of_single_plain_steps_is_joint_training(config, tmp_path):
    plain = {"optimizer": "sgd", "gradient_clip": 0.0, "learning_rate": 0.3, "final_learning_rate": 0.1}
    joint = replace(config, **plain)
    averaged = replace(joint, strategy="fedavg", round_steps=1, output=str(tmp_path / "fedavg"))
    train(joint)
    train(averaged)
    moved = largest_difference(model(joint), dict(initial_network(joint).state_dict()))
    assert largest_difference(model(joint), model(averaged)) < 1e-5 * max(1.0, moved) < moved
    # several steps between the means are another thing
    seldom = replace(averaged, round_steps=3, output=str(tmp_path / "seldom"))
    train(seldom)
    assert largest_difference(model(joint), model(seldom)) > 1e-5


def test_every_strategy_draws_the_same_patches(config, tmp_path, monkeypatch):
    drawn: dict[str, list] = {}
    original = PatchSampler.draw
    for strategy in ("joint", "mixed", "flmrcm_mix", *SITES):
        seen = drawn.setdefault(strategy, [])

        def draw(self, step, center, slot, seen=seen):
            drawn = original(self, step, center, slot)
            seen.append((step, center, slot, None if self.pool else drawn.low.tobytes()))
            return drawn

        monkeypatch.setattr(PatchSampler, "draw", draw)
        one = replace(config, strategy=strategy, output=str(tmp_path / strategy), patches_per_center=2)
        train(replace(one, steps=4, federated_steps=2))
    slots = {strategy: sorted(key[:3] for key in seen) for strategy, seen in drawn.items()}
    assert slots["joint"] == [(t, c, i) for t in range(4) for c in "AB" for i in (0, 1)]
    assert all(found == slots["joint"] for found in slots.values())
    patches = {strategy: {key[:3]: key[3] for key in seen} for strategy, seen in drawn.items()}
    assert all(patches[strategy] == patches["joint"] for strategy in ("flmrcm_mix", *SITES))


def test_a_specialist_learns_as_if_its_center_were_the_only_one(config, tmp_path):
    both = replace(config, strategy="specialist")
    assert train(both) == Path(both.output)
    alone = replace(config, centers=("A",), output=str(tmp_path / "alone"))
    train(alone)
    assert same(sites_of(both)["A"], sites_of(alone)[""])
    assert same(model(both, "-A"), model(alone))
    assert largest_difference(model(both, "-A"), model(both, "-B")) > 1e-4
    card = find_model(Path(both.output) / "tiny-B.pt").card["training"]
    assert card["validation_psnr"] == pytest.approx(checkpoint(both.output)["measured"]["psnr"]["B"])


def test_the_mean_is_weighted_by_patients(uneven, tmp_path, monkeypatch):
    config = tiny_config(uneven, tmp_path / "run", strategy="fedavg", round_steps=4, steps=6)
    with monkeypatch.context() as patched:
        stop_after(patched, 3)
        train(config)
    apart = [sites_of(config)[center]["average"] for center in "AB"]
    assert largest_difference(*apart) > 1e-4  # before the mean
    expected = mean_of(apart, [0.75, 0.25])
    trainer = Trainer(config, patients={"A": 3, "B": 1}, data=checkpoint(config.output)["data"])
    assert trainer.resume()
    assert largest_difference(dict(trainer.models()[""].state_dict()), expected) < 1e-6
    train(config)  # the last step is a mean, wherever the rounds end
    sites = sites_of(config)
    for part in ("network", "average"):
        assert same(sites["A"][part], sites["B"][part])
    assert not same(sites["A"]["optimizer"]["state"], sites["B"]["optimizer"]["state"])  # which stays at home
    assert largest_difference(model(config), sites["A"]["average"]) < 1e-6
    assert find_model(Path(config.output) / "tiny.pt").card["training"]["patients"] == {"A": 3, "B": 1}


def test_transfer_is_averaging_and_then_fine_tuning(config, tmp_path, monkeypatch):
    config = replace(config, **SITES["ftl"], strategy="ftl", export="last")
    with monkeypatch.context() as patched:
        stop_after(patched, 3)
        train(config)
    common = sites_of(config)
    assert same(common["A"]["network"], common["B"]["network"])
    federated = replace(config, strategy="fedavg", output=str(tmp_path / "fedavg"))
    with monkeypatch.context() as patched:
        stop_after(patched, 3)
        train(replace(federated, steps=config.steps, round_steps=2))
    # the third step ends a round of transfer, not of averaging: before it they are one
    assert same(sites_of(federated)["A"]["optimizer"]["state"], common["A"]["optimizer"]["state"])
    train(config)
    assert largest_difference(model(config), dict(common["A"]["average"])) < 1e-6  # for unknown centers
    assert same(model(config, "-A"), dict(sites_of(config)["A"]["average"]))
    assert largest_difference(model(config, "-A"), model(config, "-B")) > 1e-5


def test_other_steps_neither_repeat_nor_lose_the_end_of_the_rounds(config, tmp_path, monkeypatch):
    config = replace(config, strategy="ftl", round_steps=2, steps=4, export="last")
    train(config)  # rounds until step 2
    common = model(config)
    train(replace(config, steps=12))
    assert same(model(config), common)
    assert largest_difference(model(config, "-A"), model(config, "-B")) > 1e-5
    stopped = replace(config, steps=20, output=str(tmp_path / "stopped"))
    stop_after(monkeypatch, 7)
    train(stopped)
    with pytest.raises(InputError, match="would have ended at step 6, but the run is at step 7"):
        train(replace(stopped, steps=12))


@pytest.mark.parametrize("strategy", ["mixed", "flmrcm_mix", *SITES])
def test_every_strategy_resumes_to_the_last_bit(config, tmp_path, monkeypatch, strategy):
    config = replace(config, strategy=strategy, **SITES.get(strategy, {}), validate_every=2)
    train(config)
    stopped = replace(config, output=str(tmp_path / "stopped"))
    for step in (1, 4):
        with monkeypatch.context() as patched:
            stop_after(patched, step)
            train(stopped)
    train(stopped)
    a, b = checkpoint(config.output), checkpoint(stopped.output)
    assert all(same(a[key], b[key]) for key in ("sites", "best", "measured", "step"))
    names = sorted(path.name for path in Path(config.output).glob("tiny*.pt"))
    expected = {"specialist": ["-A", "-B"], "ftl": ["", "-A", "-B"]}
    assert names == sorted(f"tiny{ending}.pt" for ending in expected.get(strategy, [""]))
    for name in names:
        assert (Path(config.output) / name).read_bytes() == (Path(stopped.output) / name).read_bytes()


def test_a_mixed_slot_draws_from_all_patients():
    """Three patients at A, one at B: three patches in four are of A, whatever the slot's center."""
    import numpy as np

    image = np.ones((9, 9, 9))
    pairs = {"A": [made_pair(image, image)] * 3, "B": [made_pair(3 * image, image)]}
    options = {"patch": 8, "seed": 1, "hot_fraction": 0.0, "scale_range": 1.0}
    mixed = PatchSampler(pairs, pooled=True, **options)
    own = PatchSampler(pairs, **options)
    is_a = lambda sampler, center: np.mean(
        [sampler.draw(step, center, 0)[1].mean() < 0.1 for step in range(400)]
    )
    assert (is_a(own, "A"), is_a(own, "B")) == (1, 0)
    assert is_a(mixed, "A") == pytest.approx(0.75, abs=0.07)
    assert is_a(mixed, "B") == pytest.approx(0.75, abs=0.07)


def test_validation_measures_the_model_that_a_center_would_get(config, monkeypatch):
    seen = []
    original = Validation.measure

    def measure(self, networks):
        seen.append({center: _cloned(network) for center, network in networks.items()})
        return original(self, networks)

    monkeypatch.setattr(Validation, "measure", measure)
    config = replace(config, strategy="ftl", round_steps=2, federated_steps=4, validate_every=3)
    train(config)
    in_a_round, after = seen  # at steps 3 and 6
    assert same(in_a_round["A"], in_a_round["B"]) and same(in_a_round["A"], in_a_round[""])
    assert not same(after["A"], after["B"]) and not same(after["A"], after[""])
    for center in "AB":
        assert same(after[center], dict(sites_of(config)[center]["average"]))


def test_the_best_of_federated_transfer_may_lie_before_the_end_of_the_rounds(config, monkeypatch):
    """The exported models are those that were validated: one mean for all, of that moment."""
    seen = []
    original = Validation.measure

    def measure(self, networks):
        found = original(self, networks)
        seen.append({center: _cloned(network) for center, network in networks.items()})
        # the first validation is the best
        return {**found, "psnr": {c: value - 10.0 * len(seen) for c, value in found["psnr"].items()}}

    monkeypatch.setattr(Validation, "measure", measure)
    config = replace(
        config, strategy="ftl", round_steps=2, federated_steps=4, validate_every=3, export="best"
    )
    train(config)
    for ending in ("", "-A", "-B"):
        assert same(model(config, ending), seen[0][""])


def _cloned(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in network.state_dict().items()}


def _outside(config: TrainingConfig, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors of a tiny network of one block that are not of its decoder."""
    return {
        key: value for key, value in state.items() if not key.startswith(("blocks.1.", "blocks.2.", "tail."))
    }


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_transfer_of_the_decoder_leaves_the_rest_bit_by_bit(config, tmp_path, optimizer):
    deep = replace(config.network, blocks=3)
    config = replace(config, network=deep, optimizer=optimizer, export="last", weight_decay=0.1)
    config = replace(config, strategy="ftl", round_steps=2, federated_steps=3, trainable="decoder")
    train(config)
    general = model(config)
    assert len(_outside(config, general)) > 10
    for center in "AB":
        mine = model(config, f"-{center}")
        assert same(_outside(config, mine), _outside(config, general))
        assert largest_difference(mine, general) > 1e-5
    sites = sites_of(config)
    assert same(_outside(config, sites["A"]["network"]), _outside(config, sites["B"]["network"]))
    # from a model: the same in every strategy, and in a run that was resumed
    tuned = replace(config, strategy="joint", initial_weights=str(Path(config.output) / "tiny.pt"))
    tuned = replace(tuned, output=str(tmp_path / "tuned"))
    train(tuned)
    assert same(_outside(config, model(tuned)), _outside(config, general))
    assert largest_difference(model(tuned), general) > 1e-5


def test_a_new_network_has_nothing_to_keep(config):
    with pytest.raises(
        InputError, match="trainable = decoder: needs the strategy ftl, or initial_weights to keep"
    ):
        replace(config, trainable="decoder")


def test_models_of_earlier_steps_are_kept_beside_the_last(config, tmp_path, monkeypatch):
    config = replace(config, kept_steps=(2, 4), export="last")
    train(config)
    short = replace(config, steps=4, kept_steps=(), output=str(tmp_path / "short"))
    with monkeypatch.context() as patched:
        stop_after(patched, 2)
        train(replace(short, steps=config.steps))
    assert same(model(config, "-step2"), dict(sites_of(short)[""]["average"]))
    card = find_model(Path(config.output) / "tiny-step4.pt").card
    assert card["training"]["weights_step"] == card["training"]["steps"] == 4 and card["name"] == "tiny-step4"
    assert not same(model(config, "-step2"), model(config, "-step4"))
    assert not same(model(config, "-step4"), model(config))
