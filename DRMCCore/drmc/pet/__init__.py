"""A PET scan: voxels, geometry and SUV; reading it from any format, writing it as DICOM."""
