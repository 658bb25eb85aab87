"""The six centers of the paper's Table 1 as simulation parameters: the one place for them.

Marks: t = Table 1 of the paper, r = read in a published performance figure, a = assumed (vendor protocols are not
public), m = measured with this simulator (the count multiplier, calibrated to the stated liver variation).
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

from drmc.errors import InputError

F18_HALF_LIFE_MINUTES = 109.77


@dataclass(frozen=True)
class Center:
    """One center: scanner, protocol and reconstruction. Tuples are (z, y, x)."""

    name: str
    scanner: str
    region: str  # "wholebody" or "brain"
    voxel_mm: tuple[float, float, float]  # t
    matrix: int  # t: stored matrix
    reconstruction_matrix: int  # a: larger than `matrix` where that would cut off arms at the side
    dose_reduction_factors: tuple[float, ...]  # t: the first is the center's own
    injected_mbq: float  # t
    system_psf_mm: tuple[float, float, float]  # FWHM of the true resolution
    modelled_psf_mm: float  # a: FWHM that OSEM models, 0 = none
    views: int  # a: over 180 degrees
    subsets: int
    iterations: int
    post_filter_mm: float  # a: FWHM of the Gaussian post-filter, 0 = none
    sensitivity: float  # counts per decay inside the axial field of view, without attenuation
    seconds: float  # a: effective time per slice = bed time / (1 - overlap)
    scatter_fraction: float  # S / (T + S)
    randoms_fraction: float  # a: R / (T + S + R)
    count_multiplier: float  # m: on the physical counts, so that the non-TOF path meets `liver_cv`
    liver_cv: float  # target at full dose in the reference ellipse; 0 = not calibrated
    uptake_minutes: float = 60.0  # a
    bed_step_mm: float = 0.0  # 0 = single bed
    axial_field_mm: float = 218.0

    @property
    def dose_reduction_factor(self) -> float:
        """The center's own dose reduction factor (Table 1)."""
        return self.dose_reduction_factors[0]

    def counts_per_suv_mm(self, weight_kg: float) -> float:
        """Expected trues per bin for a line integral of 1 SUV mm, without attenuation and multiplier.

        K = S * c * dz/1000 * T * dx / views with c = A * 2^(-t/T_half) / weight, the Bq/ml of one SUV.
        """
        decay = 2.0 ** (-self.uptake_minutes / F18_HALF_LIFE_MINUTES)
        bq_per_ml = self.injected_mbq * 1e6 * decay / (weight_kg * 1000.0)
        volume = self.voxel_mm[0] / 1000.0 * self.voxel_mm[2] / self.views
        return self.sensitivity * bq_per_ml * volume * self.seconds

    def to_dict(self) -> dict:
        """The whole table row, JSON-able."""
        return asdict(self)


_M660 = {
    "voxel_mm": (1.87, 3.15, 3.15),  # t
    "matrix": 192,
    "reconstruction_matrix": 192,
    "injected_mbq": 293.0,
    "system_psf_mm": (4.7, 4.3, 4.3),  # r: 3.6 at 1 cm, 4.1 to 4.7 at 10 cm
    "modelled_psf_mm": 4.0,  # a
    "views": 180,
    "subsets": 10,
    "sensitivity": 0.034,  # r: 10.7 cps/kBq over 700 mm, axial field 218 mm
    "scatter_fraction": 0.382,  # r
    "bed_step_mm": 135.0,  # r: 38 % overlap
    "axial_field_mm": 218.0,
}

