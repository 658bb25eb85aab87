"""Compressed PET: every lossless transfer syntax gives the native series' voxels, bit for bit.

With the declared dependencies alone.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pydicom.pixels
import pytest
from drmc.dicom import decode
from drmc.dicom.series import read_pet_series
from drmc.errors import InputError
from drmc.pet.reading import read_volume
from pydicom.dataset import Dataset
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
)
from support.engine.compressed_dicom import by_simpleitk, jpeg_2000, without_plugins
from support.engine.synthetic_dicom import write_series


def jpeg_ls(values: np.ndarray) -> bytes:
    """A lossless JPEG-LS code stream of one unsigned slice."""
    return bytes(pytest.importorskip("jpeg_ls").encode(values))


@pytest.fixture
def encoders(tmp_path: Path) -> dict[str, Callable[[np.ndarray], bytes]]:
    """By transfer syntax."""
    folder = tmp_path / "encoder"
    folder.mkdir()
    jpeg = by_simpleitk(folder, "JPEG")
    return {
        JPEGLossless: jpeg,
        JPEGLosslessSV1: jpeg,
        JPEGLSLossless: jpeg_ls,
        JPEG2000Lossless: jpeg_2000,
    }


def compress(file: Path, syntax: str, encode: Callable[[np.ndarray], bytes], fragments: int = 1) -> None:
    """Compresses a file in place, each frame in so many fragments."""
    ds = pydicom.dcmread(file)
    shape = (int(ds.get("NumberOfFrames", 1)), ds.Rows, ds.Columns)
    stored = np.frombuffer(ds.PixelData, "<u2", int(np.prod(shape))).reshape(shape)
    ds.PixelData = pydicom.encaps.encapsulate([encode(one) for one in stored], fragments)
    ds["PixelData"].VR = "OB"
    ds["PixelData"].is_undefined_length = True
    ds.file_meta.TransferSyntaxUID = syntax
    ds.save_as(file)


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_volume(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


SYNTAXES = [JPEGLossless, JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless]


@pytest.mark.parametrize("form", ["classic", "enhanced", "legacy"])
@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda uid: uid.keyword)
def test_voxels_are_those_of_the_native_series(tmp_path, monkeypatch, encoders, syntax, form):
    array = np.random.default_rng(8).uniform(-2e3, 2e4, (3, 16, 21))
    files = write_series(tmp_path / "pet", array, form=form)
    native = read_volume(tmp_path / "pet")
    for file in files:
        compress(file, syntax, encoders[syntax], fragments=2)
    assert np.array_equal(read_volume(tmp_path / "pet").array, native.array)
    without_plugins(monkeypatch)
    volume = read_volume(tmp_path / "pet")
    assert np.array_equal(volume.array, native.array) and native.array.min() < 0
    assert volume.suv.to_dict() == native.suv.to_dict() and volume.geometry == native.geometry


@pytest.mark.parametrize("stored", [10, 12, 16])
@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda uid: uid.keyword)
@pytest.mark.parametrize("plugins", [True, False])
def test_signed_values_of_any_width(tmp_path, monkeypatch, encoders, syntax, stored, plugins):
    """Whether the encoder has kept the sign in the bits above those stored or not."""
    high = 1 << (stored - 1)
    expected = np.random.default_rng(stored).integers(-high, high, (4, 24, 32)).astype("<i2")
    files = write_series(tmp_path / "pet", np.ones((4, 24, 32)), RescaleSlope=1.0)
    for number, (file, values) in enumerate(zip(files, expected, strict=True)):
        ds = pydicom.dcmread(file)
        ds.BitsStored, ds.HighBit = stored, stored - 1
        bits = values.view("<u2")
        ds.PixelData = (bits if number % 2 else bits & ((1 << stored) - 1)).astype("<u2").tobytes()
        ds.save_as(file)
        compress(file, syntax, encoders[syntax])
    if not plugins:
        without_plugins(monkeypatch)
    assert np.array_equal(read_volume(tmp_path / "pet").array, expected)


@pytest.mark.parametrize("form", ["classic", "enhanced", "legacy"])
def test_a_deflated_series(tmp_path, form):
    """The whole data set is one deflated stream, so that no length in it says how long the file is."""
    array = np.random.default_rng(9).uniform(0, 2e4, (4, 40, 40)) * (np.arange(40) > 20)
    files = write_series(tmp_path, array, form=form)
    native = read_volume(tmp_path)
    for file in files:
        ds = pydicom.dcmread(file)
        ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
        ds.save_as(file)
        assert file.stat().st_size < len(ds.PixelData)
    volume = read_volume(tmp_path)
    assert np.array_equal(volume.array, native.array)
    assert volume.suv.to_dict() == native.suv.to_dict()


def test_a_deflated_file_that_is_cut_is_named(tmp_path):
    files = write_series(tmp_path, rows=20, columns=20)
    for file in files:
        ds = pydicom.dcmread(file)
        ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
        ds.save_as(file)
    whole = files[1].read_bytes()
    for size in (400, len(whole) // 2, len(whole) - 8):
        files[1].write_bytes(whole[:size])
        line = refusal(tmp_path)
        assert files[1].name in line and "truncated" in line


@pytest.mark.parametrize("plugins", [True, False])
@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda uid: uid.keyword)
def test_a_code_stream_that_does_not_end_is_refused(tmp_path, monkeypatch, encoders, syntax, plugins):
    """GDCM would fill up what is missing."""
    files = write_series(tmp_path / "pet", np.random.default_rng(1).uniform(0, 2e4, (3, 40, 40)))
    for file in files:
        encode = encoders[syntax]
        cut = lambda values, encode=encode: encode(values)[:-600]
        compress(file, syntax, cut if file == files[1] else encode)
    if not plugins:
        without_plugins(monkeypatch)
    assert "IM0001.dcm" in refusal(tmp_path / "pet") and "cannot be decoded" in refusal(tmp_path / "pet")


def test_a_compression_that_nothing_decodes(tmp_path):
    files = write_series(tmp_path, rle=True)
    for file in files:
        ds = pydicom.dcmread(file)
        ds.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.201"
        ds.save_as(file)
    line = refusal(tmp_path)
    assert "High-Throughput JPEG 2000" in line and "decompress" in line and "pylibjpeg" in line


def test_a_stream_of_another_compression_than_the_header_says(tmp_path):
    files = write_series(tmp_path, rle=True)
    for file in files:
        ds = pydicom.dcmread(file)
        ds.file_meta.TransferSyntaxUID = JPEGLosslessSV1
        ds.save_as(file)
    assert "cannot be decoded" in refusal(tmp_path)


def test_what_gdcm_is_given_says_nothing_of_the_patient(tmp_path, monkeypatch, encoders):
    files = write_series(tmp_path / "pet", np.ones((2, 8, 9)))
    for file in files:
        compress(file, JPEGLosslessSV1, encoders[JPEGLosslessSV1])
    written: list[bytes] = []
    save_as = Dataset.save_as

    def keep(ds: Dataset, path: str, **options: object) -> None:
        save_as(ds, path, **options)
        written.append(Path(path).read_bytes())

    monkeypatch.setattr(Dataset, "save_as", keep)
    read_pet_series(tmp_path / "pet")
    assert len(written) == 2 and not any(b"SECRET" in one or b"Mustermann" in one for one in written)


@pytest.mark.parametrize("syntax", sorted(decode.ALWAYS_LOSSY))
def test_a_lossy_syntax_is_told_though_the_header_does_not(tmp_path, syntax):
    image = pytest.importorskip("PIL.Image")

    def encode(values: np.ndarray) -> bytes:
        stream = io.BytesIO()
        image.fromarray(values.astype(np.uint8)).save(stream, "JPEG", quality=95)
        return stream.getvalue()

    files = write_series(tmp_path, np.ones((2, 16, 16)), signed=False, RescaleSlope=1.0)
    for file in files:
        ds = pydicom.dcmread(file)
        ds.BitsAllocated, ds.BitsStored, ds.HighBit = 8, 8, 7
        ds.PixelData = pydicom.encaps.encapsulate([encode(np.full((16, 16), 100))])
        ds["PixelData"].VR = "OB"
        ds.file_meta.TransferSyntaxUID = syntax
        ds.save_as(file)
    volume = read_volume(tmp_path)
    assert np.abs(volume.array - 100).max() <= 1
    assert any("compressed with loss" in notice and UID(syntax).name in notice for notice in volume.notices)
