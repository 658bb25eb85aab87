"""How well the simulated noise agrees with real scans: the study behind docs/calibration.md."""
