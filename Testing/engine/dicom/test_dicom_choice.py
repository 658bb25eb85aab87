"""Which series of a PACS export is read: corrected and uncorrected PET, projections, CT, captures."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pydicom
import pytest
from drmc.cli.main import main
from drmc.denoising.finding import find_scan, find_scans, is_batch
from drmc.dicom.choice import is_projection
from drmc.errors import InputError
from drmc.imaging.files import write_image
from drmc.pet.reading import read_volume
from support.engine.synthetic_dicom import SECRETS, rewrite, write_series

AC = {"SeriesInstanceUID": "1.2.3.1", "SeriesDescription": "PET WB AC"}
NAC = {
    "SeriesInstanceUID": "1.2.3.2",
    "SeriesDescription": "PET WB uncorrected",
    "CorrectedImage": ["NORM", "DTIM", "DECY"],
}
MIP = {"SeriesInstanceUID": "1.2.3.3", "SeriesDescription": "PET MIP"}
STUDY = {"StudyInstanceUID": "1.2.9", "FrameOfReferenceUID": "1.2.8"}
EXACT = ("--device", "cpu", "--precision", "fp32")


def projected(paths: list[Path]) -> None:
    for path in paths:
        rewrite(path, ImageType=["DERIVED", "SECONDARY", "MIP"])


def other(folder: Path, name: str, modality: str, sop_class: str) -> None:
    """A series of another kind, made of a PET slice."""
    path = write_series(folder, slices=1, names=f"{name}{{:03d}}.dcm".format, **STUDY)[0]
    dataset = pydicom.dcmread(path)
    dataset.Modality, dataset.SOPClassUID = modality, sop_class
    dataset.file_meta.MediaStorageSOPClassUID = sop_class
    dataset.save_as(path)


def export(folder: Path) -> Path:
    """All series of a study in one folder."""
    array = np.random.default_rng(3).uniform(500, 20_000, (16, 18, 20))
    write_series(folder, array, names="a{:03d}.dcm".format, **AC, **STUDY)
    write_series(folder, array / 3, names="n{:03d}.dcm".format, **NAC, **STUDY)
    projected(write_series(folder, names="m{:03d}.dcm".format, **MIP, **STUDY))
    other(folder, "ct", "CT", "1.2.840.10008.5.1.4.1.1.2")
    other(folder, "sc", "OT", "1.2.840.10008.5.1.4.1.1.7")
    return folder


pytestmark = pytest.mark.usefixtures("models")


def test_the_only_corrected_series_is_taken_and_the_others_are_named(tmp_path):
    volume = read_volume(export(tmp_path / "export"))
    assert volume.series_uid == "1.2.3.1"
    taken, ignored = volume.notices[:2]
    assert taken.startswith("the only attenuation-corrected PET series of 3 was taken: 1.2.3.1")
    _, passed = taken.split("passed over: ")
    assert "1.2.3.2" in passed and "'PET WB uncorrected'" in passed and "not attenuation-corrected" in passed
    assert "1.2.3.3" in passed and "projection" in passed and "'PET MIP'" in passed
    assert ignored == "other series in the folder were ignored: 1 CT, 1 OT"
    assert not any(secret in taken for secret in SECRETS)


@pytest.mark.parametrize(
    ("text", "uid"), [("wb ac", "1.2.3.1"), ("UNCORRECTED", "1.2.3.2"), ("mip", "1.2.3.3"), (None, "1.2.3.1")]
)
def test_a_part_of_the_description_chooses(tmp_path, text, uid):
    from drmc.dicom.series import read_pet_series

    folder = export(tmp_path / "export")
    series = read_pet_series(folder, series_description=text)
    assert pydicom.dcmread(series.files[0]).SeriesInstanceUID == uid


@pytest.mark.parametrize(
    ("text", "said"),
    [("PET", "holds 3 PET series with 'PET'"), ("brain", "holds no PET series with 'brain'")],
)
def test_a_description_that_is_not_of_one_series_is_refused_with_the_list(tmp_path, text, said):
    with pytest.raises(InputError) as caught:
        read_volume(export(tmp_path / "export"), series_description=text)
    line = str(caught.value)
    assert said in line and "\n" not in line and all(f"1.2.3.{i}" in line for i in (1, 2, 3))


def test_several_corrected_series_are_refused_and_listed(tmp_path, capsys):
    folder = export(tmp_path / "export")
    second = {"SeriesInstanceUID": "1.2.3.4", "SeriesDescription": "PET WB PSF AC"}
    write_series(folder, names="p{:03d}.dcm".format, **second, **STUDY)
    assert main(["suv", str(folder)]) == 2
    line = capsys.readouterr().err
    assert "holds 2 attenuation-corrected PET series" in line and "--series-description" in line
    assert "1.2.3.1" in line and "1.2.3.4" in line and "1.2.3.2" not in line
    assert main(["suv", str(folder), "--series-description", "psf", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rule"] == "ST"
    # One of another series' description contradicts the UID.
    assert main(["suv", str(folder), "--series", "1.2.3.1", "--series-description", "psf"]) == 2
    assert main(["suv", str(folder), "--series", "1.2.3.4", "--series-description", "psf"]) == 0


def test_without_any_corrected_series_all_are_listed(tmp_path):
    write_series(tmp_path / "in", names="n{:03d}.dcm".format, **NAC, **STUDY)
    write_series(
        tmp_path / "in", names="o{:03d}.dcm".format, **{**NAC, "SeriesInstanceUID": "1.2.3.7"}, **STUDY
    )
    with pytest.raises(InputError, match=r"holds 2 PET series.*1\.2\.3\.2.*1\.2\.3\.7"):
        read_volume(tmp_path / "in")


def test_every_command_and_a_batch_take_it(tmp_path, capsys):
    for name in ("p1", "p2"):
        export(tmp_path / "in" / name)
    scan = tmp_path / "in" / "p1"
    volume = read_volume(scan)
    mask = np.zeros(volume.geometry.shape, np.float32)
    mask[5:9, 5:9, 5:9] = 1
    write_image(tmp_path / "mask.nii.gz", mask, volume.geometry)
    assert main(["suv", str(scan)]) == 0
    assert "note: the only attenuation-corrected PET series of 3 was taken" in capsys.readouterr().out
    assert main(["quantify", str(scan), "--lesions", str(tmp_path / "mask.nii.gz")]) == 0
    assert "note: the only attenuation-corrected PET series of 3 was taken" in capsys.readouterr().out
    output = tmp_path / "out"
    assert main(["denoise", str(tmp_path / "in"), "-o", str(output), *EXACT]) == 0
    with open(output / "batch.csv", newline="") as file:
        assert [row["outcome"] for row in csv.DictReader(file)] == ["done", "done"]
    summary = json.loads((output / "p1" / "summary.json").read_text())
    assert any("was taken: 1.2.3.1" in text for text in summary["notices"])
    assert "passed over" in (output / "p1" / "report.html").read_text(encoding="utf-8")
    arguments = [
        "denoise",
        str(tmp_path / "in"),
        "-o",
        str(tmp_path / "b"),
        "--series-description",
        "xyz",
        *EXACT,
    ]
    assert main(arguments) == 2
    arguments[-1 - len(EXACT)] = "WB ac"
    assert main(arguments) == 0


def test_series_of_one_study_in_folders_of_their_own(tmp_path, capsys):
    study = tmp_path / "study"
    write_series(study / "PET_NAC", **NAC, **STUDY)
    write_series(study / "PET_WB", **AC, **STUDY)
    projected(write_series(study / "PET_MIP", **MIP, **STUDY))
    assert not is_batch(study) and find_scan(study) == study / "PET_WB"
    assert main(["suv", str(study)]) == 0
    out = capsys.readouterr().out
    assert (
        "note: the only attenuation-corrected PET series of this study was taken; "
        "passed over: PET_MIP, PET_NAC" in out
    )
    # The uncorrected series of somebody else is a scan of its own, and refused as one.
    write_series(study / "other", **{**NAC, "SeriesInstanceUID": "1.2.3.9"})
    assert is_batch(study)
    assert "other" in find_scans(study)


@pytest.mark.parametrize(
    ("image_type", "expected"),
    [
        (("DERIVED", "SECONDARY", "MIP"), True),
        (("DERIVED", "PRIMARY", "CSA MIP THICK"), True),
        (("DERIVED", "SECONDARY", "PROJECTION IMAGE"), True),
        (("DERIVED", "SECONDARY", "MIP_COR"), True),
        (("ORIGINAL", "PRIMARY"), False),
        (("DERIVED", "PRIMARY", "MIPS"), True),
        (("ORIGINAL", "PRIMARY", "CHEMIPET"), False),
    ],
)
def test_projections_are_known_by_their_image_type(image_type, expected):
    assert is_projection(image_type) is expected
