"""`drmc evaluate` of a model of organs: its figures follow from the labels that `drmc segment` gives."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from drmc.cli import main as cli
from drmc.datasets.manifest import read_manifest
from drmc.evaluation.organs import paper
from drmc.evaluation.organs.cases import Condition, read_condition, read_reference
from drmc.evaluation.organs.groups import scan_mean
from drmc.evaluation.organs.run import OrganRequest, evaluate_organs
from drmc.evaluation.organs.scores import scan_scores
from drmc.evaluation.organs.template import make_template
from drmc.models.card import ORGANS
from drmc.models.registry import find_model
from drmc.models.weights import save_model
from drmc.networks.organ_unet import OrganUNet
from drmc.organs.segmenter import Segmenter
from drmc.organs.table import by_name
from support.engine.denoising_cases import tiny_network
from support.engine.small_organs import TINY_UNET, make_organ_dataset

LABEL_MAP = {"Facts": {"label_map": "woman.nii.gz", "uptake": "table"}, "TracerName": "FDG"}
TEST = {
    "A-train-3": {"Facts": {"uptake": "table"}, "TracerName": "FDG"},
    "A-train-4": {"Facts": {"uptake": "wide"}, "TracerName": "PSMA-11"},
    "A-validation-0": LABEL_MAP,
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    """Three patients for training; two procedural ones and a label map for the test."""
    folder = make_organ_dataset(tmp_path_factory.mktemp("organs"), patients=5)
    manifest = json.loads((folder / "dataset.json").read_text())
    for case in manifest["cases"]:
        if case["id"] in TEST:
            case["split"] = "test"
            path = folder / case["facts"]
            path.write_text(json.dumps({**json.loads(path.read_text()), **TEST[case["id"]]}))
    (folder / "dataset.json").write_text(json.dumps(manifest))
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    torch.manual_seed(4)
    network = OrganUNet(TINY_UNET)
    with torch.no_grad():
        network.tail.weight.mul_(4)
    path = tmp_path_factory.mktemp("model") / "organs.pt"
    save_model(path, network, 16, {"task": ORGANS, "title": "tiny", "training": {"patients": {"A": 3}}})
    return path


@pytest.fixture(scope="module")
def evaluated(dataset, model, tmp_path_factory) -> tuple[dict, Path]:
    output = tmp_path_factory.mktemp("out") / "evaluation"
    result = evaluate_organs(OrganRequest(dataset, output, find_model(model), device="cpu"))
    return result, output


def group(result: dict, **wanted) -> dict:
    wanted = {"method": "network", "by": "all", "value": "", **wanted}
    (found,) = [g for g in result["groups"] if all(g[key] == value for key, value in wanted.items())]
    return found


def test_figures_follow_from_the_labels_of_the_model(dataset, model, evaluated):
    result, _ = evaluated
    segmenter = Segmenter.from_model(model, device="cpu")
    cases = {case.case_id: case for case in read_manifest(dataset)}
    for condition, which in (
        ("corrected_full", Condition(True, 1.0)),
        ("uncorrected_low", Condition(False, 12.0)),
    ):
        means = []
        for name in ("A-train-3", "A-train-4"):
            image, geometry = read_condition(cases[name], which)
            labels = segmenter.segment(image, geometry).labels
            scores = scan_scores(labels, read_reference(cases[name])[0], geometry)
            means.append(scan_mean({"scores": scores}))
        found = group(result, anatomy="procedural", condition=condition)
        assert found["scans"] == found["dice"]["n"] == 2
        assert found["dice"]["mean"] == pytest.approx(np.mean(means))
        shapes = group(result, anatomy="label map", condition=condition)
        assert result["gap"][condition] == pytest.approx(found["dice"]["mean"] - shapes["dice"]["mean"])
    assert result["patients"] == {"procedural": {"A": 2}, "label map": {"A": 1}}
    tracers = {g["value"] for g in result["groups"] if g["by"] == "tracer"}
    assert tracers == {"FDG", "PSMA-11, far beyond the table"}
    doses = {(g["value"], g["condition"]) for g in result["groups"] if g["by"] == "dose"}
    assert ("A 1/12", "uncorrected_low") in doses and ("A 1/1", "corrected_full") in doses


def test_uptake_of_an_uncorrected_scan_is_measured_on_the_corrected_one(dataset, evaluated):
    """The images without correction are a tenth of the others: their own SUV would be, too."""
    _, output = evaluated
    with open(output / "organs.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["data"] for row in rows} == {"simulated"}
    case = next(case for case in read_manifest(dataset) if case.case_id == "A-train-3")
    image, geometry = read_condition(case, Condition(True, 12.0))
    reference = read_reference(case)[0] == by_name()["liver"].index
    (row,) = [
        row
        for row in rows
        if (row["case"], row["corrected"], row["dose_reduction_factor"], row["organ"], row["method"])
        == ("A-train-3", "no", "12", "liver", "network")
    ]
    assert float(row["reference_ml"]) == pytest.approx(reference.sum() * geometry.voxel_ml)
    if row["suv_error"]:
        assert abs(float(row["suv_error"])) < 1  # of a tenth of the uptake it would be -.9 and less
    assert image[reference].mean() > 2


def test_every_table_says_that_the_patients_are_simulated(evaluated):
    result, output = evaluated
    text, page = (output / "table.md").read_text(), (output / "evaluation.html").read_text()
    tables = text.count("| --- |") and text.count("\n### ") + 1
    assert tables > 8 and text.count(paper.SHORT) + text.count(paper.SENTENCE) == tables
    assert page.count("<table>") == page.count('class="note">') == tables
    assert "<script" not in page and "Simulated data" in page and paper.SENTENCE in result["sentence"]
    assert "On anatomies that the program did not draw" in result["sentence"]
    assert "corrected, full dose" in result["sentence"]
    assert ".834" in text and "not simulated" in text and "which is which is not stated" in text
    for line in text.splitlines():  # no figure of a single organ beside the paper's
        assert not ("paper" in line and any(name in line for name in ("liver", "kidney")))


def test_the_command_continues_and_keeps_the_result_with_the_model(
    dataset, model, tmp_path, capsys, monkeypatch
):
    out = tmp_path / "out"
    arguments = ["evaluate", str(dataset), "--model", str(model), "-o", str(out)]
    assert cli.main(arguments) == 0
    first = json.loads((out / "evaluation.json").read_text())
    assert "Mean Dice" in capsys.readouterr().out
    monkeypatch.setattr("drmc.evaluation.organs.task.scan_scores", None)  # nothing is computed again
    assert cli.main([*arguments, "--card"]) == 0
    again = json.loads((out / "evaluation.json").read_text())
    assert again["groups"] == first["groups"] and again["aims"] == first["aims"]
    capsys.readouterr()
    assert cli.main(["models", "--evaluation", str(model)]) == 0
    assert "Dice by organ, corrected, full dose" in capsys.readouterr().out
    summary = find_model(model).card["evaluation_summary"]
    assert summary["task"] == ORGANS and "label map, corrected_full" in summary["groups"]


def test_refusals_are_one_line(dataset, model, tmp_path, capsys):
    denoises = tmp_path / "denoises.pt"
    save_model(denoises, tiny_network(), 16)
    base = ["evaluate", str(dataset), "-o", str(tmp_path / "out"), "--model"]
    for arguments, message in (
        ([*base, str(model), "--model", str(denoises)], "evaluated alone"),
        ([*base, str(denoises), "--template", str(dataset)], "goes with a model of organs"),
        ([*base, str(model), "--split", "validation"], "no patient in the split 'validation'"),
        ([*base, str(model), "--template", str(tmp_path)], "no such dataset"),
    ):
        assert cli.main(arguments) == 2
        assert message in capsys.readouterr().err.strip().splitlines()[-1]
    assert not (tmp_path / "out" / "evaluation.json").exists()


# ---- the template


def test_a_template_of_equal_patients_is_that_patient_wherever_it_lies(dataset):
    (case,) = [case for case in read_manifest(dataset) if case.case_id == "A-train-0"]
    template = make_template([case, case])
    reference, geometry = read_reference(case)
    assert (template.laid_over(reference, geometry) == reference).all()
    moved = np.zeros_like(reference)
    moved[3:, :, :-2] = reference[:-3, :, 2:]
    assert (template.laid_over(moved, geometry) == moved)[4:].mean() > 0.999
    wide = np.repeat(np.repeat(np.repeat(reference, 2, 0), 2, 1), 2, 2)
    fine = replace(geometry, shape=wide.shape, spacing=(2.2, 2.2, 2.2))  # a tenth larger
    assert scan_mean({"scores": scan_scores(template.laid_over(wide, fine), wide, fine)}) > 0.9


def test_a_template_looks_at_labels_alone(dataset, evaluated):
    """Its score is the same in every condition, so that it is given once for each patient."""
    result, _ = evaluated
    found = group(result, method="template", anatomy="procedural", condition="no image")
    assert found["scans"] == 2 and 0.3 < found["dice"]["mean"] < 1
    assert result["template"]["patients"] == 3
    assert not [g for g in result["groups"] if g["method"] == "template" and g["by"] != "all"]
