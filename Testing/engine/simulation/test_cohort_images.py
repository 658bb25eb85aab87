"""The images of a simulated whole body: geometry, units, noise, lesions; and real scans as patients."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from drmc.datasets.manifest import read_manifest
from drmc.errors import CanceledError, InputError
from drmc.simulation.cohort import ScanOptions, patient_seed, write_case, write_cohort
from drmc.simulation.imperfections import Imperfections
from drmc.simulation.organs import ORGANS
from drmc.simulation.patients import PatientSource
from drmc.simulation.scan import simulate_patient
from support.engine.simulate_command import run
from support.engine.small_scanners import BODY, HEAD

# torch says that its CSR support is in beta state
pytestmark = pytest.mark.filterwarnings("ignore:.*[Ss]parse.*")


# ---- the images of a whole body


@pytest.fixture(scope="module")
def body(tmp_path_factory):
    """A whole body on coarse voxels: the scan, and by file name its images and arrays as read back."""
    folder = tmp_path_factory.mktemp("body") / "C1" / "C1-test-0003"
    scan = simulate_patient(BODY, patient_seed(7, "C1", "test", 3))
    write_case(scan, BODY, folder, seed=[7, 0, 2, 3])
    images = {path.name: sitk.ReadImage(str(path)) for path in folder.glob("*.nii.gz")}
    return scan, images, {name: sitk.GetArrayFromImage(image) for name, image in images.items()}


def centroid(image: sitk.Image, chosen: np.ndarray) -> np.ndarray:
    """Physical point (x, y, z) of the middle of the chosen voxels."""
    return np.mean(
        [image.TransformIndexToPhysicalPoint(i[::-1]) for i in np.argwhere(chosen).tolist()], axis=0
    )


def test_geometry_survives_the_file(body):
    scan, images, _ = body
    assert set(images) == {
        "full.nii.gz",
        "low_drf012.nii.gz",
        "low_drf003.nii.gz",
        "truth.nii.gz",
        "organs.nii.gz",
        "lesions.nii.gz",
    }
    for image in images.values():
        assert image.GetSize()[:2] == (46, 46) and image.GetSize()[::-1] == scan.full.shape
        assert image.GetSpacing() == pytest.approx((12.0, 12.0, 11.0))
        assert image.GetDirection() == pytest.approx((1, 0, 0, 0, 1, 0, 0, 0, 1))
        assert image.GetOrigin()[:2] == pytest.approx((-22.5 * 12, -22.5 * 12))
        assert image.GetOrigin() == pytest.approx(scan.origin_xyz)


def test_the_liver_is_on_the_patients_right_and_the_bladder_below(body):
    _, images, arrays = body
    organ = lambda name: centroid(images["organs.nii.gz"], arrays["organs.nii.gz"] == ORGANS[name].label)
    assert organ("liver")[0] < -30 < 30 < organ("spleen")[0]
    assert organ("bladder")[2] < organ("liver")[2] < organ("white_matter")[2]
    assert organ("sternum")[1] < organ("vertebra")[1]


def test_images_show_the_truth_on_one_suv_scale(body):
    scan, _, arrays = body
    organs, truth = arrays["organs.nii.gz"], scan.phantom.activity.numpy()
    inside = organs > 0
    means = {}
    for name in ("full.nii.gz", "low_drf003.nii.gz", "low_drf012.nii.gz"):
        suv = arrays[name]
        assert np.isfinite(suv).all() and suv.min() >= 0
        means[name] = suv[inside].mean()
        assert np.corrcoef(suv[inside], truth[inside])[0, 1] > 0.6  # 0.9 at full dose, noise below
    # coarse voxels: some of what lies inside is seen outside
    assert means["full.nii.gz"] == pytest.approx(truth[inside].mean(), rel=0.08)
    for name in ("low_drf003.nii.gz", "low_drf012.nii.gz"):
        assert means[name] == pytest.approx(means["full.nii.gz"], rel=0.02)
    liver = organs == ORGANS["liver"].label
    # a handful of coarse voxels at a twelfth of the dose
    assert arrays["low_drf012.nii.gz"][liver].mean() == pytest.approx(
        arrays["full.nii.gz"][liver].mean(), rel=0.1
    )
    assert arrays["full.nii.gz"][liver].mean() == pytest.approx(truth[liver].mean(), rel=0.15)
    # in the image the uptake lies where the truth has it
    places = np.stack(np.meshgrid(*map(np.arange, truth.shape), indexing="ij"))
    middle = lambda suv: (places * suv).sum((1, 2, 3)) / suv.sum() * np.array(scan.spacing_xyz[::-1])
    assert np.linalg.norm(middle(arrays["full.nii.gz"]) - middle(truth)) < 8


def test_noise_grows_as_the_dose_falls(body):
    _, _, arrays = body
    inside = arrays["organs.nii.gz"] > 0
    noise = {f: np.std((arrays[f"low_drf{f:03d}.nii.gz"] - arrays["full.nii.gz"])[inside]) for f in (3, 12)}
    # low = full thinned: the variance added to the full dose is (DRF - 1) times the full dose's own
    assert noise[12] / noise[3] == pytest.approx(math.sqrt(11 / 2), rel=0.25)


def test_lesions_are_where_the_facts_place_them(body):
    scan, images, arrays = body
    lesions = scan.facts["lesions"]
    found = 0
    for lesion in lesions:
        chosen = arrays["lesions.nii.gz"] == lesion["label"]
        if chosen.any():
            found += 1
            distance = np.linalg.norm(centroid(images["lesions.nii.gz"], chosen) - lesion["center_mm"])
            assert distance < 0.5 * lesion["diameter_mm"] + 12
    assert found > 0
    assert set(np.unique(arrays["lesions.nii.gz"]).tolist()) <= {0, *(lesion["label"] for lesion in lesions)}


def test_an_axial_window_lies_in_the_scan_range():
    windows = [simulate_patient(HEAD, patient_seed(7, "C5", "train", i), axial_mm=50.0) for i in (1, 2, 3)]
    for scan in windows:
        assert scan.full.shape == (math.ceil(50 / 9), 30, 30) == scan.low[4.0].shape
        assert tuple(scan.phantom.organs.shape) == scan.full.shape
        assert -98 <= scan.origin_xyz[2] and scan.origin_xyz[2] + 50 <= 82
    assert len({scan.origin_xyz[2] for scan in windows}) == 3


def test_progress_can_cancel_a_patient():
    def cancel(share: float) -> None:
        raise CanceledError

    with pytest.raises(CanceledError):
        simulate_patient(HEAD, patient_seed(7, "C5", "train", 1), progress=cancel)


# ---- a real scan


@pytest.fixture
def real_scan(tmp_path) -> Path:
    """A warm ellipsoid with a liver-like half, as a NIfTI file in SUV."""
    z, y, x = np.ogrid[:30, :30, :40]
    inside = ((z - 14.5) / 14) ** 2 + ((y - 14.5) / 10) ** 2 + ((x - 19.5) / 15) ** 2 < 1
    image = sitk.GetImageFromArray(np.where(inside, 1.0 + (x < 20), 0).astype(np.float32))
    image.SetSpacing((9.0, 9.0, 9.0))
    path = tmp_path / "real" / "scan.nii.gz"
    path.parent.mkdir()
    sitk.WriteImage(image, str(path))
    return path


def test_a_real_scan_is_one_person_in_every_case(real_scan, tmp_path):
    flat = replace(BODY, axial_field_mm=2000.0, acceptance_mm=100.0, bed_step_mm=0.0)
    options = ScanOptions((4.0,), source=PatientSource(scan=real_scan, units="suv"))
    for split in ("train", "test"):
        write_cohort(tmp_path / "data", [flat], 1, seed=3, split=split, options=options)
    cases = read_manifest(tmp_path / "data")
    assert cases[0].patient == cases[1].patient and cases[0].patient.startswith("semi-real-")
    images = [sitk.GetArrayFromImage(sitk.ReadImage(str(c.full))) for c in cases]
    assert not np.array_equal(*images)  # the same person, other events
    truth = sitk.GetArrayFromImage(sitk.ReadImage(str(cases[0].truth)))
    assert images[0].mean() == pytest.approx(truth.mean(), rel=0.05)
    sidecar = json.loads((cases[0].full.parent / "pet.json").read_text())
    assert sidecar["Facts"]["semi_real"] is True and str(tmp_path) not in json.dumps(sidecar)


def test_a_real_scan_needs_centers_and_options_that_fit(real_scan, tmp_path):
    out = str(tmp_path / "out")
    for arguments, said in (
        (["--centers", "C5", "--semi-real", str(real_scan)], "C5 scans heads"),
        (["--centers", "C1", "--semi-real", str(real_scan), "--breathing", "9"], "breathed already"),
        (["--centers", "C1", "--semi-real", str(real_scan), "--tracer", "FAPI"], "leave --tracer out"),
        (["--centers", "C1", "--semi-real", str(real_scan), "--wide-uptake", "1"], "leave --wide-uptake out"),
        (["--centers", "C1", "--semi-real", str(real_scan), "--brain-maps", "x"], "leave --brain-maps out"),
        (["--centers", "C1", "--semi-real", str(tmp_path / "absent.nii")], "absent.nii"),
        (["--centers", "C1", "--semi-real", str(real_scan)], "does not say its units"),
        (["--centers", "C1", "--units", "suv"], "--units belongs to --semi-real"),
        (["--centers", "C1", "--lesions", str(real_scan)], "--lesions belongs to --semi-real"),
        (["--centers", "C1", "--organs", str(real_scan)], "--organs belongs to --semi-real"),
        (["--centers", "C1", "--breathing", "-3"], "breathing_mm -3"),
    ):
        with pytest.raises(InputError) as refusal:
            run(*arguments, "-o", out)
        assert said in str(refusal.value) and "\n" not in str(refusal.value)
    assert not Path(out).exists()


def test_breathing_reaches_the_scan_and_its_side_car(tmp_path):
    calm, moved = (
        ScanOptions(axial_mm=60.0),
        ScanOptions(axial_mm=60.0, imperfections=Imperfections(20.0, 10.0, 0.1)),
    )
    scans = [o.scan(BODY, patient_seed(5, "C1", "test", 1), None) for o in (calm, moved)]
    assert np.array_equal(*(s.phantom.activity.numpy() for s in scans))  # the truth does not move
    assert not np.array_equal(scans[0].full, scans[1].full)
    said = scans[1].facts["imperfections"]
    assert said["breathing_mm"] == 20 and 0.5 < said["calibration"] < 1.5 and said["calibration"] != 1
