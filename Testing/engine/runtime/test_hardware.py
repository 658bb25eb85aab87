"""What is said of the machine must be true of this one."""

from __future__ import annotations

import json
import os

import numpy as np
from drmc.runtime import hardware


def test_the_machine_is_described_by_what_it_has():
    facts = hardware.describe()
    assert json.loads(json.dumps(facts)) == facts
    assert 1 <= facts["physical_cores"] <= os.cpu_count()
    assert facts["processor"].strip()
    # this process alone holds more than the hundredth of a gigabyte, and no machine holds less than it uses
    held = np.ones(10_000_000 // 8)
    assert facts["memory_bytes"] is None or facts["memory_bytes"] > held.nbytes
    assert "gpu" not in facts
