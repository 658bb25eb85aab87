"""`drmc denoise --spots`: the table of `drmc spots`, its warning on every way, progress, cancel, resume."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from drmc.cli.main import main
from drmc.denoising import pipeline
from drmc.denoising.cohort_page import outliers
from drmc.denoising.request import DenoiseRequest
from drmc.errors import CanceledError
from drmc.imaging.files import write_image
from drmc.imaging.geometry import Geometry
from drmc.imaging.smoothing import FWHM_PER_SIGMA, smooth
from drmc.inference.denoiser import Denoiser
from drmc.measures.rows import SpotRow, SpotsTable
from drmc.report.spots import least_percent, sentence, spots_html
from support.engine.denoising_cases import rows_of

GRID = Geometry(
    (30, 40, 48), (2.5, 2.5, 3.0), (5.0, -60.0, 70.0), (0.0, 1.0, 0.0, -1.0, 0.0, 0.0, 0.0, 0.0, 1.0)
)
pytestmark = pytest.mark.usefixtures("models")


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """Noisy tissue, alone in a folder."""
    tissue = np.random.default_rng(0).gamma(25.0, 1 / 25.0, GRID.shape).astype(np.float32)
    (tmp_path / "cohort").mkdir()
    path = tmp_path / "cohort" / "pet.nrrd"
    write_image(path, tissue, GRID, metadata={"units": "SUV"})
    return path


@pytest.fixture
def blurring(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every network is a Gaussian filter of 12 mm, which loses most of small spots."""
    denoise = Denoiser.denoise

    def filtering(self, suv, geometry, **keywords):
        smoothed = smooth(suv, [12.0 / FWHM_PER_SIGMA / step for step in geometry.spacing_zyx]).numpy()
        return replace(denoise(self, suv, geometry, **keywords), residual=smoothed - suv)

    monkeypatch.setattr(Denoiser, "denoise", filtering)


def arguments(scan: Path, output: Path, *more: str, model: str = "tiny") -> list[str]:
    return ["denoise", str(scan), "-o", str(output), "--model", model, "--device", "cpu", *more]


