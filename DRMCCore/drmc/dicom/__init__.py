"""DICOM to plain values, geometry and voxels; no SUV rule is known here."""
