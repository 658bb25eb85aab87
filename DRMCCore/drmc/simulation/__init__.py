"""Simulated multi-center low-dose PET with known truth: anatomy -> scanner -> counts -> thinning -> OSEM -> SUV.

Everything made here is simulated and says so in its sidecar files. Arrays are (z, y, x), SUV in g/ml, attenuation in
1/mm at 511 keV, lengths in mm, times in seconds, activities in Bq.
"""
