"""Virtual spots: their shape is the ball's convolution, they lie in the body, their loss is measured."""

from __future__ import annotations

import json

import numpy as np
import pytest
import SimpleITK as sitk
from drmc.cli import main as cli
from drmc.errors import InputError
from drmc.imaging.body import body_mask
from drmc.imaging.smoothing import FWHM_PER_SIGMA, smooth
from drmc.measures.spots import (
    APART_MM,
    DEPTH_MM,
    DIAMETERS_MM,
    PEAKS_SUV,
    Spot,
    blurred_ball,
    measure_spots,
    plan_spots,
    spots_image,
)
from drmc.models.registry import find_model

SPACING = (3.0, 2.5, 2.5)


def body(noise: float = 0.1, shape=(64, 90, 110)) -> np.ndarray:
    """An elliptic cylinder of SUV 1 with a hot organ, in air, with the correlated noise of a scanner."""
    z, y, x = np.ogrid[tuple(slice(n) for n in shape)]
    inside = ((y - 45) / 36.0) ** 2 + ((x - 55) / 46.0) ** 2 + 0 * z < 1
    suv = np.where(inside, 1.0, 0.0)
    suv[20:34, 40:52, 20:34] = 9.0
    rough = np.random.default_rng(2).normal(0, 1, shape)
    rough = smooth(rough, [4 / FWHM_PER_SIGMA / step for step in SPACING]).numpy()
    return (suv + inside * noise * rough / rough.std()).astype(np.float32)


SUV = body()


@pytest.mark.parametrize("diameter, fwhm", [(7.0, 6.0), (14.0, 6.0), (10.0, 4.0)])
def test_a_blurred_ball_is_the_convolution_of_a_ball(diameter, fwhm):
    step, n = 0.5, 97
    axis = (np.arange(n) - n // 2) * step
    distance = np.sqrt(axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + axis[None, None] ** 2)
    ball = smooth((distance <= diameter / 2).astype(np.float32), [fwhm / FWHM_PER_SIGMA / step] * 3).numpy()
    expected = ball / ball.max()
    assert np.abs(blurred_ball(distance, diameter, fwhm) - expected).max() < 0.02
    assert blurred_ball(np.zeros(1), diameter, fwhm) == pytest.approx(1.0)


def test_spots_lie_apart_deep_in_the_body_and_not_in_hot_organs():
    spots = plan_spots(SUV, SPACING)
    assert len(spots) > 2 * len(DIAMETERS_MM) * len(PEAKS_SUV)
    centers = np.array([spot.center for spot in spots]) * SPACING
    away = np.linalg.norm(centers[:, None] - centers[None], axis=2)[~np.eye(len(spots), dtype=bool)]
    assert away.min() >= APART_MM
    mask = body_mask(SUV, SPACING)
    for spot in spots:
        z, y, x = spot.center
        reach = [int(0.7 * DEPTH_MM / step) for step in SPACING]
        assert (
            mask[z, y - reach[1] : y + reach[1] + 1, x].all()
            and mask[z, y, x - reach[2] : x + reach[2] + 1].all()
        )
        assert SUV[spot.center] < 4
    counts = [
        sum((s.diameter_mm, s.peak_suv) == (d, p) for s in spots) for d in DIAMETERS_MM for p in PEAKS_SUV
    ]
    assert max(counts) - min(counts) <= 1
    assert plan_spots(SUV, SPACING) == spots != plan_spots(SUV, SPACING, seed=1)


def test_the_image_of_the_spots_has_their_peaks_and_nothing_else():
    spots = [Spot((20, 45, 40), 10.0, 2.0), Spot((40, 45, 70), 14.0, 1.0)]
    image = spots_image(spots, SUV.shape, SPACING, 6.0)
    assert image[20, 45, 40] == pytest.approx(2.0) and image[40, 45, 70] == pytest.approx(1.0)
    assert image.max() == pytest.approx(2.0) and not image[:10].any() and not image[30, 45, 55]


def test_a_denoiser_that_keeps_all_keeps_all_and_a_filter_is_its_own_gaussian():
    kept = measure_spots(SUV, SPACING, lambda suv: suv)
    assert kept.gaussian_fwhm_mm == 0 and len(kept.rows()) == len(DIAMETERS_MM) * len(PEAKS_SUV)
    for row in kept.rows():
        assert row["mean_kept"] == pytest.approx(1, abs=1e-4) and row["peak_kept"] == pytest.approx(
            1, abs=1e-4
        )
        assert not row["warning"]
    fwhm = 8.0
    found = measure_spots(
        SUV, SPACING, lambda suv: smooth(suv, [fwhm / FWHM_PER_SIGMA / s for s in SPACING]).numpy()
    )
    assert found.gaussian_fwhm_mm == pytest.approx(fwhm, abs=0.2)
    for row in found.rows():
        assert row["mean_kept"] == pytest.approx(row["gaussian_mean_kept"], rel=0.02)
        assert row["peak_kept"] == pytest.approx(row["gaussian_peak_kept"], rel=0.02)
    small = [row for row in found.rows() if row["diameter_mm"] == 7]
    assert all(row["warning"] and row["peak_kept"] < row["mean_kept"] < 0.8 for row in small)


def test_half_of_the_contrast_is_half_of_it():
    base = SUV.copy()
    found = measure_spots(SUV, SPACING, lambda suv: base + 0.5 * (suv - base), denoised_zyx=base)
    for row in found.rows():
        values = [row[key] for key in ("mean_kept", "mean_kept_low", "peak_kept")]
        assert values == pytest.approx([0.5] * 3, abs=1e-3) and row["warning"]


def test_a_body_without_room_is_refused():
    with pytest.raises(InputError, match="no place for a spot"):
        measure_spots(np.zeros((20, 20, 20), np.float32), SPACING, lambda suv: suv)
    with pytest.raises(InputError, match="no place for a spot"):
        measure_spots(5 * SUV + 5 * (SUV > 0.3), SPACING, lambda suv: suv)


def test_the_command_prints_a_row_for_each_size_and_peak(tmp_path, capsys):
    image = sitk.GetImageFromArray(SUV[:40])
    image.SetSpacing(SPACING[::-1])
    path = tmp_path / "scan.nii.gz"
    sitk.WriteImage(image, str(path))
    arguments = ["spots", str(path), "--units", "suv", "--device", "cpu"]
    assert cli.main([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["model"] == find_model().name and found["rows"]
    for row in found["rows"]:
        assert 0 < row["mean_kept"] < 1.2 and row["warning"] == (row["mean_kept"] < 0.8)
    assert cli.main(arguments) == 0
    out = capsys.readouterr().out
    assert f"{found['spots']} virtual spots" in out and "Gaussian" in out
    assert cli.main([*arguments, "--resolution", "0"]) == 2
    assert "--resolution 0: give a width" in capsys.readouterr().err