def summary_of(output: Path) -> dict:
    return json.loads((output / "summary.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("strength", ["1", "0.5"])
def test_the_numbers_are_those_of_drmc_spots(scan, tmp_path, capsys, strength):
    assert main(arguments(scan, tmp_path / "out", "--spots", "--strength", strength)) == 0
    printed = capsys.readouterr().out
    found = summary_of(tmp_path / "out")["virtual_spots"]
    command = ["spots", str(scan), "--model", "tiny", "--device", "cpu", "--strength", strength]
    assert main([*command, "--json"]) == 0
    alone = json.loads(capsys.readouterr().out)
    assert set(found) == set(SpotsTable.__annotations__) and found["rows"]
    assert all(set(row) == set(SpotRow.__annotations__) for row in found["rows"])
    assert {key: alone[key] for key in found} == found and found["strength"] == float(strength)
    assert main(command) == 0
    table = [line for line in capsys.readouterr().out.splitlines() if " +" in line or "Gaussian" in line]
    assert len(table) == len(found["rows"]) + 2 and all(line in printed for line in table)


def test_at_half_the_strength_half_of_the_change_is_left(scan, tmp_path):
    """The 1 ml mean is linear in the image, and the image in the strength."""
    rows = []
    for strength in (1.0, 0.5, 0.0):
        request = DenoiseRequest(scan, tmp_path / f"{strength:g}", model="tiny", device="cpu")
        found = pipeline.run(replace(request, strength=strength, spots=True))
        rows.append(found["virtual_spots"]["rows"])
    for full, half, nothing in zip(*rows, strict=True):
        assert abs(full["mean_kept"] - 1) > 1e-3  # the network does something
        assert half["mean_kept"] == pytest.approx((1 + full["mean_kept"]) / 2, abs=1e-4)
        assert nothing["mean_kept"] == pytest.approx(1, abs=1e-5)
        assert nothing["peak_kept"] == pytest.approx(1, abs=1e-5) and not nothing["warning"]


def test_the_denoised_image_is_that_of_a_run_without_spots(scan, tmp_path):
    request = DenoiseRequest(scan, tmp_path / "with", model="tiny", device="cpu", spots=True)
    found = pipeline.run(request)
    without = pipeline.run(replace(request, output=tmp_path / "without", spots=False))
    images = [(tmp_path / name / "denoised.nii.gz").read_bytes() for name in ("with", "without")]
    assert images[0] == images[1]
    assert without["virtual_spots"] is None and "spots" not in without["settings"]
    assert found["settings"]["spots"] is True and found["seconds"]["spots"] > 0
    assert "<h2>Virtual spots</h2>" in (tmp_path / "with" / "report.html").read_text(encoding="utf-8")
    assert "Virtual spots" not in (tmp_path / "without" / "report.html").read_text(encoding="utf-8")


def test_a_loss_is_a_warning_in_summary_report_terminal_batch_and_cohort(scan, tmp_path, capsys, blurring):
    output = tmp_path / "out"
    assert main(arguments(scan.parent, output, "--batch", "--spots")) == 0
    summary = summary_of(output / "pet")
    found = summary["virtual_spots"]
    text = sentence(found)
    assert text.startswith(f"virtual spots: {len(found['rows'])} of {len(found['rows'])} kinds keep less")
    assert text in summary["notices"]
    page = (output / "pet" / "report.html").read_text(encoding="utf-8")
    assert text in page and page.count('<td class="beyond">') == len(found["rows"])
    (row,) = rows_of(output / "batch.csv")
    assert row["virtual_spots_warning"] == text
    assert row["virtual_spots_least_percent"] == least_percent(found)
    cohort = (output / "cohort.html").read_text(encoding="utf-8")
    assert text in cohort and "1 to be looked at" in cohort
    assert f"<dd>{least_percent(found)} %</dd>" in cohort
    assert outliers([{"scan": "pet", "outcome": "done"}], {"pet": {}}) == {"pet": []}  # an earlier version's
    capsys.readouterr()
    assert main(arguments(scan, tmp_path / "one", "--spots")) == 0
    printed = capsys.readouterr()
    assert f"note: {text}" in printed.err and "warning: below 80 %" in printed.out


def test_without_a_loss_there_is_no_warning(scan, tmp_path):
    assert main(arguments(scan.parent, tmp_path / "out", "--batch", "--spots", model="zero")) == 0
    summary = summary_of(tmp_path / "out" / "pet")
    assert summary["virtual_spots"]["rows"] and not [n for n in summary["notices"] if "virtual" in n]
    (row,) = rows_of(tmp_path / "out" / "batch.csv")
    assert row["virtual_spots_warning"] == "" and row["virtual_spots_least_percent"] in ("99", "100")


def test_the_sentence_names_the_least_and_never_rounds_up_to_the_limit():
    row = {"diameter_mm": 7.0, "peak_suv": 1.0, "mean_kept": 0.7996, "warning": True}
    rows = [{**row, "peak_suv": 2.0, "mean_kept": 0.7999}, row, {**row, "mean_kept": 0.9, "warning": False}]
    assert sentence({"rows": rows}) == (
        "virtual spots: 2 of 3 kinds keep less than 80 % of their contrast, the least 79.9 % (7 mm, +1 SUV): "
        "small faint lesions may be lost"
    )
    assert sentence({}) == "" == sentence({"rows": rows[2:]}) == spots_html({})
    assert least_percent({}) is None and least_percent({"rows": rows}) == "79.9"


@pytest.mark.parametrize(
    ("kept", "shown"),
    [(0.719, "72 %"), (0.7949, "79 %"), (0.7951, "79.5 %"), (0.79999, "79.9 %"), (0.8, "80 %")],
)
def test_warning_and_table_show_the_same_share(kept, shown):
    row = {"diameter_mm": 7.0, "peak_suv": 1.0, "mean_kept": kept, "warning": kept < 0.8}
    found = {"rows": [row]}
    assert f">{shown}</td>" in spots_html({"virtual_spots": found})
    assert f"the least {shown} (" in sentence(found) if kept < 0.8 else sentence(found) == ""
    assert least_percent(found) == shown.removesuffix(" %")


def test_a_scan_without_a_place_for_a_spot_is_denoised_with_a_notice(tmp_path, capsys):
    hot = np.random.default_rng(0).gamma(25.0, 9 / 25.0, GRID.shape).astype(np.float32)
    write_image(tmp_path / "hot.nrrd", hot, GRID, metadata={"units": "SUV"})
    assert main(arguments(tmp_path / "hot.nrrd", tmp_path / "out", "--spots")) == 0
    assert "note: virtual spots are not measured: no place for a spot" in capsys.readouterr().err
    summary = summary_of(tmp_path / "out")
    assert summary["virtual_spots"] is None and summary["settings"]["spots"] is True
    assert "<h2>Virtual spots</h2>" not in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert main(["spots", str(tmp_path / "hot.nrrd"), "--model", "tiny", "--device", "cpu"]) == 2
    assert capsys.readouterr().err.count("no place for a spot") == 1


def test_a_kept_residual_has_no_network_for_spots(scan, tmp_path, capsys):
    assert main(arguments(scan, tmp_path / "kept", "--keep-residual", "--spots")) == 0
    capsys.readouterr()
    command = ["denoise", str(scan), "-o", str(tmp_path / "out"), "--residual", str(tmp_path / "kept")]
    assert main([*command, "--spots"]) == 2
    said = capsys.readouterr().err
    assert (
        said.count("\n") == 1
        and "virtual spots: they need the network, and a kept residual runs none" in said
    )
    assert not (tmp_path / "out").exists()
    assert main(command) == 0 and summary_of(tmp_path / "out")["virtual_spots"] is None
    notices = json.loads((tmp_path / "kept" / "residual.json").read_text())["notices"]
    assert not [text for text in notices if "virtual" in text]


def test_a_resumed_batch_notices_the_option(scan, tmp_path):
    command = arguments(scan.parent, tmp_path / "out", "--batch", "--resume")
    outcomes = []
    for more in ([], [], ["--spots"], ["--spots"], []):
        assert main([*command, *more]) == 0
        (row,) = rows_of(tmp_path / "out" / "batch.csv")
        outcomes.append((row["outcome"], row["message"], bool(row["virtual_spots_least_percent"])))
    changed = "computed again: settings changed (spots)"
    assert outcomes == [
        ("done", "", False),
        ("skipped", "", False),
        ("done", changed, True),
        ("skipped", "", True),
        ("done", changed, False),
    ]


def test_both_runs_of_the_network_are_one_progress_that_can_be_canceled(scan, tmp_path):
    request = DenoiseRequest(scan, tmp_path / "out", model="tiny", device="cpu", tile_batch=1)
    plain: list[tuple[int, int]] = []
    pipeline.run(request, lambda done, total, left: plain.append((done, total)))
    seen: list[tuple[int, int]] = []
    request = replace(request, output=tmp_path / "spots", spots=True)
    pipeline.run(request, lambda done, total, left: seen.append((done, total)))
    tiles = plain[-1][1]
    assert {total for _, total in seen} == {2 * tiles} and seen[-1] == (2 * tiles, 2 * tiles)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert [done for done, _ in seen][: len(plain)] == [done for done, _ in plain]

    reached = []

    def in_the_second_run() -> bool:
        return bool(reached)

    with pytest.raises(CanceledError):
        pipeline.run(
            replace(request, output=tmp_path / "canceled"),
            lambda done, total, left: reached.append(done) if done > tiles else None,
            in_the_second_run,
        )
    assert len(reached) < tiles and not (tmp_path / "canceled").exists()
