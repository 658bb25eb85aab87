"""Networks of every kind through the whole house: weight files, training, denoising."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from drmc.cli import main as cli
from drmc.denoising.pipeline import run
from drmc.denoising.request import DenoiseRequest
from drmc.errors import InputError
from drmc.inference.denoiser import Denoiser
from drmc.measures.routing import routing_table
from drmc.models.registry import SHIPPED, add_model, find_model
from drmc.models.weights import load_network, save_model
from drmc.networks.cgan3d import CGAN3DConfig
from drmc.networks.cvtgan3d import CVTGAN3DConfig
from drmc.networks.drmc import DRMC, Router
from drmc.networks.protocol import Settings
from drmc.networks.registry import KINDS, build, settings_of
from drmc.networks.resunet import ResUNetConfig
from drmc.networks.udrmc import UDRMCConfig
from drmc.networks.unet3d import UNet3DConfig
from drmc.training.config import TrainingConfig
from drmc.training.history import LOG, PAGE, History
from drmc.training.loop import train
from drmc.training.muon import MuonAdamW, orthogonalized
from drmc.training.start import initial_network, make_optimizer
from drmc.training.strategies.base import average_sites, mean_model
from drmc.training.trainer import Trainer
from support.engine.denoising_cases import write_case
from support.engine.small_training import (
    CENTERS,
    TINY,
    checkpoint,
    make_dataset,
    same,
    stop_after,
    tiny_config,
)

SMALL: dict[str, Settings] = {
    "drmc": TINY,
    "udrmc": UDRMCConfig(widths=(8, 8, 12), blocks=(1, 1, 1, 1, 1), experts=2, hidden=4),
    "resunet": ResUNetConfig(widths=(4, 6, 8), units=(1, 2, 1)),
    "unet3d": UNet3DConfig(width=4, pools=2),
    "cgan3d": CGAN3DConfig(depth=2, width=4),
    "cvtgan3d": CVTGAN3DConfig(width=4, norm="layer", dropout=0.0),
}
PLAIN = ("resunet", "unet3d", "cgan3d", "cvtgan3d")  # without routing
each_kind = pytest.mark.parametrize("kind", SMALL)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("data"))


def new(kind: str, seed: int = 0):
    torch.manual_seed(seed)
    return build(kind, SMALL[kind])


# ---- the registry and weight files


def test_the_registry_knows_every_kind_by_its_settings():
    assert set(KINDS) == set(SMALL)
    for kind, (config, network) in KINDS.items():
        assert config.kind == kind and type(build(kind, {})) is network
        assert settings_of(kind, SMALL[kind].to_dict()) == SMALL[kind]
    for wrong in ("unet", None, ["drmc"]):
        with pytest.raises(ValueError, match="must be one of drmc, udrmc, resunet"):
            build(wrong, {})


@each_kind
def test_the_gates_have_the_shape_that_the_settings_say(kind):
    residual, gates = new(kind)(torch.rand(2, 1, 9, 8, 8))
    assert residual.shape == (2, 1, 9, 8, 8) and gates.shape == (2, *SMALL[kind].gates_shape)


@each_kind
def test_the_decoder_is_a_part_with_the_tail(kind):
    network = new(kind)
    decoder = {id(p) for part in network.decoder for p in part.parameters()}
    assert {id(p) for p in network.tail.parameters()} <= decoder
    assert id(network.head.weight) not in decoder
    every = {id(p) for p in network.parameters()}
    assert decoder < every and len(decoder) > len(list(network.tail.parameters()))


@each_kind
def test_what_is_saved_is_loaded_the_same(kind, tmp_path, monkeypatch):
    saved = new(kind)
    entry = save_model(tmp_path / "m.pt", saved, 16)
    assert entry.card["kind"] == kind and entry.card["config"] == SMALL[kind].to_dict()
    loaded, tile = load_network(find_model(tmp_path / "m.pt"))
    assert tile == 16 and type(loaded) is KINDS[kind][1] and loaded.config == SMALL[kind]
    x_BCDHW = torch.rand(1, 1, 9, 8, 8)
    assert torch.equal(loaded(x_BCDHW)[0], saved(x_BCDHW)[0])
    (tmp_path / "m.json").unlink()
    monkeypatch.setattr("drmc.models.registry.user_folder", lambda: tmp_path / "user")
    assert add_model(tmp_path / "m.pt").card["kind"] == kind


def test_the_list_of_models_says_their_kinds(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DRMC_MODELS", str(tmp_path))
    for kind in SMALL:
        save_model(tmp_path / f"a-{kind}.pt", new(kind), 16)
    assert cli.main(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {f"  kind: {kind}" for kind in SMALL} <= set(lines)


def test_a_file_without_a_kind_is_of_drmc(tmp_path):
    save_model(tmp_path / "m.pt", new("drmc"), 16)
    stored = torch.load(tmp_path / "m.pt", weights_only=True)
    assert set(stored) == {"format", "config", "tile", "state_dict"}  # as before there were other kinds
    shipped, tile = load_network(find_model(SHIPPED / "drmc-small-2.pt"))
    assert isinstance(shipped, DRMC) and tile == 64


@pytest.mark.parametrize("kind", ["unet", "drmc", 3], ids=str)
def test_a_file_of_another_kind_is_refused_in_one_line(kind, tmp_path):
    save_model(tmp_path / "m.pt", new("udrmc"), 16)
    (tmp_path / "m.json").unlink()
    stored = torch.load(tmp_path / "m.pt", weights_only=True)
    torch.save({**stored, "kind": kind}, tmp_path / "m.pt")
    with pytest.raises(InputError, match=r"kind = ('unet'|3)|unknown network setting") as refusal:
        load_network(find_model(tmp_path / "m.pt"))
    assert "\n" not in str(refusal.value)


# ---- denoising


@each_kind
def test_a_scan_is_denoised_and_reported(kind, tmp_path):
    network = new(kind)
    save_model(tmp_path / "m.pt", network, 16)
    paths = write_case(tmp_path / "case")
    fields = {"input": paths["low"], "lesions": paths["lesions"], "model": tmp_path / "m.pt"}
    output = tmp_path / "out"
    run(DenoiseRequest(**{k: str(v) for k, v in fields.items()}, output=str(output), device="cpu"))
    summary = json.loads((output / "summary.json").read_text())
    layers, experts = SMALL[kind].gates_shape
    assert len(summary["routing"]) == layers * experts and summary["tiles"]["count"] > 0
    rows = list(csv.DictReader((output / "routing.csv").open()))
    places = [(int(row["block"]), row["bank"], int(row["expert"])) for row in rows]
    banks = [(b + 1, bank) for b in range(layers // 2) for bank in ("attention", "ffn")]
    assert places == [(*bank, m + 1) for bank in banks for m in range(experts)]
    said = "no routing to show" in (output / "report.html").read_text()
    assert said is (kind in PLAIN)
    with (output / "routing_lesions.csv").open() as file:
        assert bool(list(csv.DictReader(file))) is (kind not in PLAIN)


@each_kind
def test_a_scan_of_air_has_gates_of_the_same_layers(kind):
    from drmc.imaging.geometry import Geometry

    geometry = Geometry((12, 12, 12), (2.0,) * 3, (0.0,) * 3, tuple(np.eye(3).ravel()))
    result = Denoiser(new(kind), 8, device="cpu").denoise(np.zeros((12,) * 3, np.float32), geometry)
    assert result.gates_TLM.shape == (0, *SMALL[kind].gates_shape)
    assert len(routing_table(result.gates_TLM)) == np.prod(SMALL[kind].gates_shape)


def test_a_network_without_routing_is_not_profiled_nor_benchmarked(tmp_path, dataset, capsys):
    save_model(tmp_path / "m.pt", new("resunet"), 16)
    assert cli.main(["profile", str(tmp_path / "m.pt"), str(dataset), "--split", "validation"]) == 2
    errors = capsys.readouterr().err
    assert "no routing" in errors and errors.count("\n") == 1
    assert cli.main(["benchmark", "tile", "--model", str(tmp_path / "m.pt")]) == 2
    errors = capsys.readouterr().err
    assert "resunet" in errors and errors.count("\n") == 1


# ---- configurations


def test_a_network_is_chosen_by_name_or_kind():
    values = {"preset": "default", "dataset": "d", "output": "o"}
    of = lambda network: TrainingConfig.from_dict({**values, "network": network})
    counts = {"udrmc": 1_906_814, "udrmc-48": 4_204_374, "resunet": 2_430_536}
    counts |= {"unet3d": 5_643_201, "cgan3d": 6_167_649, "cvtgan3d": 7_130_513}
    for name, count in counts.items():
        config = of(name)
        assert sum(p.numel() for p in build(config.network.kind, config.network).parameters()) == count
        assert replace(config, network=of("drmc").network) == of("drmc")  # nothing else differs
        assert TrainingConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert of({"kind": "udrmc", "widths": [48, 96, 192]}) == of("udrmc-48")
    assert of({"kind": "udrmc", "gate": "top2"}).network == UDRMCConfig(gate="top2")
    assert of({"kind": "drmc", "channels": 24}) == of({"channels": 24})  # on top of the preset's


@pytest.mark.parametrize(
    ("network", "said"),
    [
        ({"kind": "unet"}, "network: kind = 'unet': must be one of drmc, udrmc, resunet"),
        ({"kind": ["udrmc"]}, "network: kind = ['udrmc']"),
        ({"kind": "udrmc", "heads": 4}, "heads"),
        ({"kind": "udrmc", "blocks": [1, 1]}, "blocks"),
        ({"kind": "resunet", "gate": "relu"}, "gate"),
        ({"kind": "resunet", "norm": "batch"}, "norm"),
        ("vnet", "network = 'vnet'"),
    ],
    ids=str,
)
def test_a_senseless_network_is_refused_in_one_line(network, said, tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"dataset": "d", "output": "o", "network": network}))
    with pytest.raises(InputError) as refusal:
        TrainingConfig.read(path)
    assert said in str(refusal.value) and "\n" not in str(refusal.value)


def test_a_variant_is_of_the_network_that_a_run_goes_on_from(tmp_path):
    for kind in ("udrmc", "resunet"):
        save_model(tmp_path / f"{kind}.pt", new(kind), 16)
    values = {"dataset": "d", "output": "o", "initial_weights": str(tmp_path / "udrmc.pt")}
    assert TrainingConfig.from_dict(values).network == SMALL["udrmc"]
    baseline = TrainingConfig.from_dict({**values, "network": "baseline"}).network
    assert baseline == replace(SMALL["udrmc"], gate="none", experts=1, blocks=(2, 2, 2, 2, 2))
    with pytest.raises(InputError, match="network = 'softmax'"):
        TrainingConfig.from_dict(
            {**values, "network": "softmax", "initial_weights": str(tmp_path / "resunet.pt")}
        )
    with pytest.raises(InputError, match="kind = resunet is not that of initial_weights"):
        initial_network(TrainingConfig.from_dict({**values, "network": "resunet"}))


# ---- training


@each_kind
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_run_that_was_stopped_ends_as_one_that_was_not(kind, optimizer, dataset, tmp_path, monkeypatch):
    common = {"network": SMALL[kind], "steps": 3, "optimizer": optimizer, "patch": 9}
    whole = tiny_config(dataset, tmp_path / "whole", **common)
    halved = tiny_config(dataset, tmp_path / "halved", **common)
    path = train(whole)
    with monkeypatch.context() as patched:
        stop_after(patched, 1)
        train(halved)
    assert checkpoint(halved.output)["step"] == 1
    train(halved)
    a, b = (checkpoint(config.output)["sites"][""] for config in (whole, halved))
    assert same(a, b)
    assert not same(dict(a["network"]), dict(initial_network(whole).state_dict()))
    entry = find_model(path)
    assert load_network(entry)[0].config == SMALL[kind] and entry.card["kind"] == kind
    told = entry.card["training"]["configuration"]["network"]
    assert told == {"kind": kind, **SMALL[kind].to_dict()}


def test_a_network_without_routing_logs_none(dataset, tmp_path):
    config = tiny_config(
        dataset, tmp_path / "run", network=SMALL["resunet"], steps=2, validate_every=1, checkpoint_every=1
    )
    train(config)
    history = History.read(Path(config.output) / LOG)
    assert history.last("progress", "usage") == {} == history.last("progress", "entropy")
    assert history.last("progress", "closed_gates") is None
    assert set(history.last("validation", "psnr")) == set(CENTERS)
    page = (Path(config.output) / PAGE).read_text()
    assert "Loss" in page and "Which experts" not in page and "nan" not in page.lower().split()


def test_the_log_of_a_routed_network_has_its_layers(dataset, tmp_path):
    config = tiny_config(dataset, tmp_path / "run", network=SMALL["udrmc"], steps=1)
    train(config)
    usage = History.read(Path(config.output) / LOG).last("progress", "usage")
    assert {np.shape(table) for table in usage.values()} == {(10, 2)}


@each_kind
def test_a_model_is_fine_tuned(kind, dataset, tmp_path):
    save_model(tmp_path / "m.pt", new(kind, seed=5), 16)
    values = {"preset": "tiny", "dataset": str(dataset), "output": str(tmp_path / "run"), "centers": ["B"]}
    config = TrainingConfig.from_dict(
        {**values, "initial_weights": str(tmp_path / "m.pt"), "patch": 8, "steps": 1}
    )
    assert same(dict(Trainer(config).sites[0].network.state_dict()), dict(new(kind, seed=5).state_dict()))
    tuned = load_network(find_model(train(config)))[0]
    assert tuned.config == SMALL[kind]


@each_kind
def test_the_start_and_the_rates_are_those_asked_for(kind):
    settings = {"dataset": "", "output": "", "network": SMALL[kind], "seed": 3}
    plain = initial_network(TrainingConfig(**settings))
    changed = initial_network(
        TrainingConfig(**settings, head_gain=20.0, averaging_start=True, identity_start=True)
    )
    state = dict(plain.state_dict())
    for name, value in changed.state_dict().items():
        if name == "head.weight":
            assert torch.equal(value, 20 * state[name])
        elif name.startswith("tail."):
            assert not value.any()
        elif "depthwise" in name:
            torch.testing.assert_close(value, 0.3 * state[name] + 1 / 27)
        else:
            assert torch.equal(value, state[name]), name
    reopening = initial_network(TrainingConfig(**settings, reopen_gates=True))
    assert same(dict(reopening.state_dict()), state)
    for network, expected in ((plain, False), (reopening, True)):
        assert {m.reopens for m in network.modules() if isinstance(m, Router)} <= {expected}
    config = TrainingConfig(**settings, optimizer="muon", muon_rate=10.0, tail_rate=0.05)
    rates = {n: g["rate"] for g in make_optimizer(plain, config).param_groups for n in g["names"]}
    assert list(map(rates.get, ("tail.weight", "tail.bias", "head.weight"))) == [0.05, 0.05, 1.0]


def test_muon_takes_maps_and_kernels_between_head_and_tail_but_no_router():
    muon = {}
    for kind, network in ((kind, new(kind)) for kind in SMALL):
        config = TrainingConfig("", "", network=SMALL[kind], optimizer="muon")
        groups = make_optimizer(network, config).param_groups
        muon[kind] = {name for group in groups if group["matrices"] for name in group["names"]}
        assert sorted(name for group in groups for name in group["names"]) == sorted(
            dict(network.named_parameters())
        )
    bank = {"attention.qkv_M3CC", "attention.depthwise_MC333", "attention.project_MCC"}
    bank |= {"ffn.weight1_MFC", "ffn.weight2_MCF"}
    assert muon["drmc"] == {f"blocks.0.{name}" for name in bank}
    between = {f"{part}.{k}.weight" for part in ("down", "up") for k in (0, 1)}
    between = {name.replace(".weight", ".map.weight") for name in between} | {
        "merge.0.weight",
        "merge.1.weight",
    }
    assert muon["udrmc"] == between | {f"blocks.{b}.{name}" for b in range(5) for name in bank}
    for kind in PLAIN:  # with its transposed convolutions
        kernels = {name for name, p in new(kind).named_parameters() if p.ndim > 1}
        assert muon[kind] == kernels - {"head.weight", "tail.weight"}


def test_muon_reads_a_kernel_as_one_matrix_and_a_bank_as_a_stack():
    torch.manual_seed(0)
    kernel, stack = (torch.nn.Parameter(torch.zeros(6, 4, 3, 3, 3)) for _ in range(2))
    gradient = torch.randn(6, 4, 3, 3, 3)
    for parameter, how in ((kernel, "whole"), (stack, True)):
        parameter.grad = gradient.clone()
        MuonAdamW([{"params": [parameter], "matrices": how}], lr=1.0).step()
    step = 0.2 * 108**0.5 * orthogonalized(gradient.flatten(1))  # out x 27 in
    torch.testing.assert_close(kernel.data.flatten(1), -step)
    steps = 0.2 * 27**0.5 * orthogonalized(gradient.flatten(2))  # experts x channels x 27
    torch.testing.assert_close(stack.data.flatten(2), -steps)


@each_kind
@pytest.mark.parametrize("strategy", ["mixed", "specialist", "fedavg", "ftl", "flmrcm", "flmrcm_mix"])
def test_every_strategy_trains_every_kind(kind, strategy, dataset, tmp_path):
    config = tiny_config(
        dataset, tmp_path / "run", network=SMALL[kind], strategy=strategy, steps=2, round_steps=1
    )
    train(config)
    models = sorted(Path(config.output).glob("tiny*.pt"), key=lambda path: path.stem)
    names = {"specialist": ["tiny-A", "tiny-B"], "ftl": ["tiny", "tiny-A", "tiny-B"]}
    assert [path.stem for path in models] == names.get(strategy, ["tiny"])
    assert {load_network(find_model(path))[0].config for path in models} == {SMALL[kind]}


def test_statistics_beside_the_parameters_are_averaged_too(dataset, tmp_path):
    config = tiny_config(dataset, tmp_path / "run", strategy="fedavg", round_steps=100)
    trainer = Trainer(config, patients={"A": 3, "B": 1})
    for number, site in enumerate(trainer.sites):
        for network in (site.network, site.average):
            network.register_buffer("statistic", torch.tensor([8.0 * number]))
            network.register_buffer("count", torch.tensor(number))
    assert mean_model(trainer.sites).statistic.tolist() == [2.0]
    average_sites(trainer.sites)
    for site in trainer.sites:
        assert site.network.statistic.tolist() == site.average.statistic.tolist() == [2.0]
    assert [int(site.network.count) for site in trainer.sites] == [0, 1]  # whole numbers have no mean
    site = trainer.sites[0]
    site.network.statistic.fill_(4.0)
    for parameter in site.network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    trainer._optimize(site, 1e-3, [])
    assert 2.0 < float(site.average.statistic) <= 4.0  # the moving average moves too


def test_a_checkpoint_from_before_there_were_kinds_goes_on(dataset, tmp_path, monkeypatch):
    config = tiny_config(dataset, tmp_path / "run", steps=3)
    with monkeypatch.context() as patched:
        stop_after(patched, 1)
        train(config)
    path = Path(config.output) / "checkpoint.pt"
    state = torch.load(path, weights_only=True)
    told = json.loads(state["config"])
    assert told["network"].pop("kind") == "drmc"
    torch.save({**state, "config": json.dumps(told)}, path)
    train(config)
    assert checkpoint(config.output)["step"] == 3


def test_importing_the_house_costs_no_kind():
    code = "import drmc, drmc.models.registry, drmc.denoising.pipeline, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@each_kind
@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_weight_decay_shrinks_matrices_and_kernels_and_nothing_else(kind, optimizer, dataset, tmp_path):
    config = tiny_config(dataset, tmp_path, network=SMALL[kind], optimizer=optimizer, weight_decay=0.1)
    network = initial_network(replace(config, identity_start=False))
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    made = make_optimizer(network, config)
    for group in made.param_groups:
        group["lr"] = 1e-2
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    made.step()
    shrunk, kept = set(), set()
    for name, parameter in network.named_parameters():
        if torch.equal(parameter.detach(), before[name]):
            kept.add(name)
        else:
            torch.testing.assert_close(parameter.detach(), 0.999 * before[name])
            shrunk.add(name)
    words = ("bias", "temperature", "norm", "skip", "hidden")
    assert kept == {name for name in before if any(word in name for word in words)}
    assert shrunk
