"""What a path stands for: patient CDs with their DICOMDIR, links that lead back, irregular files."""

from __future__ import annotations

import json
import os
import shutil
import socket
from pathlib import Path

import numpy as np
import pytest
from drmc.cli.main import main
from drmc.denoising.finding import find_scan, find_scans, is_batch, scan_name
from drmc.dicom import finding
from drmc.errors import InputError
from drmc.imaging.files import write_image
from drmc.imaging.geometry import Geometry
from drmc.pet.reading import read_volume
from drmc.segments.reading import read_segments
from pydicom.fileset import FileSet
from support.engine.synthetic_dicom import write_series


def series(folder: Path, **options: object) -> Path:
    return write_series(folder, slices=4, **options)[0].parent


def medium(folder: Path, *sources: Path) -> Path:
    """A patient CD with a DICOMDIR, as pydicom writes it."""
    files = FileSet()
    for source in sources:
        for file in sorted(source.iterdir()):
            files.add(file)
    files.write(folder)
    return folder


def factor(capsys, path: Path) -> float:
    assert main(["suv", str(path), "--json"]) == 0
    return json.loads(capsys.readouterr().out)["factor"]


def refused(capsys, *arguments: object) -> str:
    assert main([str(a) for a in arguments]) == 2
    out, err = capsys.readouterr()
    assert not out and err.count("\n") == 1
    return err


# ---------------------------------------------------------------------------------------- patient CDs


IDENTIFIED = {"StudyID": "1", "SeriesNumber": 1, "StudyDate": "20240229", "StudyTime": "110000"}


def test_a_medium_is_its_only_scan(tmp_path, capsys):
    source = series(tmp_path / "source", **IDENTIFIED)
    cd = medium(tmp_path / "cd", source)
    expected = factor(capsys, source)
    assert factor(capsys, cd) == expected
    assert factor(capsys, cd / "DICOMDIR") == expected
    assert scan_name(cd / "DICOMDIR") == scan_name(cd) == "cd"
    assert find_scan(cd / "DICOMDIR") == find_scan(cd)
    assert not is_batch(cd) and not is_batch(cd / "DICOMDIR")


@pytest.mark.parametrize("name", ["DICOMDIR", "dicomdir", "DICOMDIR;1", "INDEX.dcm"])
def test_a_directory_is_known_by_its_content(tmp_path, capsys, name):
    source = series(tmp_path / "source", **IDENTIFIED)
    cd = medium(tmp_path / "cd", source)
    (cd / "DICOMDIR").rename(cd / name)
    assert finding.is_media_directory(cd / name) and not finding.has_dicom(cd)
    assert factor(capsys, cd) == factor(capsys, cd / name) == factor(capsys, source)


def test_a_directory_without_preamble(tmp_path, capsys):
    source = series(tmp_path / "source", **IDENTIFIED)
    cd = medium(tmp_path / "cd", source)
    (cd / "DICOMDIR").write_bytes((cd / "DICOMDIR").read_bytes()[132:])
    assert factor(capsys, cd) == factor(capsys, cd / "DICOMDIR") == factor(capsys, source)


def test_a_medium_with_its_images_beside_the_directory(tmp_path, capsys):
    source = series(tmp_path / "source", **IDENTIFIED)
    cd = medium(tmp_path / "cd", source)
    shutil.copy(cd / "DICOMDIR", source / "DICOMDIR")
    assert factor(capsys, source) == factor(capsys, source / "DICOMDIR") == factor(capsys, cd)


def test_a_medium_with_ct_and_pet(tmp_path, capsys):
    source = series(tmp_path / "source", **IDENTIFIED)
    ct = series(tmp_path / "ct", **{**IDENTIFIED, "SeriesNumber": 2, "Modality": "CT"})
    assert factor(capsys, medium(tmp_path / "cd", ct, source) / "DICOMDIR") == factor(capsys, source)


def test_a_medium_of_two_scans_is_a_batch(tmp_path):
    first = series(tmp_path / "1", PatientID="A", **IDENTIFIED)
    second = series(tmp_path / "2", PatientID="B", **IDENTIFIED)
    cd = medium(tmp_path / "cd", first, second)
    assert is_batch(cd) and is_batch(cd / "DICOMDIR")
    assert find_scans(cd / "DICOMDIR") == find_scans(cd) and len(find_scans(cd)) == 2


def test_no_output_goes_onto_the_medium(tmp_path, capsys):
    cd = medium(tmp_path / "cd", series(tmp_path / "source", **IDENTIFIED))
    assert "lies in the input" in refused(capsys, "denoise", cd / "DICOMDIR", "-o", cd / "out")


def test_an_empty_medium(tmp_path, capsys):
    cd = medium(tmp_path / "cd", series(tmp_path / "source", **IDENTIFIED))
    for folder in [path for path in cd.iterdir() if path.is_dir()]:
        shutil.rmtree(folder)
    assert "no DICOM image" in refused(capsys, "suv", cd)
    assert "no DICOM image" in refused(capsys, "suv", cd / "DICOMDIR")
    with pytest.raises(InputError, match="directory of a medium"):
        read_volume(cd / "DICOMDIR")


def test_a_batch_of_media(tmp_path):
    for name in ("a", "b"):
        medium(tmp_path / "cohort" / name, series(tmp_path / name, PatientID=name, **IDENTIFIED))
    assert is_batch(tmp_path / "cohort")
    assert list(find_scans(tmp_path / "cohort")) == ["a", "b"]


