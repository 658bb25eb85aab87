"""Tolerances and ranges of the SUV rules."""

from __future__ import annotations

SAME_TIME_S = 3.0  # two clock readings within this are equal
BACK_SPREAD_S = 2.0  # largest spread of back-computed times that still are one time
PLAUSIBLE_WINDOW_S = 12 * 3600.0  # a reference time lies this close to the acquisition
BEFORE_ADMINISTRATION_S = 3600.0  # clocks differ: a reference time may lie this much before the injection
REBUILT_UPTAKE_LIMIT_S = 6 * 3600.0  # an uptake found from times of day alone is shorter than this
LONG_LIVED_HALF_LIFE_S = 41_400.0  # from here on a time of day is of no use without its date
DATED_UPTAKE_HALF_LIVES = 10.0  # an uptake between complete dates is shorter than this
HALF_LIFE_RANGE_S = (1.0, 1e10)
WARN_PERCENT, CONFIRM_PERCENT = 2.0, 5.0  # candidates that differ more: warn; the user has to confirm
DECAY_FACTOR_TOLERANCE = 1e-3  # scanners write it with few digits
SSF_AGREES_PERCENT = 0.5  # Philips writes its factors with few digits
FDG_UPTAKE_MINUTES = (30.0, 120.0)
