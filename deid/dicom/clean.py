"""How does one DICOM file become its de-identified copy, or a reason why not?

Open · refuse what must be refused · collect the object's own values · walk every element by its
rule · pixels · mark · write · verify the written bytes · repair once, or refuse. In that order; no
step is skipped, and nothing that failed verification is given out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from io import BytesIO

import pydicom
from pydicom._uid_dict import UID_dictionary
from pydicom.dataset import Dataset

from deid.dicom.collect import (
    PATIENT_ID,
    SOP_CLASS,
    SOP_UID,
    STUDY_UID,
    collect,
    needles_of,
    top_values,
)
from deid.dicom.container import (
    SYNTAXES,
    Out,
    Source,
    Writer,
    assemble,
    coding_of,
    read,
)
from deid.dicom.documents import DOCUMENT_TAG, LENGTH_TAG, MIME_TAG
from deid.dicom.elements import PIXEL_DATA
from deid.dicom.marking import BURNED_IN, apply_pixels, mark
from deid.dicom.pause import collector_paused
from deid.dicom.quiet import silent_pydicom
from deid.dicom.repair import repair
from deid.dicom.values import encode, is_uid, shifter
from deid.dicom.view import source_view
from deid.dicom.walk import Walk
from deid.errors import DeidRefusal
from deid.pixels import PixelOutcome, PixelReport, TextDetector, examine, face_verdict
from deid.profile import Profile
from deid.pseudonym import Pseudonymiser
from deid.report import DeidReport
from deid.rules import ClassRules, Rulebook
from deid.text import TextCleaner
from deid.verification import Fault, compile_needles, verify_output
from schemas.errors import ErrorCode

_DIRECTORY = "1.2.840.10008.1.3.10"
_STORAGE = "1.2.840.10008.5.1.4.1.1."
_STANDARD = "1.2.840.10008."
_REPAIRS = 4  # rounds: a hit names one place at a time, and a value rarely stands in more


@dataclass(frozen=True)
class CleanObject:
    """Hold one de-identified object.

    Attributes:
        patient: the patient's pseudonym.
        record: the pseudonym of the accession number; empty where the object had none.
        uid: the new SOP Instance UID.
        study: the new Study Instance UID; one made from the instance where the object had none.
        raw: the clean object as a complete DICOM file.
        pixels: what was done about its pixels; None where it has none.
        modality: the object's modality; empty where it states none.
        notes: fixed words on what was unusual, sorted.
    """

    patient: str
    record: str
    uid: str
    study: str
    raw: bytes = field(repr=False)
    pixels: PixelReport | None
    modality: str
    notes: tuple[str, ...]

    @cached_property
    def dataset(self) -> Dataset:
        """The clean dataset, read from `raw`."""
        with silent_pydicom:
            return pydicom.dcmread(BytesIO(self.raw))


class DicomDeidentifier:
    """De-identify DICOM objects of one hospital for one project.

    Args:
        profile: what may stay.
        pseudonymiser: the hospital's keyed pseudonyms.
        report: counts are added here.
        detector: finds text in images; None where the optional extra is not installed.
        accept_faces: the steward's reason for letting head volumes through; None holds them.
        require_patient: refuse an object without a patient number (else its study stands in).
    """

    def __init__(
        self,
        profile: Profile,
        pseudonymiser: Pseudonymiser,
        report: DeidReport,
        *,
        detector: TextDetector | None = None,
        accept_faces: str | None = None,
        require_patient: bool = False,
    ) -> None:
        self._profile = profile
        self._pseudonyms = pseudonymiser
        self._report = report
        self._detector = detector
        self._accept_faces = accept_faces
        self._require_patient = require_patient
        self._rulebook = Rulebook(profile)

    def clean(self, raw: bytes) -> CleanObject:
        """De-identify one complete DICOM file.

        Raises:
            DeidRefusal: the object cannot be read, must not be released, or failed verification;
                the code says which.
        """
        try:
            with silent_pydicom, collector_paused():
                return self._clean(raw)
        except DeidRefusal as refusal:
            self._report.refused[refusal.code] += 1
            raise
        except (ImportError, NameError):
            raise  # no file can cause it: a defect of ours must not pass for a damaged file
        except Exception:  # noqa: BLE001 - the record's edge: see the docstring of `_unreadable`
            self._report.refused[ErrorCode.DICOM_UNREADABLE] += 1
            raise _unreadable() from None

    def _clean(self, raw: bytes) -> CleanObject:
        source = read(raw)
        top = top_values(source)
        sop_class = _sop_class(source, top)
        self._check(source, sop_class)
        patient, notes = self._identity(raw, source, top)
        view = source_view(source) if _has_pixels(source) else None
        if view is not None:
            notes |= self._check_face(view)
        rules = self._rulebook.for_class(sop_class)
        gathered = collect(source, rules, top)
        cleaner = TextCleaner(gathered.own)
        walk = self._walk(source, top, patient, cleaner)
        outs = walk.data_set(source.elements)
        gathered.weak |= walk.changed
        self._identify(outs, walk, source, top, sop_class)
        outcome = None
        if view is not None:
            outcome = examine(view, source.syntax, self._profile, self._detector)
        syntax = apply_pixels(outs, outcome, source)
        mark(outs, source, self._profile, walk.unicode, outcome, walk.writer)
        needles = needles_of(gathered, walk.days)
        written, repaired = self._verified(outs, syntax, rules, cleaner, needles)
        notes |= walk.notes
        if repaired:
            notes.add("repaired")
        return self._released(outs, written, outcome, walk, notes, top)

    def _check(self, source: Source, sop_class: str) -> None:
        if sop_class == _DIRECTORY or any(e.tag >> 16 == 4 for e in source.elements[:8]):
            raise DeidRefusal(ErrorCode.DICOM_DIRECTORY)
        if not is_uid(sop_class):
            raise DeidRefusal(ErrorCode.DICOM_CLASS_MISSING)
        if not sop_class.startswith(_STANDARD):
            raise DeidRefusal(ErrorCode.DICOM_CLASS_PRIVATE)
        allowed = self._profile.sop_classes
        if (sop_class not in allowed) if allowed else not is_storage(sop_class):
            raise DeidRefusal(ErrorCode.DICOM_CLASS_UNKNOWN)
        if source.syntax not in (self._profile.transfer_syntaxes or SYNTAXES):
            raise DeidRefusal(ErrorCode.DICOM_SYNTAX_UNKNOWN)

    def _identity(self, raw: bytes, source: Source, top: dict[int, str]) -> tuple[str, set[str]]:
        """Give what the patient is known by; without a number, the study stands for the patient."""
        if not top.get(SOP_UID):
            top[SOP_UID] = source.sop_instance or f"digest:{sha256(raw).hexdigest()}"
        patient = top.get(PATIENT_ID, "")
        if patient:
            return patient, set()
        if self._require_patient:
            raise DeidRefusal(ErrorCode.PATIENT_MISSING)
        study = top.get(STUDY_UID)
        stand_in = f"study-uid:{study}" if study else f"instance-uid:{top[SOP_UID]}"
        return stand_in, {"patient-unstated"}

    def _check_face(self, view: Dataset) -> set[str]:
        if self._profile.faces != "hold":
            return set()
        verdict = face_verdict(view).verdict
        if verdict not in ("head", "unstated"):
            return set()
        if self._accept_faces is not None:
            return {"face-accepted"}
        if verdict == "head":
            raise DeidRefusal(ErrorCode.DICOM_FACE_HEAD)
        raise DeidRefusal(ErrorCode.DICOM_FACE_UNSTATED)

    def _walk(
        self, source: Source, top: dict[int, str], patient: str, cleaner: TextCleaner
    ) -> Walk:
        return Walk(
            patient=patient,
            pseudonyms=self._pseudonyms,
            cleaner=cleaner,
            writer=Writer(coding_of(source.syntax)),
            little=source.coding.little,
            age_cap=self._profile.age_cap,
            mime_type=top.get(MIME_TAG, ""),
            shift=shifter(self._pseudonyms.shift_days(patient)),
        )

    def _identify(
        self,
        outs: dict[int, Out],
        walk: Walk,
        source: Source,
        top: dict[int, str],
        sop_class: str,
    ) -> None:
        """Put in what makes the output an object even where the source said it elsewhere."""
        outs[SOP_CLASS] = Out(SOP_CLASS, "UI", sop_class.encode("ascii"))
        if not outs.get(SOP_UID, Out(SOP_UID, "UI", b"")).value:
            keep = self._profile.keep_uids and not top[SOP_UID].startswith("digest:")
            uid = top[SOP_UID] if keep else walk.new_uid(top[SOP_UID])
            outs[SOP_UID] = Out(SOP_UID, "UI", uid.encode("ascii"))
        if PATIENT_ID not in outs and STUDY_UID in outs:
            pseudonym = self._pseudonyms.patient(walk.patient)
            outs[PATIENT_ID] = Out(PATIENT_ID, "LO", pseudonym.encode("ascii"))
        document = outs.get(DOCUMENT_TAG)
        if document is not None and LENGTH_TAG in outs:
            size = encode("UL", len(document.value), source.coding.little)
            outs[LENGTH_TAG] = Out(LENGTH_TAG, "UL", size)
        if document is not None and BURNED_IN in outs:  # said of the pages that are gone
            outs[BURNED_IN] = Out(BURNED_IN, "CS", b"NO")

    def _verified(
        self,
        outs: dict[int, Out],
        syntax: str,
        rules: ClassRules,
        cleaner: TextCleaner,
        texts: set[str],
    ) -> tuple[bytes, bool]:
        """Write and verify; give the file and whether it had to be repaired."""
        needles = compile_needles(texts)
        for attempt in range(_REPAIRS):
            file = assemble([outs[tag] for tag in sorted(outs)], syntax)
            written = file.packed()
            faults = verify_output(written, rules, self._profile, needles)
            if not faults:
                return written, attempt > 0
            start = len(file.head)
            offsets = [fault.offset - start for fault in faults if fault.offset >= start]
            fixed = None
            if len(offsets) == len(faults) and _can_be_repaired(faults):
                coding = coding_of(syntax)
                fixed = repair(file.body, coding, offsets, needles, rules, cleaner)
            if fixed is None:
                break
            outs.clear()
            outs.update((out.tag, out) for out in fixed)
        if any(fault.kind == "identifier" for fault in faults):
            raise DeidRefusal(ErrorCode.IDENTIFIER_LEFT)
        raise DeidRefusal(ErrorCode.DICOM_OUTPUT_INVALID)

    def _released(
        self,
        outs: dict[int, Out],
        written: bytes,
        outcome: PixelOutcome | None,
        walk: Walk,
        notes: set[str],
        top: dict[int, str],
    ) -> CleanObject:
        report = self._report
        report.records += 1
        for kind, count in walk.counts.items():
            report.actions[str(kind)] += count
        report.notes.update(notes)
        pixels = outcome.report if outcome is not None else None
        if pixels is not None:
            report.add_pixels(
                pixels.why,
                pixels.examined,
                pixels.detected,
                pixels.ruled,
                pixels.removed_fraction,
                pixels.outside_text,
            )
        study = _text(outs, STUDY_UID) or self._pseudonyms.uid(f"study of {top[SOP_UID]}")
        return CleanObject(
            patient=self._pseudonyms.patient(walk.patient),
            record=_text(outs, 0x00080050),
            uid=_text(outs, SOP_UID),
            study=study,
            raw=written,
            pixels=pixels,
            modality=_text(outs, 0x00080060),
            notes=tuple(sorted(notes)),
        )


def removed_values(profile: Profile, raw: bytes) -> frozenset[str]:
    """Give what must be gone from one file's clean copy; empty for a file that cannot be read."""
    try:
        with silent_pydicom:
            source = read(raw)
            top = top_values(source)
            sop_class = _sop_class(source, top)
            gathered = collect(source, Rulebook(profile).for_class(sop_class), top)
            removed = needles_of(gathered, set())
            if profile.keep_uids:  # a day that is part of a UID which stays is not gone
                kept = "\n".join(gathered.allowed)
                removed = {text for text in removed if text not in kept}
            return frozenset(removed)
    except (ImportError, NameError):
        raise  # as in `clean`
    except Exception:  # noqa: BLE001 - as in `clean`
        return frozenset()


