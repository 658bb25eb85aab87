"""SUV decisions of synthetic headers, and real headers."""

from __future__ import annotations

import json
import math

import pytest
from drmc.errors import InputError
from drmc.suv import rules
from drmc.suv.decision import SUVDecision

from support.engine.synthetic_dicom import header_facts

F18 = 6586.2

LAMBDA = math.log(2.0) / F18

WEIGHT, HEIGHT, DOSE = 70.0, 1.75, 3.7e8

PLAIN = WEIGHT * 1000.0 / (DOSE * 2.0 ** (-3600.0 / F18))  # SUVbw per Bq/ml of the synthetic scan

HEADERS = ("SIEMENS", "GE_MEDICAL_AND_BQML", "PHILIPS_BQML", "PHILIPS_CNTS_AND_SUV")


def decide(slices: int = 3, *, suv_type: str = "bw", accept: str | None = None, **overrides) -> SUVDecision:
    return rules.decide(header_facts(slices, **overrides), suv_type=suv_type, accept_rule=accept)


def refusal(slices: int = 3, *, suv_type: str = "bw", accept: str | None = None, **overrides) -> str:
    with pytest.raises(InputError) as caught:
        decide(slices, suv_type=suv_type, accept=accept, **overrides)
    return str(caught.value)


def real_header(data_folder, name: str) -> list[dict]:
    instances = json.loads((data_folder / "suv_headers" / f"{name}-instances.json").read_text())
    for instance in instances:
        private = instance.pop("PhilipsPETPrivateGroup")
        instance["PhilipsSUVScaleFactor"] = private.get("SUVScaleFactor")
        instance["PhilipsActivityConcentrationScaleFactor"] = private.get("ActivityConcentrationScaleFactor")
    return instances


LATE = {"SeriesTime": "113000"}  # the series was reconstructed again, half an hour after the scan
