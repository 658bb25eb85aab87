"""Images without attenuation correction: their look, their names, and that nothing else changes."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from drmc.cli.main import main
from drmc.datasets.manifest import read_manifest
from drmc.errors import InputError
from drmc.imaging.body import body_mask_of_any_scale
from drmc.simulation.acquisition import Acquisition, Events
from drmc.simulation.cohort import ScanOptions, patient_seed, write_cohort
from drmc.simulation.organs import organ_mask
from drmc.simulation.projector import GaussianPSF
from drmc.simulation.reconstruction import reconstruct
from drmc.simulation.scan import simulate_patient
from support.engine.small_scanners import COARSE, SLICES, TIMED, TINY, radius_mm, scanner_error

# torch says that its CSR support is in beta state
pytestmark = pytest.mark.filterwarnings("ignore:.*[Ss]parse.*")


def water(radius: float, center=TINY) -> tuple[torch.Tensor, torch.Tensor]:
    """A cylinder of water of SUV 1; activity and mu (z, y, x)."""
    body = (radius_mm(center) < radius).float()[None].repeat(SLICES, 1, 1)
    return body, body * 0.0096


WIDE = replace(TINY, matrix=48, reconstruction_matrix=48)


def images(center, uncorrected: bool, tof: bool) -> np.ndarray:
    """The cylinder of 300 mm in the middle slices, averaged (y, x)."""
    activity, mu = water(150.0, center)
    acquisition = Acquisition(
        activity, mu, center, weight_kg=70.0, z_start_mm=0.0, rng=scanner_error(), tof=tof
    )
    events = Events(acquisition, (), np.random.SeedSequence(5))
    source = events.without_attenuation_correction if uncorrected else events
    smooth = GaussianPSF(center.post_filter_mm, center.voxel_mm)
    return reconstruct(source, SLICES, 6, smooth, slab=SLICES)[0, 4:-4].mean(0).numpy()


def test_a_uniform_cylinder_is_cupped_less_so_by_time_of_flight():
    """300 mm of water dim its center to less than half of its rim; corrected it is flat."""
    away = radius_mm(WIDE).numpy()
    middle, rim = away < 30, (away > 115) & (away < 140)
    ratio = lambda image: image[middle].mean() / image[rim].mean()
    timed = replace(TIMED, matrix=48, reconstruction_matrix=48)
    raw, corrected = images(WIDE, True, False), images(WIDE, False, False)
    assert ratio(corrected) == pytest.approx(1.0, abs=0.12)
    assert ratio(raw) < 0.5 and ratio(raw) < ratio(images(timed, True, True)) < 0.9
    assert raw[rim].mean() < corrected[rim].mean()


@pytest.fixture(scope="module")
def scans():
    """One window from lung to liver, without and with the uncorrected images."""
    seed = patient_seed(11, "C1", "train", 2)
    options = {"axial_mm": None, "dose_reduction_factors": (4.0,)}
    return [simulate_patient(COARSE, seed, uncorrected=one, **options) for one in (False, True)]


def test_the_corrected_images_are_the_same_bit_for_bit(scans):
    plain, both = scans
    assert np.array_equal(plain.full, both.full) and np.array_equal(plain.low[4.0], both.low[4.0])
    assert plain.uncorrected == {} and sorted(both.uncorrected) == [1.0, 4.0]
    assert plain.facts == both.facts


def test_lungs_are_as_bright_as_the_liver(scans):
    """The picture that readers know: bright lungs and skin, a dark center."""
    scan = scans[1]
    lung, liver = (organ_mask(scan.phantom.organs, name).numpy() for name in ("lung", "liver"))
    ratio = lambda image: image[lung].mean() / image[liver].mean()
    assert ratio(scan.full) < 0.5 and ratio(scan.uncorrected[1.0]) > 0.8
    skin, spine = (organ_mask(scan.phantom.organs, name).numpy() for name in ("skin", "vertebra"))
    raw = scan.uncorrected[1.0]
    assert raw[skin].mean() / raw[spine].mean() > scan.full[skin].mean() / scan.full[spine].mean()


def test_low_dose_is_of_the_same_events_and_noisier(scans):
    full, low = (scans[1].uncorrected[factor] for factor in (1.0, 4.0))
    body = scans[1].phantom.mu.numpy() > 0.005
    assert low[body].mean() / full[body].mean() == pytest.approx(1.0, abs=0.03)
    assert np.corrcoef(full[body], low[body])[0, 1] > 0.7
    assert np.abs(low - full)[body].mean() > 0.02 * full[body].mean()


@pytest.mark.parametrize("scale", [1e-4, 1.0, 3e5])
def test_the_body_is_found_whatever_the_scale(scans, scale):
    scan = scans[1]
    spacing = scan.spacing_xyz[::-1]
    truth = scan.phantom.organs.numpy() > 0
    for image, least in ((scan.full, 0.9), (scan.uncorrected[1.0], 0.7), (scan.uncorrected[4.0], 0.7)):
        found = body_mask_of_any_scale((image * scale).astype(np.float32), spacing)
        assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > least
    assert not body_mask_of_any_scale(np.zeros((4, 5, 6), np.float32), (1.0, 1.0, 1.0)).any()


def test_a_dataset_names_them_and_is_valid(tmp_path, capsys):
    options = ScanOptions(dose_reduction_factors=(4.0,), axial_mm=250.0, uncorrected=True)
    write_cohort(tmp_path / "d", [COARSE], 1, seed=4, options=options)
    (case,) = read_manifest(tmp_path / "d")
    assert {f: path.name for f, path in case.uncorrected.items()} == {
        1.0: "full_nac.nii.gz",
        4.0: "low_drf004_nac.nii.gz",
    }
    said = json.loads(case.facts.read_text(encoding="utf-8"))
    assert (
        said["Uncorrected"]["AttenuationCorrection"] == "none" and said["Uncorrected"]["Units"] == "arbitrary"
    )
    assert said["Uncorrected"]["Files"] == ["full_nac.nii.gz", "low_drf004_nac.nii.gz"]
    assert said["Options"]["uncorrected"] is True and list(case.low) == [4.0]
    full, raw = (sitk.ReadImage(str(path)) for path in (case.full, case.uncorrected[1.0]))
    assert raw.GetSize() == full.GetSize() and raw.GetOrigin() == full.GetOrigin()
    assert main(["validate", str(tmp_path / "d"), "--json"]) == 0
    capsys.readouterr()
    again = ScanOptions(dose_reduction_factors=(4.0,), axial_mm=250.0)
    with pytest.raises(InputError, match="made with uncorrected True, not False"):
        write_cohort(tmp_path / "d", [COARSE], 1, seed=4, options=again)
    # an image of somebody else, and one that is gone
    other = sitk.GetImageFromArray(np.roll(sitk.GetArrayFromImage(raw), 20, axis=2))
    other.CopyInformation(raw)
    sitk.WriteImage(other, str(case.uncorrected[1.0]))
    case.uncorrected[4.0].unlink()
    assert main(["validate", str(tmp_path / "d"), "--json"]) != 0
    codes = {finding["code"] for finding in json.loads(capsys.readouterr().out)["findings"]}
    assert {"body.differs", "file.missing"} <= codes


def test_the_command_makes_them(tmp_path, monkeypatch):
    from drmc.simulation import command

    seen = {}
    monkeypatch.setattr(
        "drmc.simulation.cohort.write_cohort", lambda *_, **options: seen.update(options) or tmp_path
    )
    assert main(["simulate", "--centers", "C1", "--uncorrected", "-o", str(tmp_path / "d")]) == 0
    assert seen["options"].uncorrected is True and command is not None
