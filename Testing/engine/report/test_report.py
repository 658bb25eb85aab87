"""The report: whole in itself, complete, harmless with hostile strings, and its pictures the right way up."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from drmc.imaging.geometry import Geometry
from drmc.measures.lesions import lesion_table
from drmc.measures.routing import routing_table
from drmc.pages.colors import diverging_color, nice_top
from drmc.pages.png import png
from drmc.pages.views import anatomical_order, to_anatomical
from drmc.pages.windows import DEFAULT_WINDOW
from drmc.report.page import report_html, write_report
from drmc.segments.segment import Segment
from drmc.texts import RESEARCH_USE

IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
VOID = {"meta", "img", "br", "rect", "line"}
HOSTILE = "<script>alert('x')</script>\"&' onload=\"y"


class Page(HTMLParser):
    """Tags, attributes and text of a page; fails on tags that do not close."""

    def __init__(self, html: str):
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if self._open and self._open[-1] != "style":
            self.text += data + " "


def case(shape=(30, 14, 16), spacing=(4.0, 4.0, 3.0), seed=0, reference=True) -> dict:
    rng = np.random.default_rng(seed)
    geometry = Geometry(shape, spacing, (0.0, 0.0, 0.0), IDENTITY)
    original = rng.gamma(2.0, 0.5, shape).astype(np.float32)
    denoised = (0.8 * original + 0.2 * original.mean()).astype(np.float32)
    mask = np.zeros(shape, dtype=bool)
    middle = shape[0] // 2
    mask[middle : middle + 4, 5:9, 5:9] = True
    segments = [Segment("Mass left", mask)]
    stages = {"original": original, "denoised": denoised}
    if reference:
        stages["reference"] = (1.02 * original).astype(np.float32)
    return {
        "title": "Denoised: patient 1",
        "original_suv": original,
        "denoised_suv": denoised,
        "geometry": geometry,
        "suv": {
            "factor": 0.000242903,
            "type": "SUVbw",
            "rule": "ST",
            "candidates": [
                {
                    "rule": "BACK",
                    "time": "2001-02-03T10:11:12",
                    "difference_percent": -10.88,
                    "plausible": False,
                }
            ],
            "notices": ["weight was in grams"],
            "warnings": ["uptake of 25 min is short"],
            "facts": {
                "weight_kg": 71.0,
                "height_m": 1.73,
                "sex": "F",
                "dose_bq": 3.9e8,
                "uptake_minutes": 45.2,
                "units": "BQML",
            },
        },
        "lesions": lesion_table("p1", segments, stages, geometry),
        "routing": routing_table(np.maximum(0, rng.normal(0.2, 0.3, (5, 10, 3)))),
        "summary": {
            "scan": "p1",
            "model": {
                "name": "small",
                "sha256": "0123abcd" * 8,
                "parameters": 539487,
                "training": {
                    "simulated": True,
                    "centers": ["C1", "C2"],
                    "patients": 80,
                    "initial_weights": {"name": "elder", "training": {"patients": 4321}},
                },
            },
            "device": "cpu",
            "precision": "fp32",
            "seconds": {"read": 1.5, "denoise": 62.25},
            "versions": {"drmc": "0.1.0", "torch": "2.13.0"},
            "notices": ["slice steps differ"],
        },
        "header": {
            "manufacturer": "GE MEDICAL SYSTEMS",
            "model": "Discovery ST",
            "reconstruction": "OSEM",
            "slices": 267,
        },
        "segments": segments,
    }


def assert_self_contained(html: str) -> None:
    page = Page(html)
    for tag, attributes in page.tags:
        assert tag not in {"script", "link", "iframe", "object", "embed", "base"}
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in {"src", "href", "data", "action", "srcset", "poster"}:
                assert (value or "").startswith("data:image/png;base64,")
    assert "url(" not in html and "@import" not in html
    assert "http" not in html


def test_report_needs_nothing_outside_itself(tmp_path: Path):
    path = tmp_path / "report.html"
    write_report(path, **case())
    html = path.read_text(encoding="utf-8")
    assert_self_contained(html)
    assert html.startswith("<!DOCTYPE html>")
    assert list(tmp_path.iterdir()) == [path]


def test_report_has_every_number_and_fact():
    content = case()
    text = Page(report_html(**content)).text
    assert text.count(RESEARCH_USE) >= 2
    for row in content["lesions"]:
        for key in ("suv_max", "suv_peak", "suv_mean", "suv_median", "suv_min", "mtv41_ml", "tlg41"):
            shown = f"{row[key]:+.1f} %" if row["stage"] == "change_percent" else f"{row[key]:.2f}"
            if float(shown.rstrip(" %")) == 0:
                shown = shown.lstrip("+-")
            assert shown.replace("-", "−") in text, (row["stage"], key)
    for row in content["routing"]:
        assert f"{row['mean_gate']:.3f}" in text
    for fact in (
        "SUVbw",
        "0.000242903 per BQML",
        "45.2 min",
        "71.0 kg",
        "1.73 m",
        "390.0 MBq",
        "GE MEDICAL SYSTEMS Discovery ST",
        "OSEM",
        "−10.88 %",
        "weight was in grams",
        "uptake of 25 min is short",
        "slice steps differ",
        "0123abcd" * 8,
        "539,487",
        "Trained on simulated data",
        "It began from elder, trained on",
        "4321",
        "torch 2.13.0",
        "denoise 62.2 s",
        "267",
        "simulated",
    ):
        assert fact in text, fact


def test_bias_against_full_dose_is_shown_where_there_is_one():
    text = Page(report_html(**case())).text
    assert "B_max (SUVmax), denoised" in text
    assert "−2.0 %" in text  # the reference is 1.02 times the original
    assert "B_max" not in Page(report_html(**case(reference=False))).text


def test_changes_beyond_noise_are_marked_and_explained():
    content = case(reference=False)
    change = next(row for row in content["lesions"] if row["stage"] == "change_percent")
    change.update(suv_max=-15.6, suv_peak=-6.0)
    html = report_html(**content)
    assert re.findall(r'<td class="beyond">([^<]*)</td>', html) == ["−15.6 % ▲"]
    assert "15.5 % for SUVmax, 6.9 % for SUVpeak" in html
    # The published figures are of two images of one acquisition; scans of two days differ by more.
    assert "noise alone makes between two images of one scan" in html
    assert "Scans of different days differ by more, −25 % to +33 %" in html
    assert "standard deviation of two scans" not in html
    assert "expected to drop" in html
    change.update(suv_max=-15.4)
    html = report_html(**content)
    assert '<td class="beyond">' not in html and "No change here is" in html


def test_hostile_strings_stay_text():
    content = case()
    content["title"] = HOSTILE
    for row in content["lesions"]:
        row["segment"] = HOSTILE
    content["segments"] = [Segment(HOSTILE, content["segments"][0].mask)]
    content["suv"] = {
        **dict.fromkeys(("type", "rule", "source", "factor"), HOSTILE),
        "notices": [HOSTILE],
        "warnings": HOSTILE,
        "candidates": [dict.fromkeys(("rule", "time", "difference_percent", "plausible"), HOSTILE)],
        "facts": {HOSTILE: HOSTILE, "sex": HOSTILE, "weight_kg": HOSTILE},
    }
    content["summary"] = {
        **dict.fromkeys(("scan", "created", "device", "precision", "seconds", "peak_memory_bytes"), HOSTILE),
        "notices": [HOSTILE],
        "tiles": {"count": HOSTILE},
        "model": {
            **dict.fromkeys(("name", "title", "sha256", "parameters", "tile"), HOSTILE),
            "training": {HOSTILE: HOSTILE, "simulated": HOSTILE},
        },
        "versions": {HOSTILE: HOSTILE},
        "seconds": {HOSTILE: 1.0},
        "reference": {
            "psnr": {"original": HOSTILE},
            "mask": HOSTILE,
            "data_range": HOSTILE,
            "voxels": HOSTILE,
        },
    }
    content["header"] = {HOSTILE: HOSTILE, "manufacturer": HOSTILE, "reconstruction": [HOSTILE]}
    html = report_html(**content)
    assert "<script" not in html
    assert_self_contained(html)
    assert Page(html).text.count("alert('x')") > 15


@pytest.mark.parametrize("shape", [(1, 12, 10), (1, 1, 1), (2, 3, 4), (40, 1, 1), (5, 40, 3)])
def test_small_flat_and_empty_scans_have_a_report(shape):
    geometry = Geometry(shape, (4.0, 4.0, 3.0), (0.0, 0.0, 0.0), IDENTITY)
    zeros = np.zeros(shape, dtype=np.float32)
    rest = {"suv": {}, "lesions": None, "routing": None, "summary": {}, "header": {}}
    for image in (zeros, zeros + 3.0, zeros - 1.0):
        html = report_html(title="t", original_suv=image, denoised_suv=image, geometry=geometry, **rest)
        assert_self_contained(html)
        assert "The residual is 0 everywhere" in html
    assert "Training unknown" in html and "No lesions were given" in html


def test_a_scan_of_air_and_undefined_numbers():
    content = case(shape=(1, 14, 16), reference=False) | {"routing": routing_table(np.zeros((0, 10, 3)))}
    html = report_html(**content)
    assert "Axial slice" in html and "Coronal" not in html
    assert "No tile contained any body" in html
    assert "nan" not in Page(html).text.lower().replace("resonance", "")


def test_unequal_shapes_are_an_error():
    content = case()
    content["denoised_suv"] = content["denoised_suv"][1:]
    with pytest.raises(ValueError, match="differ in shape"):
        report_html(**content)


# ---- pictures


def panel_pixels(html: str, index: int, tmp_path: Path) -> np.ndarray:
    found = re.findall(r'src="data:image/png;base64,([^"]+)"', html)
    path = tmp_path / "panel.png"
    path.write_bytes(base64.b64decode(found[index]))
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


@pytest.mark.parametrize("orientation", ["LPS", "RAS", "LAI", "SPL", "ARI", "PIR"])
def test_head_is_up_and_the_patients_right_on_the_left_whatever_the_file_says(
    tmp_path: Path, orientation: str
):
    """A hot voxel at the head, on the patient's right, in front; and a warm one at the feet, left, behind."""
    array = np.zeros((20, 12, 16), dtype=np.float32)  # LPS: z up, y back, x left
    array[18, 2, 1], array[1, 9, 14] = 5.0, 3.0
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((3.0, 4.0, 5.0))
    image = sitk.DICOMOrient(image, orientation)
    turned = sitk.GetArrayFromImage(image)
    geometry = Geometry(turned.shape, image.GetSpacing(), image.GetOrigin(), image.GetDirection())
    html = report_html(
        title="t",
        original_suv=turned,
        denoised_suv=-turned,
        geometry=geometry,
        suv={},
        lesions=None,
        routing=None,
        summary={},
        header={},
    )
    gray = panel_pixels(html, 0, tmp_path)
    assert gray.shape == (20, 16)
    black = DEFAULT_WINDOW
    assert gray[1, 1] == pytest.approx(255 * (1 - 5 / black), abs=1)
    assert gray[18, 14] == pytest.approx(255 * (1 - 3 / black), abs=1)
    assert np.count_nonzero(gray != 255) == 2
    residual = panel_pixels(html, 2, tmp_path)[1, 1].astype(int)
    assert residual[2] > residual[0] + 50  # lowered: blue
    ratio = float(re.search(r"aspect-ratio:([\d.]+)", html)[1])
    assert ratio == pytest.approx(16 * 3.0 / (20 * 5.0))
    # Axial: front up, patient's right on the left.
    axial = to_anatomical(turned, geometry.direction).max(axis=0)
    assert axial[2, 1] == 5.0 and axial[9, 14] == 3.0


