"""Nothing that identifies a patient leaves the reader: outputs, refusals, summaries, reports."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest
from drmc.cli.main import main
from drmc.models.weights import save_model
from pydicom.dataset import Dataset
from support.engine.denoising_cases import tiny_network
from support.engine.synthetic_dicom import write_series

# Distinctive words, so that finding one in any output is no accident.
WHO = {
    "PatientName": "Quixotefamily^Zebedeename",
    "PatientID": "PATID-90817263",
    "OtherPatientIDs": ["OTHERID-5544332"],
    "OtherPatientNames": "Aliasfamily^Other",
    "PatientBirthName": "Maidenfamily",
    "PatientMotherBirthName": "Motherfamily",
    "PatientBirthDate": "19310717",
    "PatientAddress": "Cobblestonealley 77",
    "PatientTelephoneNumbers": "0049-5550-12345",
    "PatientComments": "Commentsecret",
    "AccessionNumber": "ACC-66778899",
    "StudyID": "STUDYID-31415",
    "StudyDescription": "Whole body of Quixotefamily",
    "SeriesDescription": "PET Quixotefamily",
    "ProtocolName": "Protocol of Dr. Physicianfamily",
    "ImageComments": "called Zebedeename back",
    "InstitutionName": "Hospitalname Saint Nowhere",
    "InstitutionAddress": "Hospitalstreet 1",
    "InstitutionalDepartmentName": "Departmentname",
    "StationName": "STATIONNAME7",
    "ReferringPhysicianName": "Physicianfamily^Referring",
    "PerformingPhysicianName": "Performerfamily^Doctor",
    "NameOfPhysiciansReadingStudy": "Readerfamily^Doctor",
    "PhysiciansOfRecord": "Recordfamily^Doctor",
    "RequestingPhysician": "Requesterfamily^Doctor",
    "OperatorsName": "Operatorfamily^Name",
}
WORDS = (
    "quixote zebedee 90817263 5544332 aliasfamily maidenfamily motherfamily 19310717 1931-07-17 "
    "cobblestone 5550-12345 "
    "commentsecret 66778899 studyid-31415 hospitalname hospitalstreet departmentname stationname "
    "physicianfamily "
    "performerfamily readerfamily recordfamily requesterfamily operatorfamily"
).split()

CHANGES: dict[str, Callable[[Path], object]] = {
    "two series": lambda folder: write_series(folder, names="b{}".format, **WHO),
    "damaged": lambda folder: (folder / "IM0001.dcm").write_bytes((folder / "IM0001.dcm").read_bytes()[:-9]),
    "an element missing": lambda folder: edit(folder, lambda ds: ds.pop("ImagePositionPatient", None)),
    "no weight": lambda folder: edit(folder, lambda ds: ds.pop("PatientWeight", None)),
    "a name for a weight": lambda folder: edit(folder, lambda ds: ds.add_new(0x00101030, "LO", "heavy")),
    "a gap": lambda folder: (folder / "IM0002.dcm").unlink(),
    "another patient's slice": lambda folder: edit(folder, other_name, only="IM0003.dcm"),
    "another modality": lambda folder: edit(folder, lambda ds: setattr(ds, "Modality", "NM")),
    "no attenuation correction": lambda folder: edit(
        folder, lambda ds: setattr(ds, "CorrectedImage", "DECY")
    ),
    "no units": lambda folder: edit(folder, lambda ds: ds.pop("Units", None)),
    "dynamic": lambda folder: edit(folder, lambda ds: setattr(ds, "SeriesType", ["DYNAMIC", "IMAGE"])),
}


def edit(folder: Path, change: Callable[[Dataset], object], only: str | None = None) -> None:
    for file in folder.iterdir():
        if only in (None, file.name):
            ds = pydicom.dcmread(file)
            change(ds)
            ds.save_as(file)


def other_name(ds: Dataset) -> None:
    ds.PatientName, ds.PatientWeight = "Quixotefamily^Other", 80


def names_nobody(text: str) -> None:
    found = [word for word in WORDS if word in text.lower()]
    assert not found, f"{found} in {text[:2000]}"


@pytest.mark.parametrize("form", ["classic", "enhanced", "legacy"])
def test_what_is_said_of_a_scan_names_nobody(tmp_path, capfd, form):
    write_series(tmp_path / "scan", form=form, **WHO)
    for options in (["--json"], []):
        assert main(["suv", str(tmp_path / "scan"), *options]) == 0
        text = "".join(capfd.readouterr())
        assert "Synthetic" in text
        names_nobody(text)


@pytest.mark.parametrize("change", CHANGES)
def test_refusals_name_nobody(tmp_path, capfd, change):
    write_series(tmp_path / "scan", **WHO)
    CHANGES[change](tmp_path / "scan")
    assert main(["suv", str(tmp_path / "scan"), "--json"]) == 2
    out, err = capfd.readouterr()
    assert not out and err.startswith("drmc: ") and err.count("\n") == 1
    names_nobody(err)


def test_what_a_run_writes_names_nobody(tmp_path, capfd):
    save_model(tmp_path / "tiny.pt", tiny_network(), 16)
    write_series(tmp_path / "scan", slices=8, rows=8, columns=8, **WHO)
    command = [
        "denoise",
        str(tmp_path / "scan"),
        "-o",
        str(tmp_path / "out"),
        "--model",
        str(tmp_path / "tiny.pt"),
    ]
    assert main([*command, "--device", "cpu", "--progress", "json"]) == 0
    names_nobody("".join(capfd.readouterr()))
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert {"summary.json", "report.html"} <= {path.name for path in files}
    for path in files:
        names_nobody(path.name + path.read_bytes().decode("latin-1"))
