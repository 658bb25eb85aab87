"""The interference of centers: against closed forms, finite differences and the full matrix of gradients."""

from __future__ import annotations

import csv
import json
import re
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from drmc.cli.main import main
from drmc.models.weights import save_model
from drmc.networks.drmc import DRMC
from drmc.training.interference.gradients import ALL, Loss, NetworkGradients, parameter_groups
from drmc.training.interference.table import Interference, measure
from drmc.training.loop import train
from support.engine.small_training import TINY, sampler_of

NAMES = ("A", "B")


def measured(*of_centers: list[list[float]], scale=(1.0, 1.0)) -> Interference:
    """The table of made gradients, one group: `of_centers[i][b]` is a vector."""
    return measure(
        lambda i, b: [scale[i] * np.array(of_centers[i][b])],
        NAMES[: len(of_centers)],
        ["w"],
        len(of_centers[0]),
    )


def random_gradients(
    batches: int, centers: int = 2, size: int = 30, seed: int = 1
) -> list[list[list[float]]]:
    rng = np.random.default_rng(seed)
    common = rng.normal(size=(centers, 1, size))
    return (common + rng.normal(size=(centers, batches, size))).tolist()


@pytest.mark.parametrize(("other", "expected"), [([3.0, 0.0], 1), ([0.0, 3.0], 0), ([-3.0, 0.0], -1)])
def test_a_center_with_the_same_gradient_helps_an_orthogonal_one_does_nothing_an_opposite_one_harms(
    other, expected
):
    found = measured([[2.0, 0.0]] * 3, [other] * 3)
    for estimate in (found.ratio_of_means(0), found.mean_of_ratios(0)):
        assert estimate[0, 1] == pytest.approx(expected, abs=1e-12)
        assert np.diag(estimate) == pytest.approx(1, abs=1e-12)


def test_streaming_equals_the_full_matrix_of_all_pairs_of_batches():
    gradients = [random_gradients(5, seed=seed) for seed in (1, 2)]  # two groups
    found = measure(lambda i, b: [np.array(g[i][b]) for g in gradients], NAMES, ["first", "second"], 5)
    for number, of_group in enumerate(gradients):
        for i in range(2):
            for j in range(2):
                for b in range(5):
                    others = [a for a in range(5) if (j, a) != (i, b)]
                    units = [np.array(of_group[j][a]) / np.linalg.norm(of_group[j][a]) for a in others]
                    literal = np.mean([unit @ np.array(of_group[i][b]) for unit in units])
                    assert found.delta_Gibj[number, i, b, j] == pytest.approx(literal, rel=1e-10)
        delta = found.delta_Gibj[number]
        expected = [[delta[i, :, j].mean() / delta[i, :, i].mean() for j in range(2)] for i in range(2)]
        assert found.ratio_of_means(number) == pytest.approx(np.array(expected), rel=1e-12)
        expected = [[(delta[i, :, j] / delta[i, :, i]).mean() for j in range(2)] for i in range(2)]
        assert found.mean_of_ratios(number) == pytest.approx(np.array(expected), rel=1e-12)


def test_neither_the_scale_of_a_loss_nor_the_order_of_the_batches_matters():
    gradients = random_gradients(12)
    plain = measured(*gradients)
    for scale in ((7.0, 1.0), (1.0, 7.0)):
        scaled = measured(*gradients, scale=scale)
        assert scaled.ratio_of_means(0) == pytest.approx(plain.ratio_of_means(0), rel=1e-10)
        assert scaled.mean_of_ratios(0) == pytest.approx(plain.mean_of_ratios(0), rel=1e-10)
    turned = measured(gradients[0][::-1], [*gradients[1][5:], *gradients[1][:5]])
    assert turned.ratio_of_means(0) == pytest.approx(plain.ratio_of_means(0), rel=1e-10)


def test_a_batch_without_a_gradient_is_left_out_and_counted():
    gradients = random_gradients(4)
    with_air = [[*of_center, [0.0] * 30] for of_center in gradients]
    found, plain = measured(*with_air), measured(*gradients)
    assert (found.skipped(0), plain.skipped(0)) == (2, 0)
    assert found.ratio_of_means(0) == pytest.approx(plain.ratio_of_means(0), rel=1e-10)
    assert found.mean_cosine(0) == pytest.approx(plain.mean_cosine(0), rel=1e-10)


def test_a_row_whose_own_step_does_not_lower_its_loss_is_marked():
    rng = np.random.default_rng(3)
    noise = rng.normal(size=(40, 200)).tolist()  # nearly orthogonal batches
    found = measured(noise, random_gradients(40, size=200)[0])
    assert found.unclear(0).tolist() == [True, False]
    assert found.share_not_positive(0)[0] > 0.2 and found.share_not_positive(0)[1] == 0


