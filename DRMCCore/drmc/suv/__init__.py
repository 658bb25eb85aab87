"""From header facts to an SUV factor.

`rules.decide` takes one mapping of DICOM keywords to plain values per slice, `sidecar.decide_sidecar` the
JSON beside an image; both return a `decision.SUVDecision`. No module here opens a file or imports pydicom.
Sources: DICOM PS3.3 C.8.9 (PET Series, PET Isotope and PET Image modules), the IBSI-SUV manual with its
reference objects, the QIBA FDG-PET/CT profile, and the vendors' headers in public series.

Units: stored values as the header's Units say, doses Bq, times s, weights kg, heights m, SUV g/ml (cm2/ml for
SUVbsa).
"""
