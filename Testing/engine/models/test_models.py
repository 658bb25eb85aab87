"""The registry finds what is there, refuses what is damaged, and loads what was saved."""

from __future__ import annotations

import json
import os
import pickle

import pytest
import torch
from drmc.errors import InputError
from drmc.models import registry
from drmc.models.card import sha256_of
from drmc.models.registry import SHIPPED, find_model, list_models, model_folders, user_folder
from drmc.models.weights import load_network, save_model
from drmc.networks.drmc import DRMC, NetworkConfig

SMALL = NetworkConfig(channels=8, blocks=2, experts=2, heads=2, hidden=4)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A model folder that is the only one."""
    here = tmp_path / "models"
    here.mkdir()
    monkeypatch.setattr(registry, "model_folders", lambda: [here])
    return here


def network(seed=0, config=SMALL):
    torch.manual_seed(seed)
    return DRMC(config)


def test_what_is_saved_is_found_and_loaded_the_same(folder):
    saved = network()
    entry = save_model(folder / "first.pt", saved, 48, {"title": "First", "license": "CC-BY-4.0"})
    assert find_model("first") == entry == find_model(folder / "first.pt") == find_model()
    card = json.loads((folder / "first.json").read_text())
    assert card["sha256"] == entry.sha256 and card["tile"] == 48 and card["title"] == "First"
    assert card["parameters"] == sum(p.numel() for p in saved.parameters())
    assert card["config"] == SMALL.to_dict()
    loaded, tile = load_network(entry)
    assert tile == 48 and loaded.config == SMALL
    x_BCDHW = torch.rand(1, 1, 6, 7, 8)
    with torch.no_grad():
        for ours, theirs in zip(loaded(x_BCDHW), saved(x_BCDHW), strict=True):
            assert torch.equal(ours, theirs)


def test_half_weights_are_the_nearest_float16_and_computed_with_as_float32(folder):
    saved = network(config=NetworkConfig(channels=32, blocks=3, experts=3, heads=2, hidden=16))
    with torch.no_grad():
        saved.tail.bias.fill_(1e6)  # beyond float16: stays as it is
    whole = save_model(folder / "whole.pt", saved, 48)
    half = save_model(folder / "half.pt", saved, 48, half=True)
    assert half.path.stat().st_size < 0.65 * whole.path.stat().st_size
    loaded, _ = load_network(half)
    for name, value in loaded.named_parameters():
        expected = saved.state_dict()[name]
        assert value.dtype == torch.float32
        assert torch.equal(value, expected if name == "tail.bias" else expected.half().float())


def test_the_same_weights_give_the_same_file_under_any_name(folder):
    first, second = save_model(folder / "a.pt", network(), 32), save_model(folder / "b.pt", network(), 32)
    assert first.sha256 == second.sha256
    assert save_model(folder / "c.pt", network(1), 32).sha256 != first.sha256
    assert sorted(path.name for path in folder.iterdir()) == [
        "a.json",
        "a.pt",
        "b.json",
        "b.pt",
        "c.json",
        "c.pt",
    ]


def test_the_default_is_the_one_whose_card_says_so(folder):
    for name in ("a", "b", "c"):
        save_model(folder / f"{name}.pt", network(), 32, {"default": name == "b"})
    assert find_model().name == "b"
    assert [entry.name for entry in list_models()] == ["a", "b", "c"]


def test_a_damaged_weight_file_is_refused_with_both_checksums(folder):
    entry = save_model(folder / "m.pt", network(), 32)
    content = bytearray(entry.path.read_bytes())
    content[len(content) // 2] ^= 1
    entry.path.write_bytes(content)
    for name in ("m", entry.path, None):
        with pytest.raises(InputError) as refusal:
            find_model(name)
        text = str(refusal.value)
        assert entry.sha256 in text and sha256_of(entry.path) in text and str(entry.path) in text
        assert "\n" not in text and "again" in text
    with pytest.raises(InputError, match="changed"):
        load_network(entry)
    assert [listed.name for listed in list_models()] == ["m"]


def test_a_broken_card_spoils_only_its_own_model(folder):
    save_model(folder / "bad.pt", network(), 32)
    save_model(folder / "good.pt", network(), 32, {"default": True})
    (folder / "bad.json").write_text("{")
    assert "bad.json" in next(entry.card["problem"] for entry in list_models() if entry.name == "bad")
    assert find_model().name == "good"
    with pytest.raises(InputError, match=r"bad\.json"):
        find_model("bad")


def test_a_weight_file_without_a_card_may_be_used(folder):
    entry = save_model(folder / "m.pt", network(), 32)
    (folder / "m.json").unlink()
    found = find_model(folder / "m.pt")
    assert found.card == {} and found.sha256 == entry.sha256
    assert load_network(found)[1] == 32


def test_a_checkpoint_of_the_authors_code_is_a_model_of_tile_64(folder):
    ours = network(3)
    path = folder / "authors.pth"
    torch.save(ours.authors_state_dict(), path)
    loaded, tile = load_network(find_model(path))
    assert tile == 64
    for name, value in ours.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[name]), name


class Intruder:
    """Pickled, it would run code on loading."""

    def __reduce__(self):
        return (open, ("intruder-was-here", "w"))


def _stored(**changes):
    state = network().state_dict()
    return {"format": 1, "config": SMALL.to_dict(), "tile": 32, "state_dict": state} | changes


NOT_MODELS = {
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("This is no model.\n"),
    "plain pickle": lambda path: path.write_bytes(pickle.dumps({"a": 1})),
    "code": lambda path: torch.save({"format": 1, "config": Intruder()}, path),
    "list": lambda path: torch.save([1, 2], path),
    "other network": lambda path: torch.save(torch.nn.Linear(3, 4).state_dict(), path),
    "newer format": lambda path: torch.save(_stored(format=2), path),
    "no tile": lambda path: torch.save({k: v for k, v in _stored().items() if k != "tile"}, path),
    "odd tile": lambda path: torch.save(_stored(tile="64"), path),
    "unknown setting": lambda path: torch.save(_stored(config={**SMALL.to_dict(), "depth": 3}), path),
    "other size": lambda path: torch.save(_stored(config={**SMALL.to_dict(), "blocks": 3}), path),
    "no tensors": lambda path: torch.save(_stored(state_dict={"head.weight": 1}), path),
    "not finite": lambda path: torch.save(
        _stored(state_dict={**network().state_dict(), "tail.bias": torch.tensor([float("nan")])}), path
    ),
}


@pytest.mark.parametrize("kind", NOT_MODELS)
def test_what_is_no_model_is_refused_in_one_line(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "thing.pt"
    NOT_MODELS[kind](path)
    with pytest.raises(InputError) as refusal:
        load_network(find_model(path))
    assert str(path) in str(refusal.value) and "\n" not in str(refusal.value)
    assert not (tmp_path / "intruder-was-here").exists()


def test_unknown_names_say_what_there_is(folder):
    with pytest.raises(InputError, match="no model is installed"):
        find_model()
    save_model(folder / "m.pt", network(), 32)
    with pytest.raises(InputError, match="installed: m"):
        find_model("n")
    with pytest.raises(InputError, match=r"\.pt"):
        save_model(folder / "m.bin", network(), 32)


def test_folders_are_those_of_the_variable_then_the_user_s_then_the_shipped(tmp_path, monkeypatch):
    monkeypatch.setenv("DRMC_MODELS", f"{tmp_path / 'one'}{os.pathsep}{tmp_path / 'two'}")
    folders = model_folders()
    assert folders[:2] == [tmp_path / "one", tmp_path / "two"]
    assert folders[2:] == [user_folder(), SHIPPED]
    for name, config in (("one", SMALL), ("two", NetworkConfig(channels=4, heads=2))):
        (tmp_path / name).mkdir()
        save_model(tmp_path / name / "m.pt", network(config=config), 32)
    assert find_model("m").path == tmp_path / "one" / "m.pt"