@pytest.fixture(scope="module")
def network() -> DRMC:
    torch.manual_seed(4)
    return DRMC(replace(TINY, blocks=2)).double()


def test_delta_is_the_change_of_the_loss_by_a_small_step(network, pairs):
    groups = parameter_groups(network)
    gradients = NetworkGradients(network, sampler_of(pairs), groups, Loss(charbonnier=0.1))
    table = measure(gradients, NAMES, list(groups), 3)
    unit = {
        g: [v / np.linalg.norm(v) for v in (gradients(1, a)[g] for a in range(3))] for g in range(len(groups))
    }
    for number, name in enumerate(groups):
        moved = deepcopy(network)
        parameters = parameter_groups(moved)[name]
        direction = torch.from_numpy(np.mean(unit[number], axis=0))
        count = sum(p.numel() for p in parameters)
        size = 1e-4 * float(torch.sqrt(sum((p.detach() ** 2).sum() for p in parameters))) / count**0.5
        with torch.no_grad():
            for p, step in zip(parameters, direction.split([p.numel() for p in parameters]), strict=True):
                p.sub_(size * step.view_as(p))
        after = NetworkGradients(moved, gradients.sampler, {}, gradients.loss)
        with torch.no_grad():
            lowered = float(gradients.value(0, 0) - after.value(0, 0))
        assert lowered / size == pytest.approx(table.delta_Gibj[number, 0, 0, 1], rel=0.01), name


def test_groups_are_banks_with_all_their_experts_and_routers_apart(network):
    groups = parameter_groups(network, blocks=(2,))
    assert list(groups) == ["block 2 attention", "block 2 ffn", "block 2 routers", ALL]
    sizes = {name: sum(p.numel() for p in group) for name, group in groups.items()}
    C, M, F = TINY.channels, TINY.experts, TINY.ffn_ratio * TINY.channels
    assert sizes["block 2 ffn"] == M * (2 * C * F + F + C)
    assert sizes["block 2 attention"] == M * (4 * C * C + 27 * C + TINY.heads)
    assert sizes[ALL] == sum(p.numel() for p in network.parameters())


def test_the_same_data_under_two_names_give_1_within_the_interval(network, pairs):
    twice = {"A": pairs["A"], "B": pairs["A"]}
    groups = parameter_groups(network, blocks=(1,))
    gradients = NetworkGradients(network, sampler_of(twice, hot_fraction=1.0), groups, Loss(charbonnier=0.1))
    found = measure(gradients, NAMES, list(groups), 24)
    number = list(groups).index(ALL)
    low, high = found.interval(number)
    assert not found.unclear(number).any()
    for i, j in ((0, 1), (1, 0)):
        spread = max(high[i, j] - low[i, j], 0.05)  # the batches of j vary as well
        assert low[i, j] - spread < 1 < high[i, j] + spread


def test_command_writes_table_and_heat_maps(config, dataset, tmp_path, capsys):
    model = train(config)
    arguments = ["interference", str(model), str(dataset), "-o", str(tmp_path / "out"), "--batches", "3"]
    assert main([*arguments, "--blocks", "1"]) == 0
    found = json.loads((tmp_path / "out" / "interference.json").read_text())
    assert found["centers"] == ["A", "B"] and found["patch"] == config.patch and found["batches"] == 3
    lines = list(csv.DictReader((tmp_path / "out" / "interference.csv").open()))
    assert len(lines) == 4 * len(found["groups"])
    own = [float(line["ratio_of_means"]) for line in lines if line["center"] == line["optimized"]]
    assert own == pytest.approx([1] * len(own))
    page = (tmp_path / "out" / "interference.html").read_text()
    assert len(re.findall("<svg", page)) == len(found["groups"]) and "block 1 attention" in page
    before = (tmp_path / "out" / "interference.csv").read_text()
    assert main([*arguments, "--blocks", "1"]) == 0
    assert (tmp_path / "out" / "interference.csv").read_text() == before
    capsys.readouterr()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--blocks", "3"], "block 3: the network has 1 blocks"),
        (["--batches", "1"], "1 batches"),
        (["--centers", "A,X"], "center X has no patient in the split 'train'"),
        ([], "fewer than two centers"),
        (["--seed", "-1"], "--seed: '-1' is no whole number of at least 0"),
        (["--patch", "0"], "--patch: '0' is no whole number of at least 1"),
    ],
)
def test_what_cannot_be_measured_is_one_line(dataset, tmp_path, capsys, options, message):
    model = Path(tmp_path) / "model.pt"
    save_model(model, DRMC(TINY), 8, {})
    centers = [] if not options or "--centers" in options else ["--centers", "A,B"]
    code = main(["interference", str(model), str(dataset), "-o", str(tmp_path / "out"), *centers, *options])
    error = capsys.readouterr().err
    assert code == 2 and message in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()
