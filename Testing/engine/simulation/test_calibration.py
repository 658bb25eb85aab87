"""The calibration: published tables, what passes and what misses, and the command from pieces to report."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from drmc.cli import main as cli
from drmc.errors import CanceledError, InputError
from drmc.simulation.calibration import study
from drmc.simulation.calibration.public_noise import (
    SCANNERS,
    NoiseStatistics,
    full_dose_metrics,
    noise_ratios,
)
from drmc.simulation.calibration.report import markdown, plan_facts
from drmc.simulation.calibration.rows import (
    LAW_SECTION,
    LIVER_SECTION,
    TEXTURE_SECTION,
    Row,
    comparison,
    law_ratios,
    law_rows,
    least_volume_ml,
    noise_cv,
    worst_bias,
)
from drmc.simulation.calibration.study import DISCOVERY_ST, Plan, calibrate, law_windows, liver_window, pieces
from drmc.simulation.centers import CENTERS, load_centers
from drmc.simulation.organs import ORGANS
from support.engine.center_tables import parameter_sources

pytestmark = pytest.mark.filterwarnings("ignore:.*[Ss]parse.*")

TINY = replace(
    CENTERS["C3"],
    voxel_mm=(6.0, 8.0, 8.0),
    matrix=56,
    reconstruction_matrix=56,
    system_psf_mm=(8.0, 8.0, 8.0),
    modelled_psf_mm=(0.0,) * 3,
    views=60,
    subsets=6,
    iterations=3,
    post_filter_mm=(6.0,) * 3,
    count_multiplier=0.02,
)
PLAN = Plan(
    (TINY,), patients=1, liver_mm=80.0, law_patients=1, slab_mm=60.0, every=8, law_factors=(4.0, 20.0)
)


# ---- published values


def test_the_table_gives_the_published_medians(data_folder):
    """Project reference, pet-quantification.md section 10.1: median, 5 to 95 % of 972 and 376 studies."""
    found = noise_ratios(data_folder / "udpet_noise_stats" / "data_stats.csv")
    published = {
        "C3": {
            4: (1.234, 1.17, 1.31),
            10: (1.554, 1.40, 1.71),
            20: (1.938, 1.69, 2.17),
            50: (2.869, 2.44, 3.24),
        },
        "C4": {
            4: (1.269, 1.21, 1.36),
            10: (1.609, 1.48, 1.80),
            20: (2.007, 1.81, 2.30),
            50: (2.784, 2.41, 3.34),
        },
    }
    published["C3"][100], published["C4"][100] = (4.136, 3.57, 4.64), (3.554, 3.03, 4.77)
    for center, table in published.items():
        for factor, (median, low, high) in table.items():
            one = found[SCANNERS[center]][factor]
            assert one.median == pytest.approx(median, abs=6e-4)
            assert (one.p05, one.p95) == pytest.approx((low, high), abs=6e-3)
    assert found[SCANNERS["C3"]][4.0].studies == 972 and found[SCANNERS["C4"]][4.0].studies == 376


def test_the_metric_of_the_full_dose_is_stated_beside_the_simulated_one(tmp_path):
    table = tmp_path / "udpet_noise_stats" / "data_stats.csv"
    table.parent.mkdir()
    rows = [
        "acq,tracer,scanner,recon,noise_metric",
        *(f"a{i},FDG,uEXPLORER,ref,{v}" for i, v in enumerate((3, 4, 8))),
    ]
    table.write_text("\n".join(rows))
    assert full_dose_metrics(table)["uEXPLORER"] == NoiseStatistics(
        3, 4.0, *np.percentile((3, 4, 8), (5, 95))
    )
    measures = {
        "C3-law-01-01": law_piece((10.0, 100.0), (12.0, 100.0)),
        "C3-law-01-02": law_piece((30.0, 100.0), (32.0, 100.0)),
    }
    found = comparison(Plan((CENTERS["C3"],), data=tmp_path), measures)[-1]
    assert (found.measure, found.value, found.reference) == ("noise metric at full dose", 0.2, 4.0)
    assert found.outcome == "stated only"


def test_only_fdg_studies_with_full_dose_count(tmp_path):
    table = tmp_path / "data_stats.csv"
    rows = [
        "acq,weight,tracer,scanner,recon,noise_metric",
        *(f"a{i},70,{tracer},S,{dose},{value}"
          for i, tracer in enumerate(("FDG", "Fluorodeoxyglucose", "DOTA"))
          for dose, value in (("ref", 0.1), ("4", 0.1 + 0.01 * (i + 1)))),
        "b,70,FDG,S,4,9.9",
        "c,70,FDG,S,ref,0",
        "c,70,FDG,S,4,1",
    ]  # fmt: skip
    table.write_text("\n".join(rows))
    found = noise_ratios(table)["S"][4.0]
    assert found.studies == 2 and found.median == pytest.approx(1.15)


@pytest.mark.parametrize(
    "text", ["", "a,b\n1,2\n", "acq,tracer,scanner,recon,noise_metric\nx,FDG,S,ref,loud\n"]
)
def test_what_is_no_table_is_refused_or_empty(tmp_path, text):
    (tmp_path / "t.csv").write_text(text)
    if not text:
        assert noise_ratios(tmp_path / "t.csv") == {}
    else:
        with pytest.raises(InputError, match="no table of noise metrics"):
            noise_ratios(tmp_path / "t.csv")
    with pytest.raises(InputError, match="cannot be read"):
        noise_ratios(tmp_path / "absent.csv")


def test_the_discovery_st_is_a_center_with_a_source_for_every_value():
    scanner = load_centers(DISCOVERY_ST)["DST"]
    sources = parameter_sources(DISCOVERY_ST)["DST"]
    assert sources.keys() == scanner.to_dict().keys() - {"name"} and all(sources.values())
    assert scanner.name not in CENTERS and not scanner.tof_fwhm_ps


# ---- verdicts


def row(value, lower, upper) -> Row:
    return Row("section", "subject", "measure", value, None, lower, upper, "source")


@pytest.mark.parametrize(
    ("value", "lower", "upper", "outcome"),
    [
        (0.10, 0.09, 0.12, "pass"),
        (0.12, 0.09, 0.12, "pass"),
        (0.1201, 0.09, 0.12, "miss"),
        (-1.0, 0.0, None, "miss"),
        (5.0, 0.0, None, "pass"),
        (5.0, None, 4.0, "miss"),
        (5.0, None, None, "stated only"),
        (None, 0.0, 1.0, "not measured"),
        (math.nan, 0.0, 1.0, "not measured"),
    ],
)
def test_outcomes(value, lower, upper, outcome):
    assert row(value, lower, upper).outcome == outcome


def law_piece(full, low, center="C3") -> dict:
    return {"kind": "law", "center": center, "full": full, "low": {"4": low}}


def test_slabs_of_a_patient_are_pooled_before_the_ratio():
    measures = {
        "C3-law-01-01": law_piece((10.0, 100.0), (20.0, 100.0)),
        "C3-law-01-02": law_piece((90.0, 900.0), (100.0, 900.0)),
        "C3-law-02-01": law_piece((1.0, 10.0), (3.0, 10.0)),
        "C3-law-03-01": law_piece((0.0, 0.0), (0.0, 0.0)),  # air: no ratio
        "C4-law-01-01": law_piece((1.0, 1.0), (9.0, 1.0), "C4"),
    }
    assert law_ratios("C3", measures) == {"4": pytest.approx([1.2, 3.0])}


@pytest.mark.parametrize(
    ("median", "outcome"), [(1.2, "pass"), (1.05, "pass"), (1.04, "miss"), (1.42, "miss")]
)
def test_the_law_is_accepted_within_fifteen_percent_of_the_median(median, outcome):
    measures = {"C3-law-01-01": law_piece((10.0, 100.0), (12.0, 100.0))}
    (found,) = law_rows("C3", measures, {4.0: NoiseStatistics(972, median, median - 0.1, median + 0.1)})
    assert found.value == pytest.approx(1.2) and found.outcome == outcome
    assert ("inside" in found.note) == (abs(1.2 - median) <= 0.1)
    (absent,) = law_rows("C3", measures, {})
    assert absent.outcome == "stated only"


def test_the_noise_is_what_the_anatomy_leaves():
    spheres = lambda cv: {"spheres": {"median": cv}}
    piece = {"truth": spheres(0.05), "full": spheres(0.13), "low": spheres(0.04)}
    assert noise_cv(piece, "full") == pytest.approx(0.12) and noise_cv(piece, "low") is None
    assert noise_cv(piece | {"truth": spheres(0.1)}, "full") is None  # anatomy makes 59 % of it


def test_the_worst_bias_is_pooled_by_volume_over_large_organs():
    # 10 % noise, correlated over 1.21 ml: 121 ml for a standard error of 1 %
    noisy = {"low": {"spheres": {"median": 0.1}}, "noise_width_mm": dict.fromkeys("xyz", 10.0)}
    pieces_ = [
        noisy
        | {
            "organs": {
                "liver": [900, 2.0, 2.0, 2.02],
                "gonad": [25, 2.0, 2.0, 3.0],
                "muscle": [65, 1.0, 1.0, 1.3],
            }
        },
        noisy | {"organs": {"liver": [100, 2.0, 2.0, 1.8], "muscle": [65, 1.0, 1.0, 0.8]}},
    ]
    assert least_volume_ml(pieces_) == pytest.approx(100 * (math.pi / math.log(16)) ** 1.5)
    organ, bias = worst_bias(pieces_)
    assert organ == "muscle" and bias == pytest.approx(0.05)
    assert worst_bias(pieces_[:1]) == ("liver", pytest.approx(0.01))
    assert worst_bias([noisy | {"organs": {}}]) == ("", None)
    assert worst_bias([pieces_[0] | {"noise_width_mm": None}]) == ("", None)


def test_the_mean_of_the_least_volume_is_as_certain_as_it_says():
    """Independent voxels of 1 ml with 10 % noise: the mean of V ml has a standard error of 10 % / sqrt(V)."""
    width = 10 * math.sqrt(4 * math.log(2) / math.pi)  # of a Gaussian that fills one voxel
    piece = {"low": {"spheres": {"median": 0.1}}, "noise_width_mm": dict.fromkeys("xyz", width)}
    voxels = round(least_volume_ml([piece]))
    means = np.random.default_rng(5).normal(1, 0.1, (2000, voxels)).mean(1)
    assert means.std() == pytest.approx(0.01, rel=0.1)


def test_a_section_holds_all_centers():
    piece = {
        **{key: {"spheres": {"median": 0.1}} for key in ("full", "low", "truth")},
        **dict.fromkeys(("skewness", "log_skewness", "half_power", "power_at_0.1", "noise_width_mm")),
        **{"kind": "liver", "organs": {}, "dose_reduction_factor": 4.0},
    }
    measures = {f"{center}-liver-01": piece | {"center": center} for center in ("C1", "C2")}
    rows = comparison(Plan((CENTERS["C1"], CENTERS["C2"])), measures)
    sections = [name for name, _ in itertools.groupby(rows, key=lambda row: row.section)]
    assert len(sections) == len(set(sections)) == 2


def test_misses_are_said_plainly_in_the_table():
    text = markdown([row(0.2, 0.09, 0.12), row(0.1, 0.09, 0.12)], plan_facts(PLAN, True), True)
    assert text.count("**miss**") == 1 and text.count("| pass |") == 1 and "no evidence" in text
    assert "0.09 to 0.12" in text


# ---- what is simulated


def test_the_slabs_cover_the_patients_evenly(monkeypatch):
    lower, upper = -231.0, 957.0
    someone = SimpleNamespace(axial_range=lambda: (lower, upper))
    monkeypatch.setattr(study, "procedural_patient", lambda seed, index: someone)
    plan = replace(PLAN, slab_mm=64.0, every=3)
    windows = [law_windows(plan, CENTERS["C1"], patient) for patient in (1, 2, 3, 4)]
    for patient, own in enumerate(windows[:3]):
        starts = [start for start, _ in own]
        assert np.diff(starts) == pytest.approx(192.0)
        assert starts[0] == pytest.approx(lower + 64.0 * patient)
        assert {end - start for start, end in own} == {64.0}
        assert upper - 192 < own[-1][1] <= upper
    assert windows[3] == windows[0]
    # three patients together see every slab once
    assert len({window for own in windows for window in own}) == int((upper - lower) / 64)


def test_the_window_holds_the_liver():
    patient = study.procedural_patient(1, 1)
    lower, upper = liver_window(patient, 400.0)
    shape, step = (int((upper - lower) / 8), 70, 70), 8.0
    whole = patient.axial_range()
    inside, everywhere = (
        int((p.organs == ORGANS["liver"].label).sum())
        for p in (
            patient.rasterize(shape, (step,) * 3, (lower, -276, -276)),
            patient.rasterize((int((whole[1] - whole[0]) / 8), 70, 70), (step,) * 3, (whole[0], -276, -276)),
        )
    )
    assert inside > 0.98 * everywhere > 0 and upper - lower == pytest.approx(400.0)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[Path, dict]:
    folder = tmp_path_factory.mktemp("calibration")
    return folder, calibrate(PLAN, folder)


def test_pieces_are_measured_and_compared(finished):
    _, measures = finished
    assert list(measures) == [piece.name for piece in pieces(PLAN)]
    liver = measures["C3-liver-01"]
    assert liver["full"]["spheres"]["median"] > liver["truth"]["spheres"]["median"]
    ratio = noise_cv(liver, "low") / noise_cv(liver, "full")
    assert ratio == pytest.approx(math.sqrt(10), rel=0.25)
    assert 0 < liver["noise_width_mm"]["x"] < 40 and liver["organs"]["liver"][0] > 300
    rows = comparison(PLAN, measures)
    by_measure = {found.measure: found for found in rows}
    law = [by_measure[f"noise metric at DRF {f} over full dose"].value for f in ("4", "20")]
    assert 1 < law[0] < law[1]
    assert {found.section for found in rows} == {
        LIVER_SECTION, TEXTURE_SECTION, LAW_SECTION
    }  # fmt: skip


def test_a_stopped_calibration_goes_on(finished, tmp_path):
    folder, measures = finished
    seen: list[str] = []

    def stop(done: int, total: int, piece: str, share: float) -> None:
        if share == 1.0:
            seen.append(piece)
        if len(seen) == 1 and share < 1.0:
            raise CanceledError

    names = [piece.name for piece in pieces(PLAN)]
    with pytest.raises(CanceledError):
        calibrate(PLAN, tmp_path, stop)
    assert seen == names[:1] and [p.name for p in (tmp_path / "pieces").iterdir()] == [f"{names[0]}.json"]
    written = (tmp_path / "pieces" / f"{names[0]}.json").stat().st_mtime_ns
    for name in names[1:]:  # the others are there from the whole run
        (tmp_path / "pieces" / f"{name}.json").write_bytes((folder / "pieces" / f"{name}.json").read_bytes())
    assert calibrate(PLAN, tmp_path) == measures
    assert (tmp_path / "pieces" / f"{names[0]}.json").stat().st_mtime_ns == written


def test_another_center_or_window_is_another_piece():
    keys = [{piece.key for piece in pieces(plan)} for plan in (
        PLAN,
        replace(PLAN, centers=(replace(TINY, iterations=2),)),
        replace(PLAN, seed=2),
        replace(PLAN, liver_mm=90.0),
    )]  # fmt: skip
    assert not keys[0] & keys[1] and not keys[0] & keys[2]
    assert len(keys[0] - keys[3]) >= 1
    assert {p.key for p in pieces(replace(PLAN, device="cuda"))} == keys[0]


def test_a_damaged_piece_is_made_again(finished, tmp_path):
    _, measures = finished
    plan = replace(PLAN, law_patients=0)
    (tmp_path / "pieces").mkdir()
    (tmp_path / "pieces" / "C3-liver-01.json").write_text('{"key": ')
    assert calibrate(plan, tmp_path)["C3-liver-01"] == measures["C3-liver-01"]


# ---- the command


def own_center(folder: Path) -> Path:
    values = {
        key: {"value": value, "source": "a test"} for key, value in TINY.to_dict().items() if key != "name"
    }
    path = folder / "own.json"
    path.write_text(json.dumps({"schema": 1, "centers": {"Own": values}}))
    return path


def test_the_command_writes_the_result_the_table_and_the_page(tmp_path, capsys):
    out = tmp_path / "out"
    assert cli.main(["calibrate", "-o", str(out), "--centers", str(own_center(tmp_path)), "--quick"]) == 0
    said = capsys.readouterr()
    assert "report:" in said.out and "Own-liver-01" in said.err and "(1/1)" in said.err
    result = json.loads((out / "calibration.json").read_text())
    assert result["plan"]["quick"] and result["centers"]["Own"]["matrix"] == 56
    assert {row["outcome"] for row in result["rows"]} <= {"pass", "miss", "stated only", "not measured"}
    page = (out / "report.html").read_text()
    assert "no evidence" in page and "no real scan was measured" in page and "data:image/png;base64," in page
    assert 'href="sheets/sheet.html"' in page and "Own.png" in (out / "sheets" / "sheet.html").read_text()
    assert (out / "sheets" / "Own.png").stat().st_size > 1000
    assert "<script" not in page and "Own" in (out / "calibration.md").read_text()
    assert cli.main(["calibrate", "-o", str(out), "--centers", str(own_center(tmp_path)), "--quick"]) == 0
    assert "it is there" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--centers", "C9"], "unknown center 'C9'"),
        (["--centers", "C5"], "only brain centers"),
        (["--data", "/nowhere/at/all"], "is no folder"),
        (["--patients", "0"], "--patients at least 1"),
        (["--device", "abacus"], "abacus"),
        (["--organs", "organs.seg.nrrd"], "--organs: are those of a real scan, which is missing"),
    ],
)
def test_bad_usage_is_refused_and_nothing_written(tmp_path, capsys, options, message):
    assert cli.main(["calibrate", "-o", str(tmp_path / "out"), *options]) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "out").exists()
