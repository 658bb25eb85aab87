"""What is made of the measured values: pooled means, paired tests, aims; and real scans."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from drmc.cli import main as cli
from drmc.evaluation.aims import aims
from drmc.evaluation.paired_tests import comparisons, star
from drmc.evaluation.results import Results, Row, pooled, table
from drmc.evaluation.statistics import holm, signed_rank
from drmc.imaging.body import body_mask
from drmc.imaging.geometry import Geometry
from drmc.segments.segment import Segment
from drmc.segments.writing import write_segmentation
from drmc.simulation.liver import find_liver
from drmc.simulation.noise import eroded
from support.engine.evaluation_data import constant_model
from support.engine.torso import SPACING, torso

GAINS = {"drmc": 6.0, "baseline": 5.0, "gaussian": 3.0, "nlm": 4.5}


def results(
    centers: dict[str, float], patients: int = 5, gains=GAINS, bias: float = -0.04, spread: float = 0.1
) -> Results:
    """A table of made-up gains [dB]; `centers` -> what is added to the gain of drmc there."""
    found, rng = Results(), np.random.default_rng(1)
    for center, more in centers.items():
        for number in range(patients):
            place = (center, f"{center}-{number}", f"{center}-{number}", 10.0)
            for method, gain in {"low": 0.0, **gains}.items():
                value = gain + more * (method == "drmc") + spread * rng.normal() * (method != "low")
                for metric, number_of in (
                    ("psnr", 30 + value),
                    ("psnr_gain", value),
                    ("psnr_share", value / 10),
                ):
                    found.rows.append(Row(*place, method, metric, number_of))
                lesion = {
                    "lesion": "1",
                    "diameter_mm": 20.0,
                    "full": {"mean": bias, "max": 0.0, "peak": 2 * bias},
                }
                found.rows += [
                    Row(*place, method, metric, 0.12 if method == "low" else error)
                    for metric, error in {"B_mean": 0.1, "B_max": 0.2}.items()
                ]
                found.lesions[(*place, method)] = [
                    lesion,
                    {**lesion, "diameter_mm": 9.0, "full": {"mean": 2 * bias, "max": 0, "peak": -0.9}},
                    {**lesion, "diameter_mm": 7.0, "full": {"mean": -0.9, "max": 0, "peak": -0.9}},
                ]
    return found


def by_name(found: list[dict]) -> dict[str, dict]:
    names = ("known", "unknown", "filter", "filters", "baseline", "resunet", "SUVmean", "SUVpeak", "small")
    names += ("B_mean", "B_max")
    return dict(zip(names, found, strict=True))


def test_the_aims_are_judged_by_what_was_reached():
    centers = {"C1": 0.5, "C2": 0.0, "C5": -0.7}
    found = by_name(aims(results(centers, spread=0.0), {}, "drmc", ("C1", "C2")))
    assert found["known"]["reached"] == pytest.approx(0.625) and found["known"]["passed"] is True
    assert found["unknown"]["reached"] == pytest.approx(0.53) and found["unknown"]["passed"] is True
    assert found["filter"]["reached"] == pytest.approx((6.5 + 6) / 2 - 4.5) and found["filter"]["passed"]
    assert (
        found["baseline"]["reached"] == pytest.approx(0.3) and found["baseline"]["passed"]
    )  # the lowest: C5
    assert found["SUVmean"]["reached"] == pytest.approx(-0.04) and found["SUVmean"]["passed"]
    assert found["SUVpeak"]["reached"] == pytest.approx(-0.08) and found["SUVpeak"]["passed"]
    assert found["small"]["reached"] == pytest.approx(-0.08) and found["small"]["passed"]
    assert "; 15 lesions, fewer than 60" in found["small"]["detail"]
    assert found["filters"]["reached"] == pytest.approx(5.3 - 4.5) and found["filters"]["passed"]
    assert found["filters"]["detail"] == "C5 at DRF 10" and found["resunet"]["passed"] is None
    assert found["B_mean"]["reached"] == pytest.approx(-0.02) and found["B_mean"]["passed"] is True
    assert found["B_max"]["reached"] == pytest.approx(0.08) and found["B_max"]["passed"] is False


def test_a_lesion_at_several_doses_is_one_lesion():
    two = results({"C1": 0.5}, spread=0.0)
    again = results({"C1": 0.5}, spread=0.0)
    two.lesions |= {(*key[:3], 4.0, key[4]): lesions for key, lesions in again.lesions.items()}
    found = by_name(aims(two, {}, "drmc", ("C1",)))
    assert "; 5 lesions (10 with every dose), fewer than 60" in found["small"]["detail"]


def test_a_miss_is_said():
    centers = {"C1": -0.5, "C5": -1.2}
    found = by_name(aims(results(centers, spread=0.0, bias=-0.051), {}, "drmc", ("C1",)))
    missed = ("known", "unknown", "baseline", "SUVmean", "SUVpeak", "small")
    assert [found[k]["passed"] for k in missed] == [False] * len(missed)
    assert found["filters"]["reached"] == pytest.approx(0.3) and found["filters"]["passed"] is True
    assert found["filter"]["reached"] == pytest.approx(1.0) and found["filter"]["passed"]
    worse = by_name(aims(results({"C1": -0.6}, spread=0.0), {}, "drmc", ("C1",)))
    assert worse["filter"]["passed"] is False and worse["unknown"]["passed"] is None
    assert "nothing to measure" in worse["unknown"]["detail"]
    alone = by_name(aims(results({"C1": 0}, gains={"drmc": 6.0}), {}, "drmc", None))
    assert {k: alone[k]["passed"] for k in ("known", "filter", "baseline")} == dict.fromkeys(
        ("known", "filter", "baseline")
    )


def test_biases_of_known_and_unknown_centers_do_not_make_up_for_each_other():
    known, unknown = (results({center: 0.0}, bias=bias) for center, bias in (("C1", -0.06), ("C5", 0.07)))
    known.rows += unknown.rows
    known.lesions |= unknown.lesions
    found = by_name(aims(known, {}, "drmc", ("C1",)))
    assert found["SUVmean"]["reached"] == pytest.approx(0.07) and found["SUVmean"]["passed"] is False


def test_the_best_filter_is_chosen_for_each_center():
    mixed = results({"C1": 0.0, "C2": 0.0}, spread=0.0)
    mixed.rows = [
        Row(**{**row.__dict__, "value": row.value + 3})
        if (row.center, row.method) == ("C2", "gaussian")
        else row
        for row in mixed.rows
    ]
    found = by_name(aims(mixed, {}, "drmc", ("C1", "C2")))
    # nlm with 4.5 dB at C1, the Gaussian with 6 dB at C2
    assert (
        found["filter"]["reached"] == pytest.approx(np.mean([6 - 4.5, 6 - 6]))
        and not found["filter"]["passed"]
    )


def test_comparisons_are_paired_by_patient_and_corrected_by_family():
    measured = results(dict.fromkeys(("C1", "C2", "C3", "C4", "C5", "C6"), 0.0))
    known = ("C1", "C2", "C3", "C4")
    found = [r for r in comparisons(measured, "drmc", known) if r["metric"] == "psnr"]
    values = {
        method: measured.patient_means(method, "psnr", ["C1", "C2", "C3", "C4", "C5", "C6"])
        for method in ("low", *GAINS)
    }
    for record in found:
        centers = {"known": known, "unknown": ("C5", "C6")}.get(record["group"], (record["group"],))
        pairs = [
            values["drmc"][patient] - values[record["method"]][patient]
            for patient in values["drmc"]
            if patient[0] in centers
        ]
        assert record["n"] == len(pairs) == 5 * len(centers)
        assert record["p"] == signed_rank(pairs).p
        assert record["median_difference"] == pytest.approx(np.median(pairs))
    for family, groups in (("center", 6), ("group", 2)):
        mine = [r for r in found if r["family"] == family]
        assert len(mine) == groups * 4
        assert [r["p_holm"] for r in mine] == holm([r["p"] for r in mine])
    single = [r for r in found if r["family"] == "center"]
    assert all(r["smallest_p"] == 0.0625 and not r["significant"] for r in single)
    assert star(found, "known", "baseline") == "*" and star(found, "C1", "baseline") == ""


def test_a_patient_at_several_doses_counts_once():
    found = Results()
    gains = [("a", "A", 10.0, 5.0), ("b", "A", 10.0, 7.0), ("c", "B", 10.0, 1.0), ("c", "B", 100.0, 2.0)]
    for case, center, dose, gain in gains:
        for method, value in (("low", 0.0), ("drmc", gain)):
            place = (center, f"{case}-{dose:g}", case, dose, method)
            found.rows += [Row(*place, "psnr", 30 + value), Row(*place, "psnr_gain", value)]
    (low, drmc) = pooled(found, None)
    assert (low["method"], drmc["method"]) == ("low", "drmc")
    assert drmc["patients"] == 3 and drmc["psnr_gain"] == pytest.approx((5 + 7 + 1.5) / 3)
    assert [r["patients"] for r in table(found, None) if r["center"] == "B"] == [1] * 4
    assert {r["group"]: r["psnr_gain"] for r in pooled(found, ("A",)) if r["method"] == "drmc"} == {
        "known": 6.0,
        "unknown": 1.5,
    }


def test_a_real_scan_is_measured_before_and_after(tmp_path, capsys):
    suv, parts = torso()
    middle = slice(*(round((240 + z) / SPACING[0]) for z in (-110, 130)))  # liver and heart
    suv, parts = suv[middle], {name: mask[middle] for name, mask in parts.items()}
    suv = suv + np.random.default_rng(5).normal(0, 0.1, suv.shape).astype(np.float32) * parts["body"]
    for name, array in (("scan_SUV", suv), ("lesions", parts["heart"].astype(np.uint8))):
        image = sitk.GetImageFromArray(array)
        image.SetSpacing(SPACING[::-1])
        # turned: axes that run elsewhere than to the head, the back and the left
        sitk.WriteImage(sitk.DICOMOrient(image, "RAI"), str(tmp_path / f"{name}.nii.gz"))
    (tmp_path / "scan_SUV.json").write_text('{"Units": "SUV"}')
    constant_model(tmp_path / "drmc.pt", 0.5, tile=64)
    config = {
        "output": "out",
        "methods": [{"name": "drmc", "model": "drmc.pt"}],
        "keep_means": False,  # the model adds a constant
        "real_scans": [{"scan": "scan_SUV.nii.gz", "lesions": "lesions.nii.gz", "name": "torso"}],
        "device": "cpu",
        "precision": "fp32",
    }
    path = tmp_path / "real.json"
    path.write_text(json.dumps(config))
    assert cli.main(["evaluate", str(path)]) == 0
    result = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    (record,) = result["real_scans"]["torso"]
    (lesion,) = record["lesions"]
    tumor = suv[parts["heart"]]
    assert lesion["suv_mean"] == pytest.approx(100 * 0.5 / tumor.mean(), rel=1e-3)
    assert lesion["suv_max"] == pytest.approx(100 * 0.5 / tumor.max(), rel=1e-3)
    liver = find_liver(suv, SPACING)
    before = suv[liver].std(ddof=1) / suv[liver].mean()
    assert record["liver_cov_before"] == pytest.approx(before, rel=1e-3)
    # the model adds 0.5 to every voxel of the body, noise as it was
    after = suv[liver].std(ddof=1) / (suv[liver].mean() + 0.5)
    assert record["liver_cov_after"] == pytest.approx(after, rel=1e-3)
    body = body_mask(suv, SPACING)  # in blocks, which begin at the other end of a turned image
    assert record["body_mean_change_percent"] == pytest.approx(100 * 0.5 / suv[body].mean(), rel=0.02)
    assert [aim["passed"] for aim in result["aims"][-3:]] == [False, False, 1 - after / before >= 0.25]
    assert all(aim["passed"] is None for aim in result["aims"][:-3])
    stored = Path(tmp_path / "out" / "real_scans" / "torso.json").stat().st_mtime_ns
    assert cli.main(["evaluate", str(path)]) == 0  # nothing is computed again
    assert Path(tmp_path / "out" / "real_scans" / "torso.json").stat().st_mtime_ns == stored
    assert "torso: guessed" in capsys.readouterr().out

    half = parts["liver"] & (np.indices(suv.shape)[0] < 15)  # another liver than the one that is guessed
    write_segmentation(tmp_path / "organs.seg.nrrd", [Segment("liver", half)], Geometry(suv.shape, SPACING))
    config["real_scans"][0]["organs"] = "organs.seg.nrrd"
    path.write_text(json.dumps(config))
    assert cli.main(["evaluate", str(path)]) == 0
    assert "torso: from the segmentation organs.seg.nrrd" in capsys.readouterr().out
    (given,) = json.loads((tmp_path / "out" / "evaluation.json").read_text())["real_scans"]["torso"]
    inside = eroded(half, SPACING, 8.0)
    assert given["liver_cov_before"] == pytest.approx(suv[inside].std(ddof=1) / suv[inside].mean(), rel=0.1)
    assert given["liver_cov_before"] != record["liver_cov_before"]
    same = ("lesions", "body_mean_change_percent")
    assert [given[key] for key in same] == [record[key] for key in same]
