"""The comparison on unseen patients: what its table says follows from the images."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from drmc import cli
from drmc.evaluation.compare import Row, average, gaussian_filter, summarize
from drmc.metrics import attainable_gain_db, psnr
from drmc.models import add_to_card, find_model, save_model
from drmc.network import DRMC, INPUT_SCALE, NetworkConfig
from drmc.volume import Geometry, read_volume

SHAPE = (20, 24, 28)


def write_nifti(path: Path, array: np.ndarray, spacing=(2.0, 2.0, 2.0)) -> None:
    image = sitk.GetImageFromArray(array.astype(np.float32))
    image.SetSpacing(spacing)
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path))


@pytest.fixture
def dataset(tmp_path) -> Path:
    """Centers A (one dose) and B (two), smooth images with white noise, a test and a training patient each."""
    rng = np.random.default_rng(4)
    z, y, x = np.ogrid[tuple(slice(n) for n in SHAPE)]
    cases = []
    for center, doses in (("A", (4,)), ("B", (3, 12))):
        for split in ("train", "test"):
            name = f"{center}-{split}"
            full = 3 + np.sin(z / 4) + np.cos(y / 5) + np.sin(x / 6)
            write_nifti(tmp_path / "data" / name / "full.nii.gz", full)
            for dose in doses:
                noise = rng.normal(0, 0.2 * dose**0.5, SHAPE)
                write_nifti(tmp_path / "data" / name / f"low{dose}.nii.gz", full + noise)
            low = {str(dose): f"{name}/low{dose}.nii.gz" for dose in doses}
            cases.append(
                {"id": name, "center": center, "split": split, "full": f"{name}/full.nii.gz", "low": low}
            )
    (tmp_path / "data" / "dataset.json").write_text(json.dumps({"simulated": True, "cases": cases}))
    return tmp_path / "data"


def model(folder: Path, offset_suv: float) -> Path:
    """A model that adds a constant."""
    network = DRMC(NetworkConfig(channels=4, blocks=1, experts=2, heads=2, hidden=4))
    with torch.no_grad():
        network.tail.weight.zero_()
        network.tail.bias.fill_(offset_suv / INPUT_SCALE)
    folder.mkdir(parents=True, exist_ok=True)
    save_model(folder / "constant.pt", network, 16, {"name": "constant"})
    return folder / "constant.pt"


def configured(dataset: Path, tmp_path: Path, **changes) -> Path:
    values = {
        "dataset": str(dataset),
        "output": str(tmp_path / "out"),
        "model": str(model(tmp_path / "model", 0.5)),
        "tuning_dataset": str(dataset),
        "gaussian_fwhm_mm": [1.0, 6.0, 40.0],
        "device": "cpu",
        "precision": "fp32",
        **changes,
    }
    path = tmp_path / "evaluation.json"
    path.write_text(json.dumps(values))
    return path


def test_the_table_follows_from_the_images(dataset, tmp_path, capsys):
    assert cli.main(["evaluate", str(configured(dataset, tmp_path))]) == 0
    out = tmp_path / "out"
    result = json.loads((out / "evaluation.json").read_text())
    rows = list(csv.DictReader((out / "results.csv").open()))
    assert result["data"] == "simulated" and result["patients"] == {"A": 1, "B": 1}
    found = {(r["center"], r["dose_reduction_factor"], r["method"]): r for r in result["table"]}
    assert set(found) == {
        (c, d, m) for c, d in (("A", 4), ("B", 3), ("B", 12)) for m in ("low", "gaussian", "drmc")
    }
    for (center, dose, method), record in found.items():
        volumes = [dataset / f"{center}-test" / name for name in ("full.nii.gz", f"low{dose:g}.nii.gz")]
        full, low = (read_volume(path, units="suv") for path in volumes)
        estimate = {
            "low": lambda low=low: low.suv_array(),
            "drmc": lambda low=low: low.suv_array() + 0.5,
            "gaussian": lambda low=low: gaussian_filter(low.suv_array(), low.geometry, 6.0),
        }[method]()
        expected = psnr(estimate, full.suv_array(), data_range=20.0)  # all of these images is body
        before = psnr(low.suv_array(), full.suv_array(), data_range=20.0)
        assert record["psnr"] == pytest.approx(expected, abs=1e-3)
        assert record["psnr_gain"] == pytest.approx(expected - before, abs=1e-3)
        assert record["psnr_share"] == pytest.approx((expected - before) / attainable_gain_db(dose), abs=1e-3)
        assert record["fwhm_mm"] == (6.0 if method == "gaussian" else None)
        assert [
            r["value"]
            for r in rows
            if (r["center"], r["method"], r["metric"]) == (center, method, "psnr")
            and float(r["dose_reduction_factor"]) == dose
        ] == [f"{record['psnr']:.6f}"]
    table = (out / "table.md").read_text()
    assert table in capsys.readouterr().out
    assert "gaussian 6 mm" in table and f"| {found['A', 4, 'drmc']['psnr']:.2f} |" in table


def test_the_result_goes_into_the_models_card_when_asked(dataset, tmp_path, capsys):
    path = configured(dataset, tmp_path, centers=["A"])
    card = tmp_path / "model" / "constant.json"
    before = json.loads(card.read_text())
    assert cli.main(["evaluate", str(path)]) == 0
    assert json.loads(card.read_text()) == before
    assert cli.main(["evaluate", str(path), "--card"]) == 0
    after = json.loads(card.read_text())
    result = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert {k: v for k, v in after.items() if k != "evaluation"} == before
    assert after["evaluation"] == {k: v for k, v in result.items() if k != "model"}
    assert find_model(card).sha256 == before["sha256"] == result["model"]["sha256"]
    with pytest.raises(ValueError, match="'tile' follows from the weights"):
        add_to_card(find_model(card), {"tile": 8})


def test_the_gaussian_has_the_width_it_is_asked_for():
    impulse = np.zeros((41, 41, 41), np.float32)
    impulse[20, 20, 20] = 1
    geometry = Geometry((41, 41, 41), (2.0, 2.0, 4.0), (0.0, 0.0, 0.0), (1.0, 0, 0, 0, 1, 0, 0, 0, 1))
    smooth = gaussian_filter(impulse, geometry, 12.0).astype(float)
    assert smooth.sum() == pytest.approx(1, abs=1e-3)
    for axis, spacing in ((0, 4.0), (1, 2.0), (2, 2.0)):
        profile = smooth.sum(tuple(a for a in range(3) if a != axis))
        variance = np.sum(profile * (spacing * (np.arange(41) - 20)) ** 2)
        assert variance == pytest.approx((12.0 / np.sqrt(8 * np.log(2))) ** 2, rel=0.03)


def test_a_patient_at_several_doses_counts_once():
    rows = []
    for case, center, dose, gain in (
        ("a", "A", 10.0, 5.0),
        ("b", "A", 10.0, 7.0),
        ("c", "B", 10.0, 1.0),
        ("c", "B", 100.0, 2.0),
    ):
        for metric in ("psnr", "psnr_2mm"):
            rows += [
                Row(center, case, dose, "low", metric, 30.0),
                Row(center, case, dose, "drmc", metric, 30.0 + gain),
            ]
    records = summarize(rows)
    # shares: A 0.5 and 0.7, B 0.1 at both doses
    assert average(records, "drmc", "psnr_share") == pytest.approx((0.5 + 0.7 + 0.1) / 3)
    assert average(records, "drmc", "psnr_gain") == pytest.approx((5 + 7 + 1.5) / 3)
    assert average(records, "gaussian", "psnr_share") is None


def test_what_cannot_be_compared_is_refused_in_one_line(dataset, tmp_path, capsys):
    for changes, said in (
        ({"split": "validation"}, "no patient in the split 'validation'"),
        ({"centers": ["Z"]}, "of the centers asked for"),
        ({"models": "x"}, "unknown key 'models'"),
    ):
        assert cli.main(["evaluate", str(configured(dataset, tmp_path, **changes))]) == 2
        errors = capsys.readouterr().err
        assert errors.count("\n") == 1 and said in errors
        assert not (tmp_path / "out").exists()
    write_nifti(dataset / "A-test" / "low4.nii.gz", np.ones((20, 24, 27)))
    assert cli.main(["evaluate", str(configured(dataset, tmp_path, centers=["A"]))]) == 2
    assert "A-test: low and full dose lie on different grids" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