def is_storage(sop_class: str) -> bool:
    """Tell a standard storage class, one of a later edition than the dictionary's included."""
    if sop_class.startswith(_STORAGE):
        return True
    entry = UID_dictionary.get(sop_class)
    return (
        entry is not None
        and entry[1] == "SOP Class"
        and "Storage" in entry[0]
        and "Commitment" not in entry[0]
    )


def _has_pixels(source: Source) -> bool:
    return any(element.tag == PIXEL_DATA for element in reversed(source.elements))


def _sop_class(source: Source, top: dict[int, str]) -> str:
    return (top.get(SOP_CLASS) or source.sop_class).strip(" \0")


def _text(outs: dict[int, Out], tag: int) -> str:
    out = outs.get(tag)
    return out.value.decode("ascii", "replace").strip(" \0") if out is not None else ""


def _can_be_repaired(faults: tuple[Fault, ...]) -> bool:
    return all(fault.kind in ("identifier", "rule") for fault in faults)


def _unreadable() -> DeidRefusal:
    """Stand for whatever was raised on a damaged or hostile file.

    Decoders raise many kinds, some of them their own, and their text quotes the file's bytes.
    Here, at the record's edge, all end as one code, so that the file is quarantined and the rest
    goes on.
    """
    return DeidRefusal(ErrorCode.DICOM_UNREADABLE)
