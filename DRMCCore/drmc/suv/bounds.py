"""The usual and the possible ranges of values in a PET scan, applied by `drmc.suv.plausibility`.

Between the inner two bounds a value is usual. Outside them it is unusual: a warning. Outside the outer two it
is implausible: refused, unless the caller vouches for it, since phantoms, small animals and unusual protocols
exist. Each row names its source; "assumed" rows have none but are wide enough for every published protocol.
"""

from __future__ import annotations

import re
from typing import NamedTuple


class Bounds(NamedTuple):
    """Outer bounds refuse, inner bounds warn; in the unit of the table."""

    lowest: float
    low: float
    high: float
    highest: float
    source: str = "assumed"

    def judge(self, value: float) -> str:
        """The verdict on a value: "usual", "unusual" or "implausible"."""
        if not self.lowest <= value <= self.highest:
            return "implausible"
        return "usual" if self.low <= value <= self.high else "unusual"


# Injected activity per body weight, MBq/kg.
DOSE_MBQ_PER_KG: dict[str, Bounds] = {
    # EANM 2.0 (Boellaard 2015) 1.75 to 7 MBq/kg; EANM dosage card 2016: up to 14 MBq/kg in infants; long
    # axial scanners down to 0.3 MBq/kg (Badawi 2019, Tan 2021).
    "F-18": Bounds(
        0.15, 0.5, 15.0, 40.0, "EANM 2015, EANM dosage card 2016, Badawi 2019; outer bounds assumed"
    ),
    # EANM/SNMMI PSMA 1.8 to 2.2 MBq/kg, DOTA peptides 100 to 200 MBq (Bozkurt 2017).
    "Ga-68": Bounds(0.1, 0.5, 8.0, 40.0, "EANM/SNMMI 2017; outer bounds assumed"),
    "C-11": Bounds(0.2, 1.5, 20.0, 60.0, "EANM choline 370 to 740 MBq; outer bounds assumed"),
    "N-13": Bounds(0.5, 2.0, 20.0, 60.0, "ASNC/SNMMI 2016: 370 to 740 MBq; outer bounds assumed"),
    "O-15": Bounds(0.5, 2.0, 40.0, 120.0, "ASNC/SNMMI 2016; outer bounds assumed"),
    "Rb-82": Bounds(0.5, 4.0, 40.0, 120.0, "ASNC/SNMMI 2016: 740 to 2220 MBq; outer bounds assumed"),
    "Cu-64": Bounds(0.1, 0.7, 8.0, 40.0, "148 MBq DOTATATE label, 4 MBq/kg PSMA; outer bounds assumed"),
    "Zr-89": Bounds(0.02, 0.2, 2.5, 20.0, "37 to 74 MBq (Makris 2014); outer bounds assumed"),
    "I-124": Bounds(0.02, 0.2, 3.0, 40.0, "EANM dosimetry 20 to 74 MBq; outer bounds assumed"),
    # Imaged after therapy.
    "Y-90": Bounds(0.1, 1.0, 150.0, 500.0),
    "Lu-177": Bounds(0.1, 1.0, 200.0, 500.0),
    "": Bounds(0.02, 0.1, 40.0, 200.0),  # any other, such as those of phantoms
}

# Minutes from the injection to the reference time. Below the lowest the image would be from before the
# injection.
UPTAKE_MINUTES: dict[str, Bounds] = {
    "F-18": Bounds(-2.0, 0.0, 240.0, 360.0, "protocols up to 3 h; 6 h assumed"),
    "Ga-68": Bounds(-2.0, 0.0, 200.0, 300.0, "PSMA up to 3 h; assumed"),
    "C-11": Bounds(-2.0, 0.0, 100.0, 150.0, "PiB up to 90 min; assumed"),
    "N-13": Bounds(-2.0, 0.0, 40.0, 80.0),
    "O-15": Bounds(-2.0, 0.0, 12.0, 20.0),
    "Rb-82": Bounds(-2.0, 0.0, 10.0, 15.0),
}
# Of any other nuclide, in half-lives; below zero as above.
UPTAKE_HALF_LIVES = Bounds(-1.0, 0.0, 6.0, 10.0)
UPTAKE_FDG_MINUTES = (30.0, 120.0)  # usual ones: EANM 2.0 recommends 60, older protocols 45 to 90

WEIGHT_KG = Bounds(0.5, 1.5, 300.0, 650.0, "heaviest patients on record about 635 kg")
HEIGHT_M = Bounds(0.25, 0.4, 2.2, 2.75, "tallest person on record 2.72 m")
BMI = Bounds(7.0, 10.0, 60.0, 110.0)  # preterm infants about 8

# The 99.9th percentile of the SUV in the body. FDG without the bladder 5 to 20; PSMA kidneys and any bladder
# reach 60 to 150 (66.5 is the maximum of the whole-body reference scan).
SUV_PERCENTILE = Bounds(0.05, 0.5, 120.0, 300.0)
PERCENTILE = 99.9
FEWEST_VOXELS = 1000  # in the body; for fewer the 99.9th percentile is the maximum

# Ideal body weight was fitted to adults from 152 cm (60 inches, Devine 1974); its line reaches zero at 107
# cm.
IBW_HEIGHT_M = (1.40, 1.52)
# Janmahasatian 2005 was fitted to adults of BMI 17.1 to 69.9; Du Bois 1916 to people from 0.73 m.
JANMAHASATIAN_BMI = (17.1, 69.9)
JANMAHASATIAN_PEOPLE = "Janmahasatian's formula is for adults of BMI {:g} to {:g}".format(*JANMAHASATIAN_BMI)
ADULT_WEIGHT_KG = 35.0
DU_BOIS_HEIGHT_M = 0.73


def is_of_janmahasatian(weight_kg: float, height_m: float) -> bool:
    """Whether Janmahasatian's formula was made for people of this weight and height."""
    low, high = JANMAHASATIAN_BMI
    return weight_kg >= ADULT_WEIGHT_KG and low <= weight_kg / height_m**2 <= high


# Patterns of tracer names, and the nuclides with which these tracers are made.
TRACERS: tuple[tuple[re.Pattern[str], tuple[str, ...]], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), nuclides)
    for pattern, nuclides in (
        (r"\bfdg\b|deoxy-?glucose|fludeoxyglucose", ("F-18",)),
        (r"psma-?1007|dcfpyl|piflufolastat|flotufolastat|florbeta|flutemetamol|flortaucipir", ("F-18",)),
        (r"\b(flt|fmiso|fet|fes|fdopa|f-dopa|naf|faza)\b|fluciclovine|sodium ?fluoride", ("F-18",)),
        (r"fluoro(choline|thymidine|dopa|estradiol)|flurpiridaz|flubrobenguane", ("F-18",)),
        (
            r"psma-?11|psma-?617|dota-?(tate|toc|noc)|edotreotide|oxodotreotide",
            ("Ga-68", "Cu-64", "F-18", "Lu-177"),
        ),
        (r"\bpib\b|raclopride|acetate|methionine", ("C-11",)),
        (r"\brubidium\b|\brb-?82\b|cardiogen", ("Rb-82",)),
        (r"\bammonia\b|\bnh3\b", ("N-13",)),
        (r"\bh2o\b|\b15o-?water\b|oxygen-?water", ("O-15",)),
    )
)
