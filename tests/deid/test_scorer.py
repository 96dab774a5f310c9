"""Judge the judge: full marks for a perfect result, and each defect fails its own category."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pydicom.data
import pytest
from pydicom.dataset import Dataset

from tests.support.deid_burn import PICTURED, render
from tests.support.deid_by_hand import new_uid, perfect
from tests.support.deid_bytes import forms, found_in, value_holds
from tests.support.deid_documents import make
from tests.support.deid_inject import inject, lenient, read, to_bytes
from tests.support.deid_ledger import MIDI_B, PRIVACY, UTILITY, Ledger, Line
from tests.support.deid_malformed import MAKERS, malformed
from tests.support.deid_people import person
from tests.support.deid_pixels import decode
from tests.support.deid_score import Expectation, score
from tests.support.deid_score_pixels import score_pixels
from tests.support.deid_stats import Score, wilson


def wheel(name: str) -> bytes:
    found = pydicom.data.get_testdata_file(name, download=False)
    return Path(str(found)).read_bytes()


NAMES = ("CT_small.dcm", "MR_small.dcm", "JPEG2000.dcm", "CT_small.dcm")


@pytest.fixture(scope="module")
def planted() -> dict[str, tuple[bytes, bytes, Ledger]]:
    """Four files of two patients: original, injected, ledger."""
    found = {}
    for number, name in enumerate(NAMES):
        patient = "ab"[number // 2]
        changed, ledger = inject(
            wheel(name), person(f"judge {patient}"), patient, f"j{number}", share=1.0
        )
        found[f"{number}.dcm"] = (wheel(name), changed, ledger)
    return found


Defect = Callable[[Dataset], None]


def scored(
    planted: dict[str, tuple[bytes, bytes, Ledger]],
    change: Defect | None = None,
    *,
    outputs: dict[str, bytes] | None = None,
    only: str = "",
) -> Score:
    """Score perfect outputs, with a defect in all of them or in ``only`` one."""
    if outputs is None:
        outputs = {
            name: perfect(*each, change if only in ("", name) else None)
            for name, each in planted.items()
        }
    return score(
        {name: (lambda raw=each[1]: raw) for name, each in planted.items()},
        {name: each[2] for name, each in planted.items()},
        {name: (lambda raw=raw: raw) for name, raw in outputs.items()},
        Expectation(),
    )


def failing(result: Score) -> set[str]:
    return {check.category for check in result.checks if not check.passed}


def test_a_perfect_result_has_full_marks(planted: dict) -> None:
    result = scored(planted)
    assert not result.failures()
    for category in MIDI_B:
        assert result.rate(category).of, category
    assert result.rate("file_clean").of == result.rate("date_interval").of == 4
    assert not result.quarantined


def test_releasing_everything_as_it_is_has_no_privacy(planted: dict) -> None:
    result = scored(planted, outputs={name: each[1] for name, each in planted.items()})
    rate = dict(result.rates())
    assert rate["privacy"].share == 0.0
    assert rate["file_clean"].share == rate["deid_marked"].share == 0.0
    assert rate["date_interval"].share == rate["patid_consistent"].share == 0.0
    assert rate["tag_retained"].share == 1.0


def test_deleting_everything_has_no_utility(planted: dict) -> None:
    outputs = {}
    for name, each in planted.items():
        with lenient():
            dataset = read(each[1])
            bare = pydicom.FileDataset("", {}, preamble=b"\0" * 128, file_meta=dataset.file_meta)
            bare.SOPClassUID = dataset.SOPClassUID
            bare.file_meta.pop("PrivateInformation", None)
            outputs[name] = to_bytes(bare)
    result = scored(planted, outputs=outputs)
    rate = dict(result.rates())
    assert rate["text_removed"].share == rate["date_shifted"].share == 1.0
    assert rate["utility"].share < 0.1
    assert rate["date_interval"].share == rate["file_valid"].share == 0.0


def test_a_quarantined_valid_file_costs_utility_and_gains_no_privacy(planted: dict) -> None:
    result = scored(planted, outputs={})
    rate = dict(result.rates())
    assert rate["utility"].share == 0.0
    assert rate["privacy"].of == 0
    assert len(result.quarantined) == 4


def _set(keyword: str, value: object) -> Defect:
    return lambda dataset: setattr(dataset, keyword, value)


def _delete(keyword: str) -> Defect:
    return lambda dataset: dataset.__delattr__(keyword)


def _constant_dates(dataset: Dataset) -> None:
    for element in dataset:
        if element.VR == "DA" and element.value:
            element.value = "00010101"


def _one_pixel(dataset: Dataset) -> None:
    data = bytearray(dataset.PixelData)
    data[len(data) // 2] ^= 1
    dataset["PixelData"]._value = bytes(data)


def _overlay(dataset: Dataset) -> None:
    for group in (0x6000, 0x6002, 0x601E):
        dataset.add_new((group, 0x3000), "OW", b"\x55" * 2048)


def _name_in_euc_kr(dataset: Dataset) -> None:
    who = person("judge a")
    text = (who.full_hangul or who.given).encode("euc-kr")
    dataset.preamble = text.ljust(128, b"\0")


def _explicit_syntax(dataset: Dataset) -> None:
    dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2"


@pytest.mark.parametrize(
    ("change", "only", "categories"),
    [
        (_set("PatientBirthName", f"{person('judge a').given}"), "0.dcm",
         {"text_removed", "file_clean"}),
        (_name_in_euc_kr, "0.dcm", {"file_clean"}),
        (_set("StudyDate", ""), "0.dcm", {"date_interval", "text_notnull"}),
        (_set("StudyDate", "20200101"), "0.dcm", {"date_interval"}),
        (_constant_dates, "", {"date_interval"}),
        (_set("PatientID", "OTHER"), "0.dcm", {"patid_consistent"}),
        (_set("PatientID", ""), "0.dcm", {"patid_consistent", "text_notnull"}),
        (_delete("Rows"), "0.dcm", {"tag_retained", "file_valid", "pixels_retained"}),
        (_set("KVP", "1"), "0.dcm", {"tag_retained"}),
        (_set("StudyDescription", ""), "0.dcm", {"text_retained"}),
        (_set("PatientSex", ""), "0.dcm", {"text_retained"}),
        (_set("Modality", ""), "0.dcm", {"text_notnull", "file_valid", "tag_retained"}),
        (_set("SeriesInstanceUID", "2.25.1"), "0.dcm", {"uid_consistent"}),
        (_set("FrameOfReferenceUID", "2.25.1"), "", {"uid_consistent"}),
        (_one_pixel, "0.dcm", {"pixels_retained"}),
        (_overlay, "0.dcm", {"pixels_hidden"}),
        (_delete("PatientIdentityRemoved"), "0.dcm", {"deid_marked"}),
        (_delete("AccessionNumber"), "0.dcm", {"file_valid"}),
    ],
)  # fmt: skip
def test_a_defect_fails_its_own_categories_and_no_other(
    planted: dict, change: Defect, only: str, categories: set[str]
) -> None:
    assert failing(scored(planted, change, only=only)) == categories


def test_an_old_uid_is_seen(planted: dict) -> None:
    with lenient():
        old = str(read(planted["0.dcm"][1]).StudyInstanceUID)
    result = scored(planted, _set("StudyInstanceUID", old), only="0.dcm")
    assert "uid_changed" in failing(result)


def test_another_transfer_syntax_is_seen(planted: dict) -> None:
    result = scored(planted, _explicit_syntax, only="0.dcm")
    assert "ts_retained" in failing(result)


def test_two_patients_under_one_pseudonym_are_seen(planted: dict) -> None:
    result = scored(planted, _set("PatientID", "SAME"))
    assert result.rate("patid_consistent").share == 0.0


def test_a_released_malformed_file_is_counted() -> None:
    ledger = Ledger("m", must_be_refused=True)
    result = score({"x": lambda: b""}, {"x": ledger}, {"x": lambda: b""}, Expectation())
    assert result.malformed_released == ["x"]


@pytest.mark.parametrize("text", ["QUENTIN 12", PICTURED[0]])
@pytest.mark.parametrize("photometric", ["grey", "colour"])
def test_a_line_is_visible_until_it_is_covered(text: str, photometric: str) -> None:
    name = "CT_small.dcm" if photometric == "grey" else "SC_rgb_small_odd.dcm"
    before = read(wheel(name))
    rows, columns, ink = 128, 256, render(text, 18)
    samples = int(before.SamplesPerPixel)
    frames = np.full((rows, columns, samples), 20, np.uint16 if samples == 1 else np.uint8)
    h, w = ink.shape
    frames[30 : 30 + h, 20 : 20 + w] = np.maximum(20, ink)[:, :, None]
    script = "latin" if text.isascii() else "hangul"
    ledger = Ledger("p", lines=[Line(30, 20, 30 + h, 20 + w, None, script, text, ink.tobytes())])
    before.Rows, before.Columns, before.PlanarConfiguration = rows, columns, 0
    before["PixelData"]._value = frames.tobytes()

    def judged(change: Callable[[np.ndarray], None]) -> Score:
        after, result = read(to_bytes(before)), Score()
        array = frames.copy()
        change(array)
        after["PixelData"]._value = array.tobytes()
        with lenient():
            score_pixels("f", read(to_bytes(before)), after, ledger, True, result)
        return result

    def cover(a: np.ndarray) -> None:
        a[26 : 34 + h, 16 : 24 + w] = 0

    def half(a: np.ndarray) -> None:
        a[26 : 34 + h, 16 : 20 + w // 2] = 0

    def dimmed(a: np.ndarray) -> None:
        a //= 4

    def far(a: np.ndarray) -> None:
        cover(a)
        a[100:, 100:] = 7

    assert failing(judged(lambda a: None)) == {"pixels_hidden"}
    assert failing(judged(cover)) == set()
    assert failing(judged(half)) == {"pixels_hidden"}
    assert "pixels_hidden" in failing(judged(dimmed))
    assert failing(judged(far)) == {"pixels_retained"}


@pytest.mark.parametrize("text", ["홍길동", "洪吉洞", "Gildong", "ホン"])
def test_the_search_finds_text_in_every_encoding(text: str) -> None:
    for form in forms(text):
        assert found_in(b"\0\1" + form.upper() + b"\2", [text]) == [text]
    assert not found_in(b"nothing of the kind", [text])


def test_the_search_looks_into_a_deflated_data_set_and_a_pdf() -> None:
    dataset = read(wheel("image_dfl.dcm"))
    dataset.PatientName = "Quailridge^Thaddeus"
    raw = to_bytes(dataset)
    assert b"Thaddeus" not in raw
    assert found_in(raw, ["Thaddeus"])
    who = person("pdf")
    document, _ = make("pdf", who, "p", 1)
    with lenient():
        body = read(document).EncapsulatedDocument
    assert who.mobile.encode() not in body
    assert found_in(body, [who.mobile])


def test_a_value_is_compared_without_case_in_both_normal_forms() -> None:
    assert value_holds(["seen by GILDONG"], "gildong")
    assert value_holds(["\u1112\u1169\u11bc"], "홍")
    assert value_holds(["홍길동".encode("euc-kr")], "홍길동")
    assert not value_holds(["Chest"], "gildong")


def test_injection_is_the_same_for_the_same_seed_and_plants_what_it_says() -> None:
    one, ledger = inject(wheel("CT_small.dcm"), person("x"), "x", "s", share=1.0)
    two, _ = inject(wheel("CT_small.dcm"), person("x"), "x", "s", share=1.0)
    assert one == two
    missing = [p.place for p in ledger.planted for text in p.gone if not found_in(one, [text])]
    # hanja that no Korean or Japanese character set holds, text cut to its VR's length
    assert len(missing) <= 0.04 * len(ledger.planted), missing


@pytest.mark.parametrize(
    "name", ["SC_rgb_rle.dcm", "examples_rgb_color.dcm", "JPEG2000.dcm", "MR_small_expb.dcm",
             "examples_palette.dcm", "examples_ybr_color.dcm"],
)  # fmt: skip
def test_burned_in_lines_survive_being_written(name: str) -> None:
    raw = wheel(name)
    changed, ledger = inject(raw, person("x"), "x", name, lines=3)
    with lenient():
        before, after = read(raw), read(changed)
        old, new = decode(before), decode(after)
        assert before.file_meta.TransferSyntaxUID == after.file_meta.TransferSyntaxUID
    assert old.shape == new.shape
    if min(before.Rows, before.Columns) >= 200:
        assert len(ledger.lines) >= 2
        assert (old != new).any()


def test_every_malformed_file_differs_from_the_sound_one() -> None:
    sound = wheel("CT_small.dcm")
    made = malformed(sound, person("m"))
    assert len(made) == len(MAKERS) >= 12
    assert len(set(made.values())) == len(made)


def test_documents_hold_what_was_planted() -> None:
    for kind in ("sr", "pdf", "cda", "gsps"):
        raw, ledger = make(kind, person("d"), "d", 3)
        gone = {text for each in ledger.planted for text in each.gone}
        assert not gone - set(found_in(raw, gone)), kind


def test_wilson_bounds_are_those_of_the_paper() -> None:
    """Wilson (1927); 8 of 10: Agresti and Coull (1998) give 0.490 to 0.943."""
    low, high = wilson(8, 10)
    assert (round(low, 3), round(high, 3)) == (0.490, 0.943)
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(300, 300)[0] == pytest.approx(0.98736, abs=1e-4)


def test_categories_are_privacy_or_utility_and_never_both() -> None:
    assert not set(PRIVACY) & set(UTILITY)
    assert set(PRIVACY) | set(UTILITY) == set(MIDI_B)
    assert new_uid("1") == new_uid("1") != new_uid("2")
