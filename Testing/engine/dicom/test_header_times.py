"""Times in a DICOM header that are none: a refusal names tag and value."""

from __future__ import annotations

import pytest
from drmc.dicom.times import unreadable_times
from drmc.errors import SUVRefusedError
from drmc.pet.reading import read_volume
from support.engine.synthetic_dicom import header_facts, write_series


@pytest.mark.parametrize("form", ["classic", "enhanced", "legacy"])
@pytest.mark.parametrize(
    ("keyword", "tag", "value"),
    [
        ("RadiopharmaceuticalStartTime", "(0018,1072)", "25:99"),
        ("RadiopharmaceuticalStartDateTime", "(0018,1078)", "yesterday"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_a_refusal_names_tag_and_value(tmp_path, form, keyword, tag, value):
    if form == "enhanced" and keyword.endswith("StartTime"):
        pytest.skip("an Enhanced PET image has no such element")
    times = {"RadiopharmaceuticalStartTime": None, "RadiopharmaceuticalStartDateTime": None, keyword: value}
    write_series(tmp_path, form=form, **times)
    with pytest.raises(SUVRefusedError) as caught:
        read_volume(tmp_path)
    line = str(caught.value)
    assert f"{keyword} {tag} '{value}' is not a" in line and "\n" not in line


def test_acquisition_times_that_are_none(tmp_path):
    write_series(tmp_path, AcquisitionTime="99:99")
    with pytest.raises(SUVRefusedError, match=r"AcquisitionTime \(0008,0032\) '99:99' is not a time of day"):
        read_volume(tmp_path)


def test_what_can_be_read_is_not_named():
    assert unreadable_times(header_facts()) == ""
    facts = header_facts(AcquisitionTime=lambda index: "110000" if index else "\x1b[1m")
    assert unreadable_times(facts) == " (AcquisitionTime (0008,0032) '?[1m' is not a time of day: correct it)"
    synonyms = {"AcquisitionTime (0008,0032)": "FrameAcquisitionDateTime (0018,9074)"}
    assert "FrameAcquisitionDateTime (0018,9074) '?[1m'" in unreadable_times(facts, synonyms)
