"""The start of a DICOM object about a scan: its patient and study, a series of its own, and what made it."""

from __future__ import annotations

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from drmc import __version__
from drmc.dicom.references import instance_of
from drmc.pet.dicom_writing import Equipment, now_of, public_copy, series_number

# Of the patient and the study of the source. What the header lacks and DICOM wants may be empty (type 2).
_SHARED = (
    *("IssuerOfPatientID", "PatientIdentityRemoved", "DeidentificationMethod"),
    *("DeidentificationMethodCodeSequence", "StudyDescription", "TimezoneOffsetFromUTC"),
)
_SHARED_OR_EMPTY = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("StudyDate", "StudyTime", "ReferringPhysicianName", "StudyID", "AccessionNumber"),
)


def started(
    header: Dataset,
    *,
    sop_class: str,
    modality: str,
    description: str,
    series_number_step: int,
    denoised_by: Equipment | None = None,
) -> Dataset:
    """An object with patient, study, series and equipment, and without its content.

    Args:
        header: that of a slice of the source series.
        sop_class: SOPClassUID (0008,0016).
        modality: Modality (0008,0060).
        description: SeriesDescription (0008,103E).
        series_number_step: how far its series number is above that of the source.
        denoised_by: what made the denoised image, if the object is about one.
    """
    known = public_copy(header)
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    for keyword in (*_SHARED, *_SHARED_OR_EMPTY):
        if keyword in known:
            ds[keyword] = known[keyword]
        elif keyword in _SHARED_OR_EMPTY:
            setattr(ds, keyword, None)
    now = now_of(ds)
    ds.StudyInstanceUID = instance_of(header).study
    ds.SOPClassUID, ds.SOPInstanceUID = sop_class, generate_uid()
    ds.Modality = modality
    ds.SeriesInstanceUID = generate_uid()
    ds.SeriesNumber = series_number(header, series_number_step)
    ds.SeriesDescription = description
    ds.Manufacturer, ds.ManufacturerModelName = "DRMC", "DRMC"
    ds.DeviceSerialNumber = __version__  # software has no other
    ds.SoftwareVersions = [f"drmc {__version__}"]
    if denoised_by is not None:
        ds.SoftwareVersions = [f"drmc {__version__}", f"SHA-256 {denoised_by.sha256[:16]}"]
    ds.InstanceNumber = 1
    ds.InstanceCreationDate = ds.ContentDate = ds.SeriesDate = now.strftime("%Y%m%d")
    ds.InstanceCreationTime = ds.ContentTime = ds.SeriesTime = now.strftime("%H%M%S.%f")
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    return ds
