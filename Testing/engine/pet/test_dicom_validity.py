"""The denoised series is valid by an independent checker."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from drmc.pet.reading import read_volume
from support.engine.denoised_series import (
    VENDORS,
    denoised,
    source,
    within_half_a_step,
    written,
)
from support.engine.dicom_checker import complaints


def errors(files: list[Path]) -> set[str]:
    """The distinct errors of the checker on files."""
    return {line for file in files for line in complaints(file, "PETImage")}


@pytest.mark.parametrize("name", VENDORS)
def test_the_checker_finds_no_error(tmp_path, name):
    again, _ = written(denoised(source(tmp_path / "source", **VENDORS[name])), tmp_path / "denoised")
    assert not errors(again.dicom_files[::2])


@pytest.mark.parametrize(
    "lacking",
    [
        {"CountsSource": None, "NumberOfSlices": None, "ImageIndex": None, "PatientPosition": None},
        {"BodyPartExamined": "KNEE", "PatientPosition": "HFDL", "StudyID": None, "StudyDate": None},
        {
            "BodyPartExamined": None,
            "SeriesType": ["WHOLEBODY", "IMAGE"],
            "NumberOfTimeSlices": 6,
            "TriggerTime": 0,
        },
        {
            "DecayCorrection": "NONE",
            "CorrectedImage": ["ATTN"],
            "SeriesDescription": None,
            "SeriesNumber": None,
        },
        {"RadionuclideCodeValue": None, "Laterality": "", "Manufacturer": None},
    ],
    ids=range(5),
)
def test_what_can_be_mended_honestly_is(tmp_path, lacking):
    volume = source(tmp_path / "source", **lacking)
    again, headers = written(volume, tmp_path / "denoised")
    assert not errors(again.dicom_files[:1])
    assert again.suv.factor == volume.suv.factor
    if lacking.get("PatientPosition") == "HFDL":
        orientation = headers[0].PatientOrientationCodeSequence[0]
        assert orientation.PatientOrientationModifierCodeSequence[0].CodeMeaning == "left lateral decubitus"
        assert headers[0].PatientGantryRelationshipCodeSequence[0].CodeMeaning == "headfirst"


def test_a_real_whole_body_scan(tmp_path, data_folder):
    volume = read_volume(data_folder / "ge_wb_sts001" / "image")
    again, headers = written(volume, tmp_path / "denoised")
    assert again.suv.to_dict() == volume.suv.to_dict() and again.geometry == volume.geometry
    assert within_half_a_step(again, headers, volume.array)
    assert errors(volume.dicom_files[:1]) and not errors(again.dicom_files[::13])


@pytest.mark.parametrize("name", ["DRO_2_5", "DRO_3_3", "DRO_3_4"])
def test_reference_objects(tmp_path, data_folder, name):
    with tarfile.open(data_folder / "ibsi_suv_dro" / "IBSI_SUV_DRO_v1.1.tar.xz") as archive:
        (tmp_path / "source").mkdir()
        for member in archive:
            if member.isfile() and f"{name}/PT/" in member.name:
                (tmp_path / "source" / Path(member.name).name).write_bytes(archive.extractfile(member).read())
    volume = read_volume(tmp_path / "source")
    again, _ = written(volume, tmp_path / "denoised")
    assert again.suv.rule == volume.suv.rule
    np.testing.assert_allclose(again.suv_array(), volume.suv_array(), atol=1e-4)
    # Study and frame of reference share a UID in these objects, and both have to stay.
    assert all("StudyInstanceUID has same value" in line for line in errors(again.dicom_files[:2]))


@pytest.mark.parametrize("name", ["SIEMENS", "GE_MEDICAL_AND_BQML", "PHILIPS_BQML", "PHILIPS_CNTS_AND_SUV"])
def test_headers_of_real_series(tmp_path, data_folder, name):
    instances = json.loads((data_folder / "suv_headers" / f"{name}-instances.json").read_text())
    for one in instances:
        private = one.pop("PhilipsPETPrivateGroup")
        one["PhilipsSUVScaleFactor"] = private.get("SUVScaleFactor")
        one["PhilipsActivityConcentrationScaleFactor"] = private.get("ActivityConcentrationScaleFactor")
    keys = {key for one in instances for key in one}
    header = {key: (lambda i, key=key: instances[i].get(key)) for key in keys}
    header.update(
        NumberOfSlices=len(instances),
        RadiopharmaceuticalStartDateTime=header.get("RadiopharmaceuticalStartDateTime"),
    )
    array = np.random.default_rng(2).uniform(0.0, 2e4, (len(instances), 6, 7))
    volume = source(tmp_path / "source", array, **header)
    again, _ = written(volume, tmp_path / "denoised")
    assert not errors(again.dicom_files)
    np.testing.assert_allclose(again.suv_array(), volume.suv_array(), atol=1e-4 * volume.suv_array().max())
