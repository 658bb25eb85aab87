"""DRMC: multi-center low-dose PET denoising by dynamic routing. Research use only.

    from drmc import denoise, read_volume

    volume = read_volume("scan.nii.gz")
    denoised, result = denoise(volume)

The public names are `read_volume`, `denoise`, `find_model` and `Denoiser`. Each is imported when it is first
used, so that importing this package loads neither torch nor numpy nor SimpleITK.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # for type checkers and editors; at run time `__getattr__` imports them
    from drmc.denoising.api import denoise
    from drmc.inference.denoiser import Denoiser
    from drmc.models.registry import find_model
    from drmc.pet.reading import read_volume

__version__ = "0.1.0"
__all__ = ["Denoiser", "__version__", "denoise", "find_model", "read_volume"]

_MODULE_OF = {
    "Denoiser": "drmc.inference.denoiser",
    "denoise": "drmc.denoising.api",
    "find_model": "drmc.models.registry",
    "read_volume": "drmc.pet.reading",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_MODULE_OF[name]), name)
    globals()[name] = value  # later look-ups do not come through here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
