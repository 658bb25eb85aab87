"""Presets, networks and strategies by name: the engine's sentences, the page that shows them, a new run."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from drmc.errors import InputError
from drmc.training import launch, presets
from drmc.training.choices import NETWORKS, PRESETS, STRATEGIES
from drmc.training.config import TrainingConfig
from drmc.training.launch import new_configuration
from drmc.training.strategies import registry
from support import REPOSITORY
from support.engine.denoising_cases import tree

ALL = PRESETS, NETWORKS, STRATEGIES


@pytest.fixture
def ours(dataset: Path, tmp_path: Path) -> Path:
    """A dataset whose neighbors may be written."""
    return Path(shutil.copytree(dataset, tmp_path / "ours"))


def test_every_name_has_its_sentence_except_those_of_organs():
    denoising = [name for name in presets.OTHERS if not name.startswith("organs")]
    assert PRESETS.keys() == presets.PRESETS.keys() - {"organs"}
    assert list(NETWORKS) == [*presets.VARIANTS, *denoising]
    assert list(STRATEGIES) == list(registry.STRATEGIES)
    for sentences in ALL:
        assert len(set(sentences.values())) == len(sentences)
        assert all(30 <= len(one) <= 140 and one[-1].isalnum() for one in sentences.values())
    assert not NETWORKS.keys() & STRATEGIES.keys()  # a run's folder says which one it is


@pytest.mark.parametrize(
    ("head", "sentences"),
    list(zip(("preset", "`network`", "`strategy`"), ALL, strict=True)),
    ids=lambda one: str(one)[:9],
)
def test_the_page_says_the_same(head, sentences):
    """Rows in the engine's order, the name first, the sentence in the last column."""
    text = (REPOSITORY / "docs" / "training.md").read_text(encoding="utf-8")
    table = re.search(rf"^\| {re.escape(head)} \|.*\| when \|\n\|[-|]+\n((?:\|.*\n)+)", text, re.M)[1]
    rows = [re.split(r" \| ", line.strip("| ")) for line in table.splitlines()]
    assert [(row[0], row[-1]) for row in rows] == [(f"`{name}`", said) for name, said in sentences.items()]


def test_the_parameters_of_the_page_are_those_of_the_networks():
    torch = pytest.importorskip("torch")
    from drmc.networks.registry import build

    text = (REPOSITORY / "docs" / "training.md").read_text(encoding="utf-8")
    for name in NETWORKS:
        content = {"preset": "default", "dataset": "d", "output": "o", "network": name}
        network = TrainingConfig.from_dict(content).network
        with torch.device("meta"):
            count = sum(one.numel() for one in build(network.kind, network).parameters())
        (said,) = re.findall(rf"^\| `{name}` \| `{network.kind}` \|.*?\| ([\d,]+) \|", text, re.M)
        assert said == f"{count:,}", name


@pytest.mark.parametrize(
    ("preset", "network", "strategy", "folder"),
    [
        ("tiny", "udrmc", "fedavg", "ours-tiny-udrmc-fedavg"),
        ("tiny", "softmax", None, "ours-tiny-softmax"),
        ("tiny", None, "ftl", "ours-tiny-ftl"),
        ("unet3d", None, "flmrcm", "ours-unet3d-flmrcm"),
        ("cgan3d", None, None, "ours-cgan3d"),
    ],
)
def test_a_choice_has_a_run_of_its_own(ours, preset, network, strategy, folder):
    plain = new_configuration(ours, preset).read_text()
    path = new_configuration(ours, preset, None, network, strategy)
    assert path == ours.parent / folder / launch.CONFIGURATION
    chosen = {"network": network, "strategy": strategy}
    chosen = {key: name for key, name in chosen.items() if name is not None}
    assert json.loads(path.read_text()) == {**json.loads(plain), **chosen}
    config, own = TrainingConfig.read(path), TrainingConfig.read(ours.parent / f"ours-{preset}" / path.name)
    assert config.strategy == (strategy or own.strategy)
    assert (config.network != own.network) == (network is not None)


@pytest.mark.parametrize(
    ("preset", "network", "strategy", "said"),
    [
        ("best", None, None, "preset 'best': must be one of default, paper, tiny, unet3d"),
        ("default", "organs", None, "network 'organs': must be one of drmc, baseline"),
        ("default", "", None, "network '': must be one of drmc"),
        ("default", None, "federated", "strategy 'federated': must be one of joint, mixed"),
        ("unet3d", "softmax", None, "network = 'softmax': needs a network with experts, not unet3d"),
        ("tiny", "cvtgan3d", None, "patch = 16: a patch of 16 voxels leaves cvtgan3d one value"),
        ("cgan3d", None, "flmrcm", "critic = cgan3d: must be none with flmrcm, which has its own"),
    ],
)
def test_what_contradicts_itself_is_refused_and_nothing_is_written(ours, preset, network, strategy, said):
    before = tree(ours.parent)
    with pytest.raises(InputError) as refusal:
        new_configuration(ours, preset, None, network, strategy)
    assert said in str(refusal.value) and "\n" not in str(refusal.value)
    assert tree(ours.parent) == before


def test_one_center_cannot_be_aligned(ours):
    manifest = json.loads((ours / "dataset.json").read_text())
    manifest["cases"] = [case for case in manifest["cases"] if case["center"] == "A"]
    (ours / "dataset.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match="flmrcm: strategy = flmrcm: aligns centers, and needs at least two"):
        new_configuration(ours, "tiny", strategy="flmrcm")


def test_names_are_chosen_without_pytorch(ours, monkeypatch):
    """Slicer writes configurations before PyTorch is installed; `drmc train --check` looks at them later."""
    find = launch.importlib.util.find_spec
    monkeypatch.setattr(
        launch.importlib.util, "find_spec", lambda name, *rest: None if name == "torch" else find(name, *rest)
    )
    assert new_configuration(ours, "unet3d", network="softmax").is_file()
    with pytest.raises(InputError, match="must be one of"):
        new_configuration(ours, "unet3d", network="softmx")
