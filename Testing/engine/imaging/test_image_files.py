"""Images and masks with an ambiguous header: transforms that disagree, axes that are sheared."""

from __future__ import annotations

import gzip
import json
import struct
from pathlib import Path

import numpy as np
import pytest
from drmc.cli.main import main
from drmc.errors import InputError
from drmc.imaging.files import read_image
from drmc.imaging.geometry import Geometry
from drmc.pet.reading import read_volume
from drmc.segments.reading import read_segments
from support.engine.synthetic_dicom import write_series

AFFINE = np.array([[-5.0, 0, 0, 97.5], [0, -5, 0, 97.5], [0, 0, 5, -500], [0, 0, 0, 1]])
HALF_TURN = (0.0, 0.0, 1.0)  # quaternion (b, c, d) of AFFINE


def moved(*shift_mm: float) -> np.ndarray:
    affine = AFFINE.copy()
    affine[:3, 3] += shift_mm
    return affine


def nifti(
    path: Path,
    array: np.ndarray,
    *,
    sform: np.ndarray | None = None,
    s_code: int = 0,
    offset: tuple[float, ...] = (97.5, 97.5, -500.0),
    q_code: int = 0,
    qfac: float = 1.0,
    version: int = 1,
    order: str = "<",
) -> Path:
    """A NIfTI file with its two transforms as given; spacing 5 mm, the quaternion a half turn about z."""
    header = bytearray(348 if version == 1 else 540)
    put = lambda form, place, *values: struct.pack_into(order + form, header, place, *values)
    kind, bits = {"f4": (16, 32), "u1": (2, 8)}[array.dtype.str[1:]]
    dim = (3, *array.shape[::-1], 1, 1, 1, 1)
    rows = np.zeros(12) if sform is None else sform[:3].ravel()
    if version == 1:
        put("i", 0, 348)
        put("8h", 40, *dim)
        put("2h", 70, kind, bits)
        put("8f", 76, qfac, 5, 5, 5, 0, 0, 0, 0)
        put("3f", 108, 352, 1, 0)
        header[123] = 2
        put("2h", 252, q_code, s_code)
        put("6f", 256, *HALF_TURN, *offset)
        put("12f", 280, *rows)
        header[344:348] = b"n+1\0"
    else:
        put("i", 0, 540)
        header[4:12] = b"n+2\0\r\n\x1a\n"
        put("2h", 12, kind, bits)
        put("8q", 16, *dim)
        put("8d", 104, qfac, 5, 5, 5, 0, 0, 0, 0)
        put("q2d", 168, 544, 1, 0)
        put("2i", 344, q_code, s_code)
        put("6d", 352, *HALF_TURN, *offset)
        put("12d", 400, *rows)
        put("i", 500, 2)
    content = bytes(header) + b"\0" * 4 + array.astype(array.dtype.newbyteorder(order)).tobytes()
    path.write_bytes(gzip.compress(content) if path.name.endswith(".gz") else content)
    return path


def voxels(shape=(6, 8, 9)) -> np.ndarray:
    return np.random.default_rng(3).uniform(1, 9, shape).astype("f4")


def mask(shape=(6, 8, 9)) -> np.ndarray:
    array = np.zeros(shape, "u1")
    array[2:4, 3:6, 3:7] = 1
    return array


GRID = Geometry((6, 8, 9), (5.0, 5.0, 5.0), (-97.5, -97.5, -500.0))


