"""fp32 says float32, whatever the process has asked of PyTorch before; what it asked for is put back."""

from __future__ import annotations

import subprocess
import sys

import pytest

SAID_BEFORE = {
    "nothing": "",
    "old switches": "torch.backends.cuda.matmul.allow_tf32 = True; torch.backends.cudnn.allow_tf32 = True",
    "matmul precision": "torch.set_float32_matmul_precision('high')",
    "one new switch": "torch.backends.cuda.matmul.fp32_precision = 'tf32'",
    "all new switches": "torch.backends.fp32_precision = 'tf32'",
}
CHECK = """
import torch
{before}
from drmc.runtime.precision import float32_products
new = hasattr(torch.backends.cuda.matmul, "fp32_precision")
def seen():
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    if new:
        exact = (cudnn.conv.fp32_precision, matmul.fp32_precision)
    else:
        exact = (cudnn.allow_tf32, matmul.allow_tf32)
    return exact, cudnn.deterministic, cudnn.benchmark
at_first = seen()
for deterministic in (True, False):
    with float32_products(torch.device("cuda"), deterministic=deterministic):
        assert seen() == (("ieee", "ieee") if new else (False, False), deterministic, False), seen()
    assert seen() == at_first, seen()
try:
    with float32_products(torch.device("cuda"), deterministic=True):
        raise KeyError
except KeyError:
    assert seen() == at_first, seen()
with float32_products(torch.device("cpu"), deterministic=True):
    assert seen() == at_first
"""


@pytest.mark.parametrize("before", SAID_BEFORE)
def test_products_are_exact_and_the_process_keeps_its_settings(before):
    code = CHECK.format(before=SAID_BEFORE[before])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