# ---------------------------------------------------------------------------------------- links


def test_a_link_that_leads_back_counts_nothing_twice(tmp_path, capsys):
    root = tmp_path / "root"
    expected = factor(capsys, series(root / "pet"))
    (root / "sub").mkdir()
    (root / "sub" / "again").symlink_to("../../root")
    (root / "self").symlink_to(".")
    (root / "other").symlink_to("pet")
    assert factor(capsys, root) == expected
    assert find_scan(root) == root / "pet" and not is_batch(root)


def test_a_link_to_itself_is_nothing(tmp_path, capsys):
    root = tmp_path / "root"
    expected = factor(capsys, series(root / "pet"))
    (root / "loop").symlink_to("loop")
    (root / "gone").symlink_to("nowhere")
    (root / "pet" / "loop.dcm").symlink_to("loop.dcm")
    assert factor(capsys, root) == expected
    assert "leads back to itself" in refused(capsys, "suv", root / "loop")
    assert "leads back to itself" in refused(capsys, "quantify", root, "--lesions", root / "loop")


def test_an_output_below_a_link_that_leads_nowhere(tmp_path, capsys):
    folder = series(tmp_path / "pet")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "gone").symlink_to("nowhere")
    for name in ("loop", "loop/out", "gone", "gone/deep/out"):
        line = refused(capsys, "denoise", folder, "-o", tmp_path / name)
        assert "leads nowhere" in line or "is a file" in line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gone", "loop", "pet"]


def test_a_slice_that_is_linked_twice_counts_once(tmp_path, capsys):
    folder = series(tmp_path / "pet")
    expected = factor(capsys, folder)
    (folder / "A_first.dcm").symlink_to(folder / "IM0001.dcm")
    assert factor(capsys, folder) == factor(capsys, folder / "A_first.dcm") == expected


def test_a_folder_of_links_is_as_good_as_any(tmp_path, capsys):
    folder = series(tmp_path / "store" / "pet")
    (tmp_path / "links").mkdir()
    for file in folder.iterdir():
        (tmp_path / "links" / file.name).symlink_to(file)
    assert factor(capsys, tmp_path / "links") == factor(capsys, folder)


def test_a_batch_counts_a_folder_once(tmp_path):
    root = tmp_path / "cohort"
    for name in ("a", "b"):
        series(root / name / "pet")
    (root / "again").symlink_to("a")
    (root / "inner").symlink_to("a/pet")
    (root / "loop").symlink_to("../cohort")
    (root / "top").symlink_to("..")
    assert list(find_scans(root)) == ["a", "b"]
    assert list(find_scans(root, "*")) == ["a", "b"]
    assert is_batch(root)


def test_a_batch_of_links_into_a_hidden_store(tmp_path):
    root = tmp_path / "cohort"
    for name in ("a", "b"):
        series(root / ".store" / name)
        (root / name).symlink_to(f".store/{name}")
    assert list(find_scans(root)) == ["a", "b"]


# ---------------------------------------------------------------------------------------- no regular files


@pytest.fixture(params=["pipe", "socket", "device", "link to a pipe"])
def special(request, tmp_path):
    if request.param == "device":
        return Path("/dev/zero")
    path = tmp_path / "special"
    if request.param == "socket":
        here = os.getcwd()
        os.chdir(tmp_path)  # a socket's name has few characters
        try:
            with socket.socket(socket.AF_UNIX) as server:
                server.bind("special")
        finally:
            os.chdir(here)
    else:
        os.mkfifo(path)
    if request.param == "link to a pipe":
        (tmp_path / "link").symlink_to(path)
        return tmp_path / "link"
    return path


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_what_is_no_regular_file_is_never_read(special, tmp_path, capsys):
    image = tmp_path / "pet.nii.gz"
    write_image(image, np.ones((4, 5, 6)), Geometry((4, 5, 6)))
    (tmp_path / "pet.json").write_text('{"Units": "SUV"}')
    for arguments in (
        ("suv", special),
        ("quantify", special, "--lesions", image),
        ("quantify", image, "--lesions", special),
        ("quantify", image, "--lesions", image, "--reference", special),
        ("denoise", special, "-o", tmp_path / "out"),
        ("denoise", image, "-o", tmp_path / "out", "--lesions", special),
        ("denoise", image, "-o", tmp_path / "out", "--model", special),
        ("train", special),
        ("evaluate", special),
    ):
        line = refused(capsys, *arguments)
        assert "not a regular file" in line and str(special) in line, arguments
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
@pytest.mark.parametrize("name", ["pipe.nii.gz", "pipe.seg.nrrd", "pipe.dcm", "pipe"])
def test_a_pipe_with_the_name_of_a_file(tmp_path, capsys, name):
    os.mkfifo(tmp_path / name)
    assert "named pipe" in refused(capsys, "suv", tmp_path / name)
    with pytest.raises(InputError, match="named pipe"):
        read_segments(tmp_path / name, Geometry((4, 5, 6)))
    with pytest.raises(InputError, match="named pipe"):
        read_volume(tmp_path / name)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_pipes_beside_a_scan_are_passed_over(tmp_path, capsys):
    folder = series(tmp_path / "root" / "pet")
    expected = factor(capsys, folder)
    for name in ("a", "IM.dcm", "pet.json"):
        os.mkfifo(folder / name)
    os.mkfifo(tmp_path / "root" / "pet.nii.gz")
    assert factor(capsys, folder) == factor(capsys, tmp_path / "root") == expected
