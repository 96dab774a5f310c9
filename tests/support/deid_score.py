"""How well were injected files de-identified? The ten categories of MIDI-B, and seven of our own.

Each output is compared with its injected input and ledger. A valid file that was quarantined fails
its utility checks and takes no part in privacy. What MIDI-B's own script lets pass is caught by our
categories: dates that are constant or gone (`date_interval`), identity in places no attribute names
(`file_clean`), files that no longer read (`file_valid`).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pydicom.dataset import Dataset

from tests.support.deid_bytes import found_in, value_holds
from tests.support.deid_inject import lenient, read
from tests.support.deid_ledger import Ledger
from tests.support.deid_score_parts import (
    Key,
    by_tags,
    flatten,
    is_instance_uid,
    is_safe_text,
    is_technical,
    same_value,
    tags_of,
)
from tests.support.deid_score_pixels import score_pixels
from tests.support.deid_score_valid import why_invalid
from tests.support.deid_stats import Score

_NEVER_EMPTY = (
    "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "Modality",
    "PatientID", "PatientName",
)  # fmt: skip


@dataclass(slots=True)
class Expectation:
    """What the profile promises beyond the Basic Profile."""

    modified_dates: bool = True
    option_tier: bool = True  # descriptions cleaned, patient characteristics kept
    pixels_cleaned: bool = False  # burned-in lines are looked for


@dataclass(slots=True)
class _Seen:
    """What only all files together can show."""

    shifts: dict[str, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    file_shifts: list[tuple[str, str, set[int], bool]] = field(default_factory=list)
    uids: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    uid_pairs: list[tuple[str, str, str, str]] = field(default_factory=list)
    patients: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    patient_ids: list[tuple[str, str, str, str]] = field(default_factory=list)


def score(
    inputs: Mapping[str, Callable[[], bytes]],
    ledgers: Mapping[str, Ledger],
    outputs: Mapping[str, Callable[[], bytes]],
    expects: Expectation,
) -> Score:
    """Score one run.

    Args:
        inputs: every injected file, by its name relative to the input folder.
        ledgers: the same names.
        outputs: what was released, by the *input's* name (the mapping's first column).
        expects: what the profile promises.
    """
    result, seen = Score(), _Seen()
    for name, load in inputs.items():
        ledger = ledgers[name]
        released = outputs.get(name)
        if ledger.must_be_refused:
            result.malformed += 1
            if released is not None:
                result.malformed_released.append(name)
            continue
        if released is None and (
            ledger.may_be_refused or (ledger.says_burned_in and not expects.pixels_cleaned)
        ):
            continue
        result.files += not ledger.may_be_refused
        if not ledger.may_be_refused:
            result.add("file_present", "file", name, released is not None)
        if released is None:
            result.quarantined.append(name)
        with lenient():
            _score_file(
                name, load(), released() if released else None, ledger, expects, result, seen
            )
    _score_together(result, seen)
    return result


def _score_file(
    name: str, raw: bytes, out: bytes | None, ledger: Ledger, expects: Expectation,
    result: Score, seen: _Seen,
) -> None:  # fmt: skip
    try:
        before = read(raw)
        elements = flatten(before)
    except Exception:  # untouched odd input: only its release as clean bytes could be judged
        return
    if out is None:
        _score_missing(name, before, elements, ledger, expects, result)
        return
    left = found_in(out, ledger.secrets)
    result.add("file_clean", "/".join(sorted(map(repr, left)))[:60] or "file", name, not left)
    try:
        after = read(out)
        after_elements = flatten(after)
    except Exception:
        result.add("file_valid", "unreadable", name, False)
        return
    reason = why_invalid(before, after)
    result.add("file_valid", reason or "file", name, not reason)
    tags = by_tags(after_elements)
    _score_planted(name, ledger, tags, expects, result)
    _score_dates(name, ledger, elements, after_elements, expects, result, seen)
    _score_uids(name, before, after, elements, after_elements, result, seen)
    if ledger.may_be_refused:
        return
    _score_utility(name, ledger, before, elements, after_elements, expects, result)
    old, new = str(before.get("PatientID", "")), str(after.get("PatientID", ""))
    seen.patients[ledger.patient][new] += 1
    seen.patient_ids.append((name, ledger.patient, old, new))
    syntax = [str(each.file_meta.get("TransferSyntaxUID", "")) for each in (before, after)]
    if syntax[0]:
        result.add("ts_retained", syntax[0], name, syntax[0] == syntax[1])
    result.add("deid_marked", "file", name, _is_marked(after, expects))
    score_pixels(name, before, after, ledger, expects.pixels_cleaned, result)


def _score_planted(
    name: str, ledger: Ledger, tags: Mapping[tuple[int, ...], list[Any]], expects: Expectation,
    result: Score,
) -> None:  # fmt: skip
    for each in ledger.planted:
        if not each.path:
            continue  # the bytes are searched
        values = tags.get(each.path, [])
        if each.gone:
            gone = not any(value_holds(values, secret) for secret in each.gone)
            result.add("text_removed", each.place, name, gone, each.tier)
        if each.kept and expects.option_tier and not ledger.may_be_refused:
            for word in each.kept:
                result.add(
                    "text_retained",
                    f"{each.place} {word}",
                    name,
                    value_holds(values, word),
                    "option",
                )


def _score_missing(
    name: str, before: Dataset, elements: Mapping[Key, Any], ledger: Ledger,
    expects: Expectation, result: Score,
) -> None:  # fmt: skip
    """A valid file that was not released: nothing of use is left of it."""
    nothing: dict[Key, Any] = {}
    _score_utility(name, ledger, before, elements, nothing, expects, result)
    _score_planted(name, Ledger("", [p for p in ledger.planted if not p.gone]), {}, expects, result)
    for category in ("patid_consistent", "pixels_retained", "uid_consistent"):
        if category != "pixels_retained" or "PixelData" in before:
            result.add(category, "quarantined", name, False)


def _day(value: object) -> datetime | None:
    text = str(value)[:8]
    try:
        return datetime.strptime(text, "%Y%m%d")
    except ValueError:
        return None


def _score_dates(
    name: str, ledger: Ledger, elements: Mapping[Key, Any], after: Mapping[Key, Any],
    expects: Expectation, result: Score, seen: _Seen,
) -> None:  # fmt: skip
    shifts: set[int] = set()
    has_study = False
    for key, element in elements.items():
        if element.VR not in ("DA", "DT") or (key[-1][0] >> 16) % 2 or not element.value:
            continue
        old = _day(element.value)
        if old is None or old.year < 1900:
            continue
        new = after.get(key)
        values = [] if new is None or not new.value else [new.value]
        place = f"date/{element.keyword}"
        result.add("date_shifted", place, name, not value_holds(values, f"{old:%Y%m%d}"))
        if element.keyword == "PatientBirthDate" or not values:
            continue
        day = _day(values[0])
        shifts.add((day - old).days if day else 0)
        has_study = has_study or element.keyword == "StudyDate"
    if expects.modified_dates and not ledger.may_be_refused:
        seen.shifts[ledger.patient].update(shifts)
        seen.file_shifts.append((name, ledger.patient, shifts, has_study))


def _score_uids(
    name: str, before: Dataset, after: Dataset, elements: Mapping[Key, Any],
    after_elements: Mapping[Key, Any], result: Score, seen: _Seen,
) -> None:  # fmt: skip
    pairs = []
    for key, element in elements.items():
        if not is_instance_uid(element):
            continue
        new = after_elements.get(key)
        olds = element.value if element.VM > 1 else [element.value]
        news = [] if new is None or not new.value else new.value if new.VM > 1 else [new.value]
        for place, old in enumerate(olds):
            value = str(news[place]) if place < len(news) else ""
            pairs.append((element.keyword, str(old), value))
    meta = str(after.file_meta.get("MediaStorageSOPInstanceUID", ""))
    if "SOPInstanceUID" in before and is_instance_uid(before["SOPInstanceUID"]):
        pairs.append(("MediaStorageSOPInstanceUID", str(before.SOPInstanceUID), meta))
    for keyword, old, new_uid in pairs:
        result.add("uid_changed", keyword, name, old != new_uid)
        if new_uid:
            seen.uids[old][new_uid] += 1
            seen.uid_pairs.append((name, keyword, old, new_uid))


def _score_utility(
    name: str, ledger: Ledger, before: Dataset, elements: Mapping[Key, Any],
    after: Mapping[Key, Any], expects: Expectation, result: Score,
) -> None:  # fmt: skip
    planted = {each.path for each in ledger.planted}
    for key, element in elements.items():
        if tags_of(key) in planted:
            continue
        new = after.get(key)
        if is_technical(key, element):
            kept = new is not None and same_value(element.value, new.value)
            result.add("tag_retained", element.keyword, name, kept)
        elif expects.option_tier and is_safe_text(key, element):
            kept = new is not None and same_value(element.value, new.value)
            result.add("text_retained", f"safe/{element.keyword}", name, kept, "option")
    needed = [*_NEVER_EMPTY, *(["StudyDate"] if expects.modified_dates else [])]
    for keyword in needed:
        if before.get(keyword):
            key = next(
                (k for k, e in elements.items() if len(k) == 1 and e.keyword == keyword), None
            )
            value = after[key].value if key in after else ""
            result.add("text_notnull", keyword, name, bool(str(value).strip()))


def _is_marked(after: Dataset, expects: Expectation) -> bool:
    codes = {
        str(each.get("CodeValue")) for each in after.get("DeidentificationMethodCodeSequence", [])
    }
    longitudinal = "MODIFIED" if expects.modified_dates else "REMOVED"
    return (
        after.get("PatientIdentityRemoved") == "YES"
        and "113100" in codes
        and after.get("LongitudinalTemporalInformationModified") == longitudinal
    )


def _score_together(result: Score, seen: _Seen) -> None:
    for name, patient, shifts, has_study in seen.file_shifts:
        usual = seen.shifts[patient].most_common(1)
        right = has_study and shifts == {usual[0][0]} and 0 not in shifts
        result.add("date_interval", "file", name, right)
    owners: dict[str, set[str]] = defaultdict(set)
    for patient, found in seen.patients.items():
        for new in found:
            owners[new].add(patient)
    for name, patient, old, new in seen.patient_ids:
        usual_id = seen.patients[patient].most_common(1)[0][0]
        right = bool(new) and new != old and new == usual_id and len(owners[new]) == 1
        result.add("patid_consistent", "PatientID", name, right)
    origins: dict[str, set[str]] = defaultdict(set)
    for old, news in seen.uids.items():
        for each in news:
            origins[each].add(old)
    for name, keyword, old, new in seen.uid_pairs:
        right = new == seen.uids[old].most_common(1)[0][0] and len(origins[new]) == 1
        result.add("uid_consistent", keyword, name, right)
