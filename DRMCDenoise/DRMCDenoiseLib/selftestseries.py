"""A small DICOM PET series for the self test: nobody's patient, with all that the SUV needs."""

from __future__ import annotations

from pathlib import Path

import numpy as np

PET = "1.2.840.10008.5.1.4.1.1.128"
_FIELDS = {
    "PatientName": "Self^Test",
    "PatientID": "DRMC-SELF-TEST",
    "PatientWeight": "70",
    "PatientSex": "F",
    "StudyDate": "20240229",
    "SeriesDate": "20240229",
    "AcquisitionDate": "20240229",
    "StudyTime": "110000",
    "SeriesTime": "110000",
    "AcquisitionTime": "110000",
    "StudyID": "1",
    "SeriesDescription": "PET AC",
    "Manufacturer": "DRMC self test",
    "Modality": "PT",
    "Units": "BQML",
    "DecayCorrection": "START",
    "CorrectedImage": ["DECY", "ATTN"],
    "SeriesType": ["STATIC", "IMAGE"],
    "ImageType": ["ORIGINAL", "PRIMARY"],
    "CountsSource": "EMISSION",
    "FrameReferenceTime": "0",
    "ActualFrameDuration": "120000",
    "ImageOrientationPatient": ["1", "0", "0", "0", "1", "0"],
    "SamplesPerPixel": 1,
    "PhotometricInterpretation": "MONOCHROME2",
    "BitsAllocated": 16,
    "BitsStored": 16,
    "HighBit": 15,
    "PixelRepresentation": 1,
    "RescaleIntercept": "0",
    "SeriesNumber": 4,
}


def writeSeries(folder: Path, suv: np.ndarray, spacing: tuple[float, float, float]) -> str:
    """Writes an image in SUV (z, y, x) as a series of axial slices into a new folder.

    `spacing` in mm (x, y, z). Returns the UID of the series.
    """
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    folder.mkdir()
    study, series, frame = (str(generate_uid()) for _ in range(3))
    activity = suv * (3.5e8 / 70000.0)  # half of the dose has decayed by the start
    slope = float(np.float32(np.abs(activity).max() / 32000.0))
    for z, values in enumerate(activity):
        ds = Dataset()
        for keyword, value in _FIELDS.items():
            setattr(ds, keyword, value)
        ds.SOPClassUID, ds.SOPInstanceUID = PET, generate_uid()
        ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = study, series, frame
        ds.InstanceNumber = ds.ImageIndex = z + 1
        ds.NumberOfSlices = len(suv)
        ds.ImagePositionPatient = ["0", "0", f"{z * spacing[2]:g}"]
        ds.PixelSpacing = [f"{spacing[1]:g}", f"{spacing[0]:g}"]
        ds.SliceThickness = f"{spacing[2]:g}"
        injection = Dataset()
        injection.RadionuclideTotalDose = "7e8"
        injection.RadionuclideHalfLife = "6586.2"
        injection.RadiopharmaceuticalStartTime = "091013.8"
        injection.Radiopharmaceutical = "FDG"
        ds.RadiopharmaceuticalInformationSequence = [injection]
        ds.Rows, ds.Columns = values.shape
        ds.RescaleSlope = f"{slope:.8g}"
        ds.add_new("PixelData", "OW", np.rint(values / float(ds.RescaleSlope)).astype("<i2").tobytes())
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        ds.save_as(folder / f"{z:03d}.dcm", enforce_file_format=True)
    return series
