"""A real scan as a patient: uptake, attenuation map and place in the scanner, on volumes of known truth."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from drmc.errors import InputError
from drmc.pet.reading import read_volume
from drmc.segments.segment import Segment
from drmc.segments.writing import write_segmentation
from drmc.simulation.anatomy import Phantom
from drmc.simulation.centers import axial_profile
from drmc.simulation.liver import find_liver
from drmc.simulation.noise import lag_autocorrelation, sphere_statistics
from drmc.simulation.organs import MU_PER_MM, ORGANS, organ_mask
from drmc.simulation.scan import END_SLICES, simulate_patient
from drmc.simulation.semireal import RealScan, semi_real_patient
from drmc.simulation.window import Window
from support.engine.labeled_torso import GEOMETRY, labeled_torso
from support.engine.torso import ORIGIN, SCANNER, SHAPE, SPACING, torso

pytestmark = pytest.mark.filterwarnings("ignore:.*[Ss]parse.*")

LIVER, LUNG = ORGANS["liver"].label, ORGANS["lung"].label


def write(path: Path, suv: np.ndarray, direction=None) -> Path:
    image = sitk.GetImageFromArray(suv)
    image.SetSpacing(SPACING[::-1])
    image.SetOrigin(ORIGIN)
    if direction is not None:
        image = sitk.DICOMOrient(image, direction)
    sitk.WriteImage(image, str(path))
    return path


@pytest.fixture(scope="module")
def scan(tmp_path_factory) -> Path:
    return write(tmp_path_factory.mktemp("scan") / "torso_SUV.nii.gz", torso()[0])


def patient_of(path: Path, **options) -> RealScan:
    return RealScan(read_volume(path, units="suv"), **options)


@pytest.fixture(scope="module")
def patient(scan) -> RealScan:
    return patient_of(scan)


def grid(patient: RealScan, spacing=(8.0, 8.0, 8.0), size=60):
    lower, upper = patient.axial_range()
    shape = (int((upper - lower) / spacing[0]), size, size)
    origin = (lower + spacing[0] / 2, -(size - 1) / 2 * spacing[1], -(size - 1) / 2 * spacing[2])
    return shape, spacing, origin


# ---- the liver


def test_the_liver_is_found_inside_the_liver():
    suv, parts = torso()
    noisy = suv * (1 + 0.2 * np.random.default_rng(2).normal(size=suv.shape).astype(np.float32))
    for image in (suv, noisy):
        mask = find_liver(image, SPACING)
        assert mask.any() and not (mask & ~parts["liver"]).any()
        # the liver less 8 mm all around
        inner = (4 / 3 * np.pi * 62**3) / 1000
        assert mask.sum() * 0.216 == pytest.approx(inner, rel=0.35)


def test_a_scan_without_a_liver_is_refused():
    suv, parts = torso()
    suv[parts["liver"]] = 0.75
    with pytest.raises(InputError, match="no liver found"):
        find_liver(suv, SPACING)


# ---- the patient


@pytest.mark.parametrize("spacing", [(8.0, 8.0, 8.0), (3.0, 4.0, 4.0)])
def test_activity_is_conserved_on_every_grid(patient, spacing):
    shape, spacing, origin = grid(patient, spacing, round(480 / spacing[1]))
    phantom = patient.rasterize(shape, spacing, origin)
    wanted = torso()[0].sum(dtype=np.float64) * np.prod(SPACING)
    assert float(phantom.activity.double().sum()) * np.prod(spacing) == pytest.approx(wanted, rel=0.01)
    assert float(phantom.activity.min()) >= 0


def test_the_body_lies_in_the_middle_of_the_field_of_view(patient):
    phantom = patient.rasterize(*grid(patient))
    body = phantom.mu.numpy() > 0
    for axis in ((0, 2), (0, 1)):
        inside = np.nonzero(body.any(axis=axis))[0]
        assert inside.mean() == pytest.approx(29.5, abs=1.0)
    assert patient.axial_range() == pytest.approx((ORIGIN[2] - 3, ORIGIN[2] - 3 + 80 * 6))


@pytest.mark.parametrize("orientation", ["RAS", "PSL", "LAI"])
def test_the_order_of_the_axes_does_not_matter(tmp_path, patient, orientation):
    turned = patient_of(write(tmp_path / "turned.nii.gz", torso()[0], orientation))
    assert turned.axial_range() == pytest.approx(patient.axial_range(), abs=1e-3)
    mine, other = (vars(p.rasterize(*grid(patient))) for p in (turned, patient))
    for name in ("activity", "mu", "organs", "lesions"):
        assert float((mine[name].float() - other[name].float()).abs().max()) < 1e-4, name


def test_an_oblique_scan_is_set_upright(tmp_path, patient):
    suv, _ = torso()
    image = sitk.GetImageFromArray(suv)
    image.SetSpacing(SPACING[::-1])
    image.SetOrigin(ORIGIN)
    turn = sitk.Euler3DTransform([-30.0, 40.0, -460.0], 0.0, 0.0, 0.2)
    size, center = np.array(image.GetSize()), np.array(image.GetOrigin()) - [60, 60, 0]
    oblique = sitk.Resample(
        image,
        [int(n) + 20 for n in size[:2]] + [int(size[2])],
        sitk.Transform(),
        sitk.sitkLinear,
        turn.TransformPoint([float(v) for v in center]),
        image.GetSpacing(),
        np.array(turn.GetMatrix()).tolist(),
    )
    sitk.WriteImage(oblique, str(tmp_path / "oblique.nii.gz"))
    upright = patient_of(tmp_path / "oblique.nii.gz")
    mine, other = (p.rasterize(*grid(patient)).activity.numpy() for p in (upright, patient))
    assert np.abs(mine - other).mean() < 0.05 * other.mean()


def test_the_attenuation_map_has_body_lungs_and_air(patient):
    _, parts = torso()
    shape, origin = SHAPE, patient.origin
    phantom = patient.rasterize(shape, SPACING, origin)
    mu = phantom.mu.numpy()
    assert set(np.unique(mu)) == {np.float32(MU_PER_MM[t]) for t in ("air", "lung", "soft")}
    lung = mu == np.float32(MU_PER_MM["lung"])
    assert (lung & parts["lung"]).sum() > 0.6 * parts["lung"].sum()
    assert not (lung & (parts["liver"] | parts["heart"] | parts["bladder"])).any()
    assert (mu[parts["body"]] > 0).all() and (phantom.organs.numpy()[lung] == LUNG).all()
    # the contour may take in a rim of air
    assert (mu > 0).sum() < 1.35 * parts["body"].sum()
    assert set(np.unique(phantom.organs)) == {0, LUNG, LIVER}
    assert "semi_real" in phantom.facts and "soft tissue" in phantom.facts["mu_rule"]


def test_smoothing_takes_the_noise_and_leaves_the_mean(scan, tmp_path):
    suv, _ = torso()
    noisy = suv * (1 + 0.3 * np.random.default_rng(3).normal(size=suv.shape).astype(np.float32))
    one, other = (
        patient_of(write(tmp_path / "noisy.nii.gz", noisy), smoothing_mm=width) for width in (1.0, 12.0)
    )
    deep = find_liver(suv, SPACING)
    activity = [p.rasterize(SHAPE, SPACING, p.origin).activity.numpy()[deep] for p in (one, other)]
    assert activity[1].mean() == pytest.approx(activity[0].mean(), rel=0.02)
    assert activity[1].std() < 0.5 * activity[0].std()


def test_liver_and_lungs_are_those_of_a_segmentation_that_is_given(tmp_path, patient):
    """The liver is not even, so that nothing could be guessed; turned axes are no other place."""
    suv, organs, _lesions = labeled_torso()
    lung = torso()[1]["lung"]
    left = np.indices(SHAPE)[2] * SPACING[2] > 180
    masks = {"Liver": organs["liver"], "left_lung": lung & left, "right lung": lung & ~left}
    segmentation = tmp_path / "organs.seg.nrrd"
    write_segmentation(segmentation, [Segment(*one) for one in masks.items()], GEOMETRY)
    suv[organs["liver"]] = np.linspace(0.1, 9, organs["liver"].sum())
    image = write(tmp_path / "pet_SUV.nii.gz", suv, "RAI")
    with_organs = semi_real_patient(image, units="suv", organs=segmentation)
    assert with_organs.facts["liver"] == "from the segmentation organs.seg.nrrd"
    assert with_organs.facts["mu_rule"].endswith("lung of the segmentation")
    inner = (4 / 3 * np.pi * 62**3) / 1000  # the ball of 70 mm less 8 mm all around
    assert with_organs.liver.sum() * 0.216 == pytest.approx(inner, rel=0.2)
    phantom = with_organs.rasterize(SHAPE, SPACING, with_organs.origin)
    assert ((phantom.organs.numpy() == LUNG) == lung).mean() > 0.999
    assert not (organ_mask(phantom.organs, "liver").numpy() & ~organs["liver"]).any()
    assert patient.facts["liver"].startswith("guessed") and "liver's dome" in patient.facts["mu_rule"]
    write_segmentation(segmentation, [Segment("spleen", organs["liver"])], GEOMETRY)
    with pytest.raises(InputError, match=r"organs\.seg\.nrrd: no segment is called liver"):
        semi_real_patient(image, units="suv", organs=segmentation)


def test_lesions_keep_their_place_and_are_told_of(tmp_path):
    suv, _ = torso()
    labels = np.zeros(SHAPE, np.uint8)
    labels[30:34, 20:24, 40:44] = 1
    labels[60:63, 10:14, 30:33] = 2
    suv[labels > 0] = 8.0
    image = write(tmp_path / "pet_SUV.nii.gz", suv)
    lesions = write(tmp_path / "lesions.nii.gz", labels)
    (tmp_path / "pet_SUV.json").write_text('{"Units": "SUV"}')
    patient = semi_real_patient(image, lesions)
    phantom = patient.rasterize(SHAPE, SPACING, patient.origin)
    assert (phantom.lesions.numpy() == labels).all()
    facts = phantom.facts["lesions"]
    assert [lesion["label"] for lesion in facts] == [1, 2]
    x, y, z = facts[0]["center_mm"]
    assert (z, y, x) == pytest.approx(
        [o + 6.0 * i for o, i in zip(patient.origin, (31.5, 21.5, 41.5), strict=True)]
    )
    assert facts[0]["volume_ml"] == pytest.approx(64 * 0.216)


def test_a_scan_of_nothing_is_refused(tmp_path):
    path = write(tmp_path / "air.nii.gz", np.zeros(SHAPE, np.float32))
    with pytest.raises(InputError, match="shows no body"):
        patient_of(path)


# ---- scanned again


def test_a_semi_real_scan_returns_the_uptake(patient):
    lower, _ = patient.axial_range()
    window = Window(patient, lower + 160, lower + 280)
    scan = simulate_patient(SCANNER, np.random.SeedSequence(4), patient=window, dose_reduction_factors=(4,))
    liver = scan.phantom.organs.numpy() == LIVER
    truth = scan.phantom.activity.numpy()
    assert scan.full.shape[0] == 15 and liver.sum() > 100
    for image in (scan.full, scan.low[4.0]):
        assert image[liver].mean() == pytest.approx(truth[liver].mean(), rel=0.06)
    assert scan.low[4.0][liver].std() > 1.3 * scan.full[liver].std()
    assert scan.facts["semi_real"] and scan.facts["weight_from"] == "assumed"


class Cylinder:
    """Water of SUV 1 that looks the same at every height."""

    weight_kg = 70.0

    def axial_range(self) -> tuple[float, float]:
        return -333.0, 555.0

    def rasterize(self, shape_zyx, spacing_zyx, origin_zyx) -> Phantom:
        y, x = (
            o + s * torch.arange(n)
            for o, s, n in zip(origin_zyx[1:], spacing_zyx[1:], shape_zyx[1:], strict=True)
        )
        water = ((y[:, None] ** 2 + x[None] ** 2) < 100.0**2).float()[None].repeat(shape_zyx[0], 1, 1)
        nothing = torch.zeros(water.shape, dtype=torch.uint8)
        return Phantom(water, water * 0.0096, nothing, nothing)


@pytest.mark.parametrize("bed_step_mm", [120.0, 0.0])
def test_a_window_lies_in_the_field_where_the_whole_patient_does(bed_step_mm):
    cylinder = Cylinder()
    lower, upper = cylinder.axial_range()
    center = replace(
        SCANNER,
        voxel_mm=(2.0, 8.0, 8.0),
        bed_step_mm=bed_step_mm,
        axial_field_mm=200.0 if bed_step_mm else 1000.0,
    )
    center = replace(center, acceptance_mm=center.axial_field_mm)
    start = lower if bed_step_mm else (lower + upper) / 2 - 500.0
    seen, wanted = [], []
    for middle in (120.0, 180.0):  # of a bed, and the seam of two
        window = (lower + middle - 10, lower + middle + 10)
        scan = simulate_patient(
            center, np.random.SeedSequence(5), patient=Window(cylinder, *window), dose_reduction_factors=(4,)
        )
        seen.append(scan.facts["expected_counts"]["trues"])
        slices = window[0] + 2.0 * (torch.arange(10 + 2 * END_SLICES) - END_SLICES)
        wanted.append(float(axial_profile(center, slices - start).mean()))
    assert abs(wanted[0] / wanted[1] - 1) > 0.05
    assert seen[0] / seen[1] == pytest.approx(wanted[0] / wanted[1], rel=0.01)


def test_an_empty_window_is_refused(patient):
    with pytest.raises(InputError, match="is empty"):
        Window(patient, 10.0, 10.0)


# ---- the real scan


def test_the_liver_of_the_real_scan_has_its_published_noise(data_folder):
    """Median of 3 cm spheres 18 % (16 to 22); lag-1 autocorrelation 0.39, 0.55, 0.30 (SD 0.06, 40 boxes)."""
    volume = read_volume(data_folder / "ge_wb_sts001" / "image")
    suv, spacing = volume.suv_array()[100:205], volume.geometry.spacing_zyx
    liver = find_liver(suv, spacing)
    assert 700 < liver.sum() * np.prod(spacing) / 1000 < 1400
    spheres = sphere_statistics(suv, liver, spacing)
    assert spheres.median == pytest.approx(0.18, abs=0.01)
    assert 0.14 < spheres.p05 < spheres.p95 < 0.22
    correlation = lag_autocorrelation(suv, liver, spacing)
    for axis, published in (("x", 0.39), ("y", 0.55), ("z", 0.30)):
        assert correlation.mean[axis][0] == pytest.approx(published, abs=0.03)


def test_the_real_scan_is_a_patient(data_folder):
    patient = semi_real_patient(
        data_folder / "ge_wb_sts001" / "image", data_folder / "ge_wb_sts001" / "GTV_Mass_fullgrid.nii.gz"
    )
    assert patient.weight_kg == 71.0
    phantom = patient.rasterize(*grid(patient))
    scan = patient.lps_suv.sum(dtype=np.float64) * np.prod(patient.spacing)
    assert float(phantom.activity.double().sum()) * 8**3 == pytest.approx(
        scan, rel=0.03
    )  # less the noise in the air
    lungs = (phantom.organs == LUNG).sum() * 0.512
    assert 2000 < lungs < 6500
    lesion = phantom.facts["lesions"][0]
    assert lesion["volume_ml"] == pytest.approx(366, rel=0.01) and lesion["suv"] == pytest.approx(
        2.5, rel=0.05
    )
    assert phantom.facts["scan_header"]["model"] == "Discovery ST"
