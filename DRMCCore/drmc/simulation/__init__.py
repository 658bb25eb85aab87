"""Simulated multi-center low-dose PET with known truth.

Anatomy, scanner, counts, thinning to low dose, OSEM reconstruction, SUV.

Everything made here is simulated and says so in its sidecar files. Arrays are (z, y, x), SUV in g/ml,
attenuation in 1/mm at 511 keV, lengths in mm, times in seconds, activities in Bq.
"""