def test_oblique_directions_use_the_nearest_axes():
    angle = np.deg2rad(20.0)
    tilt = (1.0, 0.0, 0.0, 0.0, np.cos(angle), -np.sin(angle), 0.0, np.sin(angle), np.cos(angle))
    assert anatomical_order(tilt) == anatomical_order(IDENTITY) == ((0, 1, 2), (True, False, False))


def test_original_and_denoised_share_the_scale_and_the_residual_is_centered_on_zero(tmp_path: Path):
    html = report_html(**case())
    assert html.count("≥ 7<") == 2  # as in the panel
    assert report_html(**{**case(), "header": {"tracer": "68Ga-PSMA-11"}}).count("≥ 10<") == 2
    low, high = (re.findall(pattern, html) for pattern in (r"≤ −([\d.]+)", r"≥ \+([\d.]+)"))
    assert low == high and len(low) == 2
    colors = diverging_color(np.array([-9.0, -1.0, 0.0, 1.0, 9.0]), 1.0).astype(int)
    assert colors[2].tolist() == [250, 250, 250]
    assert colors[0].tolist() == colors[1].tolist() and colors[3].tolist() == colors[4].tolist()
    assert colors[0][2] > colors[0][0] and colors[4][0] > colors[4][2]


def test_a_brain_is_not_all_black():
    content = case() | {"lesions": None, "segments": None}
    content["original_suv"] = content["denoised_suv"] = np.full((30, 14, 16), 9.0, dtype=np.float32)
    assert "≥ 10<" in report_html(**content)


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3), (1, 1)])
def test_png_is_read_back_by_others(tmp_path: Path, shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    (tmp_path / "a.png").write_bytes(png(pixels))
    assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "a.png"))), pixels)


@pytest.mark.parametrize(
    ("value", "top"), [(0.11, 0.2), (1.0, 1.0), (1.01, 2.0), (4.2, 5.0), (5.1, 10.0), (0.0, 0.1)]
)
def test_scales_end_on_round_numbers(value, top):
    assert nice_top(value) == top