CENTERS: dict[str, Center] = {
    center.name: center
    for center in (
        Center(
            "C1",
            "PoleStar m660",
            "wholebody",
            dose_reduction_factors=(12.0,),
            iterations=4,  # a
            post_filter_mm=4.0,  # a
            seconds=150.0,  # a: 95 s a bed
            randoms_fraction=0.35,  # a
            count_multiplier=0.75,  # m
            liver_cv=0.10,  # r: 9 to 12 % on two scanner generations (Kim 2020)
            **_M660,
        ),
        Center(
            "C2",
            "PoleStar Flight",
            "wholebody",
            voxel_mm=(1.75, 3.12, 3.12),  # t
            matrix=192,
            reconstruction_matrix=192,
            dose_reduction_factors=(4.0,),
            injected_mbq=293.0,
            system_psf_mm=(5.2, 4.9, 4.9),  # a
            modelled_psf_mm=0.0,  # a
            views=180,
            subsets=12,
            iterations=4,  # a
            post_filter_mm=5.0,  # a
            sensitivity=0.029,  # a: 9 cps/kBq over 700 mm, axial field 218 mm
            seconds=120.0,  # a: 75 s a bed
            scatter_fraction=0.38,  # a
            randoms_fraction=0.35,  # a
            count_multiplier=1.7,  # m: 1.9 at the sensitivity of 0.026 that it was measured with
            liver_cv=0.10,  # a
            bed_step_mm=135.0,  # a
        ),
        Center(
            "C3",
            "uEXPLORER",
            "wholebody",
            voxel_mm=(2.89, 1.67, 1.67),  # t
            matrix=256,
            reconstruction_matrix=320,  # 256 x 1.67 mm = 427 mm cuts off arms at the side
            dose_reduction_factors=(10.0,),
            injected_mbq=296.0,
            system_psf_mm=(3.2, 3.1, 3.1),  # r: 2.9
            modelled_psf_mm=3.0,  # a
            views=240,
            subsets=20,
            iterations=3,  # a
            post_filter_mm=3.0,  # a
            sensitivity=0.174,  # r
            seconds=300.0,  # a
            scatter_fraction=0.363,  # r
            randoms_fraction=0.30,  # a
            count_multiplier=0.60,  # m
            liver_cv=0.07,  # a
            axial_field_mm=1940.0,
        ),
        Center(
            "C4",
            "Biograph Vision Quadra",
            "wholebody",
            voxel_mm=(1.65, 1.65, 1.65),  # t
            matrix=256,
            reconstruction_matrix=320,
            dose_reduction_factors=(10.0,),
            injected_mbq=296.0,
            system_psf_mm=(3.8, 3.5, 3.5),  # r
            modelled_psf_mm=3.5,  # a
            views=240,
            subsets=5,  # r: 4i5s
            iterations=4,  # r
            post_filter_mm=0.0,  # a
            sensitivity=0.083,  # r: maximum ring difference 85
            seconds=600.0,  # a
            scatter_fraction=0.37,  # r
            randoms_fraction=0.25,  # a
            count_multiplier=0.20,  # m: 0.12 meets a liver CV of .09, but is noisier than real scans
            liver_cv=0.07,  # r: 7 to 15 %
            axial_field_mm=1060.0,
        ),
        Center(
            "C5",
            "PoleStar m660",
            "brain",
            dose_reduction_factors=(4.0,),
            iterations=4,  # a
            post_filter_mm=3.0,  # a
            seconds=480.0,  # a
            randoms_fraction=0.20,  # a
            count_multiplier=1.0,
            liver_cv=0.0,
            **{
                **_M660,
                "voxel_mm": (1.87, 1.18, 1.18),  # t
                "matrix": 256,
                "reconstruction_matrix": 256,
                "system_psf_mm": (4.0, 3.7, 3.7),  # a
                "modelled_psf_mm": 3.5,  # a
                "views": 240,
                "scatter_fraction": 0.30,  # a
                "bed_step_mm": 0.0,
            },
        ),
        Center(
            "C6",
            "PoleStar m660",
            "wholebody",
            dose_reduction_factors=(12.0, 3.0, 4.0, 6.0),
            iterations=3,  # a
            post_filter_mm=5.0,  # a
            seconds=110.0,  # a: 70 s a bed
            randoms_fraction=0.40,  # a
            count_multiplier=0.35,  # m
            liver_cv=0.11,  # a
            **_M660,
        ),
    )
}


def find_center(name: str) -> Center:
    """The center of that name; InputError lists the known ones."""
    if name not in CENTERS:
        raise InputError(f"unknown center '{name}': choose from {', '.join(CENTERS)}")
    return CENTERS[name]


def axial_profile(center: Center, z_mm):
    """Relative sensitivity at axial positions `z_mm` (tensor, mm from the start of the first bed), mean 1 over a bed step.

    Sum of the triangular sensitivities of overlapping beds; constant for a single bed.
    """
    import torch

    if center.bed_step_mm <= 0:
        return torch.ones_like(z_mm)
    half, step = center.axial_field_mm / 2, center.bed_step_mm

    def beds(position):
        reach = math.ceil(half / step) + 1
        offset = position.remainder(step)
        total = torch.zeros_like(position)
        for bed in range(-reach, reach + 1):
            distance = (offset - bed * step).abs()
            total += torch.where(
                distance <= half, (1 - distance / half).clamp(min=0.02), torch.zeros_like(distance)
            )
        return total

    one_period = (torch.arange(512, dtype=z_mm.dtype) + 0.5) * (step / 512)
    return beds(z_mm) / beds(one_period).mean()