def refusal(read, *arguments: object) -> str:
    with pytest.raises(InputError) as caught:
        read(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ---------------------------------------------------------------------------------------- sform and qform


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_transforms_that_disagree_are_refused_in_images_and_masks(tmp_path, version, order, ending):
    options = {"sform": moved(10, -5, 5), "s_code": 2, "q_code": 1, "version": version, "order": order}
    image = nifti(tmp_path / f"pet{ending}", voxels(), **options)
    lesions = nifti(tmp_path / f"lesions{ending}", mask(), **options)
    for line in (
        refusal(read_volume, image),
        refusal(read_image, image),
        refusal(read_segments, lesions, GRID),
    ):
        assert "sform (code 2, [-5 0 0 107.5; 0 -5 0 92.5; 0 0 5 -495])" in line
        assert "qform (code 1, [-5 0 0 97.5; 0 -5 0 97.5; 0 0 5 -500])" in line
        assert "12.25 mm (2 voxels) apart" in line and "set_qform" in line


@pytest.mark.parametrize(("shift", "accepted"), [(0.0, True), (0.45, True), (0.55, False), (-0.55, False)])
def test_a_tenth_of_a_voxel_is_tolerated(tmp_path, shift, accepted):
    path = nifti(tmp_path / "pet.nii.gz", voxels(), sform=moved(0, shift, 0), s_code=1, q_code=1)
    if accepted:
        assert read_volume(path, units="suv").geometry.shape == (6, 8, 9)
    else:
        assert "apart" in refusal(read_volume, path)


def test_a_difference_of_scale_or_direction_counts_where_it_is_largest(tmp_path):
    scaled, flipped = AFFINE.copy(), AFFINE.copy()
    scaled[0, 0] *= 1.02  # 0.16 voxels at the last of 9
    flipped[:3, 0] *= -1
    for name, affine in (("scaled", scaled), ("flipped", flipped)):
        path = nifti(tmp_path / f"{name}.nii", voxels(), sform=affine, s_code=1, q_code=1)
        assert "apart" in refusal(read_volume, path)
    assert "apart" in refusal(
        read_volume, nifti(tmp_path / "q.nii", voxels(), sform=AFFINE, s_code=1, q_code=1, qfac=-1.0)
    )


@pytest.mark.parametrize(("s_code", "q_code"), [(2, 0), (0, 1)])
def test_one_transform_alone_is_no_conflict(tmp_path, s_code, q_code):
    path = nifti(tmp_path / "pet.nii", voxels(), sform=moved(10, -5, 5), s_code=s_code, q_code=q_code)
    expected = (-107.5, -92.5, -495.0) if s_code else (-97.5, -97.5, -500.0)
    assert read_volume(path, units="suv").geometry.origin == pytest.approx(expected)


def test_transforms_that_agree_are_read_as_ever(tmp_path):
    path = nifti(tmp_path / "pet.nii.gz", voxels(), sform=AFFINE, s_code=2, q_code=1)
    volume = read_volume(path, units="suv")
    assert np.array_equal(volume.array, voxels()) and volume.geometry.matches(GRID)


# ---------------------------------------------------------------------------------------- directions


def text_image(path: Path, shear: float, length: float = 1.0, array: np.ndarray | None = None) -> Path:
    """An NRRD or MetaImage whose second axis leans by `shear` and is `length` long in its directions."""
    array = voxels() if array is None else array
    size = " ".join(map(str, array.shape[::-1]))
    kinds = {"f4": ("float", "MET_FLOAT"), "u1": ("uchar", "MET_UCHAR")}[array.dtype.str[1:]]
    if path.suffix == ".nrrd":
        header = (
            f"NRRD0004\ntype: {kinds[0]}\ndimension: 3\nspace: left-posterior-superior\nsizes: {size}\n"
            f"space directions: (5,0,0) ({5 * shear},5,0) (0,0,5)\n"
            "kinds: domain domain domain\nendian: little\n"
            "encoding: raw\nspace origin: (0,0,0)\n\n"
        )
    else:
        header = (
            "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\n"
            f"CompressedData = False\nTransformMatrix = 1 0 0 {shear} {length} 0 0 0 1\nOffset = 0 0 0\n"
            f"ElementSpacing = 5 5 5\nDimSize = {size}\nElementType = {kinds[1]}\nElementDataFile = LOCAL\n"
        )
    path.write_bytes(header.encode() + array.tobytes())
    return path


def sheared(folder: Path, name: str, array: np.ndarray) -> Path:
    if name.endswith(".nii.gz"):
        affine = AFFINE.copy()
        affine[0, 1] = 0.05
        return nifti(folder / name, array, sform=affine, s_code=1)
    return text_image(folder / name, 0.01, array=array)


@pytest.mark.parametrize("name", ["pet.nii.gz", "pet.nrrd", "pet.mha"])
def test_sheared_axes_are_named_in_every_format(tmp_path, name):
    for line in (
        refusal(read_volume, sheared(tmp_path, name, voxels())),
        refusal(read_segments, sheared(tmp_path, name, mask()), GRID),
    ):
        assert "not orthonormal" in line and "resample" in line and "save it again" in line
        assert "damaged" not in line and "copy it again" not in line


@pytest.mark.parametrize("name", ["pet.nrrd", "pet.mha"])
def test_what_is_wrong_with_the_axes_is_told(tmp_path, name):
    assert "axes 1 and 2 are 89.43 degrees apart" in refusal(read_image, text_image(tmp_path / name, 0.01))
    parallel = text_image(tmp_path / name, 1e9)
    assert "not orthonormal" in refusal(read_image, parallel)


def test_directions_that_are_no_unit_vectors(tmp_path):
    line = refusal(read_image, text_image(tmp_path / "pet.mha", 0.0, 1.5))
    assert "not orthonormal (the direction of axis 2 has the length 1.5)" in line


def test_axes_that_are_one_and_the_same(tmp_path):
    path = text_image(tmp_path / "pet.nrrd", 0.0)
    path.write_bytes(path.read_bytes().replace(b"(0.0,5,0)", b"(10.,0,0)"))
    assert "not orthonormal" in refusal(read_image, path)


@pytest.mark.parametrize("name", ["pet.nrrd", "pet.mha"])
def test_rounded_directions_are_accepted(tmp_path, name):
    assert read_image(text_image(tmp_path / name, 4e-4)).GetSize() == (9, 8, 6)


@pytest.mark.parametrize("form", ["classic", "enhanced"])
def test_dicom_directions(tmp_path, form):
    write_series(tmp_path, orientation=(1.0, 0.0, 0.0, 0.01, 0.99995, 0.0), form=form)
    line = refusal(read_volume, tmp_path)
    assert "(0020,0037)" in line and "not orthonormal" in line and "resample" in line


def test_the_command_line_refuses_in_one_line(tmp_path, capfd):
    image = nifti(tmp_path / "pet.nii.gz", voxels(), sform=moved(10, -5, 5), s_code=2, q_code=1)
    (tmp_path / "pet.json").write_text(json.dumps({"Units": "SUV"}))
    for command in (
        ["suv", str(image)],
        ["denoise", str(image), "-o", str(tmp_path / "out")],
        ["quantify", str(image), "--lesions", str(image)],
    ):
        assert main(command) == 2
        out, err = capfd.readouterr()
        assert err.count("\n") == 1 and "sform" in err and not out
    assert not (tmp_path / "out").exists()


def test_a_folder_in_the_place_of_an_image_is_called_one(tmp_path):
    with pytest.raises(InputError, match="it is a folder"):
        read_image(tmp_path)


@pytest.mark.parametrize("label", ["", " "])
def test_a_label_that_says_nothing_counts_as_none(tmp_path, label):
    with pytest.raises(InputError) as caught:
        read_volume(tmp_path / "absent.nii.gz", label=label)
    assert str(tmp_path / "absent.nii.gz") in str(caught.value)


def test_training_and_evaluation_do_not_take_damaged_lesions_for_none(tmp_path):
    """A patient whose lesions cannot be read is no patient without lesions."""
    from drmc.datasets.manifest import Case
    from drmc.evaluation.measures import Pair
    from drmc.training.pairs import Wanted, load_pairs

    shape = (16, 18, 20)
    for name in ("full", "low"):
        nifti(tmp_path / f"{name}.nii.gz", voxels(shape), sform=AFFINE, s_code=1)
        (tmp_path / f"{name}.json").write_text(json.dumps({"Units": "SUV"}))
    paths = {"full": tmp_path / "full.nii.gz", "low": {4.0: tmp_path / "low.nii.gz"}}
    lesions = nifti(tmp_path / "l.nii.gz", mask(shape), sform=moved(10, -5, 5), s_code=2, q_code=1)
    empty = nifti(tmp_path / "e.nii.gz", mask(shape) * 0, sform=AFFINE, s_code=1)
    conflict = Case("a", "C1", "train", lesions=lesions, **paths)
    without = Case("b", "C1", "train", lesions=empty, **paths)
    wanted = Wanted(lesions=True)
    assert load_pairs(without, wanted=wanted)[0].lesions == ()
    assert "sform" in refusal(lambda: load_pairs(conflict, wanted=wanted))
    assert Pair.read(without, 4.0, simulated=False).segments == []
    assert "sform" in refusal(lambda: Pair.read(conflict, 4.0, simulated=False).segments)
