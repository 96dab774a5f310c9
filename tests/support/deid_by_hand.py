"""What would a perfect de-identifier have made of an injected file? By hand, to judge the judge.

It cheats: it knows the file before anything was planted, and the ledger. Nothing of the product.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import datetime, timedelta

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence

from tests.support.deid_inject import lenient, read, to_bytes
from tests.support.deid_ledger import Ledger
from tests.support.deid_score_parts import is_instance_uid

SHIFT_DAYS = -40


def new_uid(old: str) -> str:
    """Another UID, the same for the same old one."""
    return "2.25." + str(int.from_bytes(hashlib.sha256(old.encode()).digest()[:15], "big"))


def perfect(
    original: bytes,
    injected: bytes,
    ledger: Ledger,
    change: Callable[[Dataset], None] | None = None,
) -> bytes:
    """Give the file as it should be released.

    Args:
        original: before anything was planted.
        injected: after.
        ledger: what was planted.
        change: a defect to put in at the end.
    """
    with lenient():
        clean, dirty = read(original), read(injected)
        clean.decode()
        clean.remove_private_tags()
        for keyword in ("PatientAge", "PatientWeight", "PatientSex", "PatientSize", "StudyTime"):
            setattr(clean, keyword, dirty[keyword].value)
        for element in dirty:
            if element.VR in ("DA", "DT") and element.tag in clean:
                clean[element.tag].value = element.value
        clean.StudyDate = dirty.StudyDate
        clean.walk(_treat)
        clean.SpecificCharacterSet = "ISO_IR 192"
        clean.PatientID = clean.PatientName = f"P{hashlib.md5(ledger.patient.encode()).hexdigest()}"
        clean.PatientBirthDate = clean.AccessionNumber = clean.StudyID = ""
        clean.ReferringPhysicianName = ""
        _keep_words(clean, ledger)
        if getattr(clean, "PatientAge", "") == "093Y":
            clean.PatientAge = "090Y"
        clean.PatientIdentityRemoved = "YES"
        code = Dataset()
        code.CodeValue, code.CodingSchemeDesignator = "113100", "DCM"
        code.CodeMeaning = "Basic Application Confidentiality Profile"
        clean.DeidentificationMethodCodeSequence = Sequence([code])
        clean.LongitudinalTemporalInformationModified = "MODIFIED"
        clean.preamble = b"\0" * 128
        meta = FileMetaDataset()
        meta.TransferSyntaxUID = dirty.file_meta.TransferSyntaxUID
        meta.MediaStorageSOPClassUID = clean.SOPClassUID
        meta.MediaStorageSOPInstanceUID = clean.SOPInstanceUID
        meta.ImplementationClassUID = "1.2.3.4.5"
        clean.file_meta = meta
        if change is not None:
            change(clean)
        return to_bytes(clean)


def _treat(dataset: Dataset, element: object) -> None:
    """Move dates, map UIDs."""
    tag = element.tag  # type: ignore[attr-defined]
    item = dataset[tag]
    if is_instance_uid(item):
        values = item.value if item.VM > 1 else [item.value]
        mapped = [new_uid(str(each)) for each in values]
        item.value = mapped if len(mapped) > 1 else mapped[0]
    elif item.VR in ("DA", "DT") and item.value:
        try:
            day = datetime.strptime(str(item.value)[:8], "%Y%m%d")
        except ValueError:
            item.value = ""
            return
        item.value = f"{day + timedelta(days=SHIFT_DAYS):%Y%m%d}" + str(item.value)[8:]


def _keep_words(clean: Dataset, ledger: Ledger) -> None:
    for planted in ledger.planted:
        if planted.kept and len(planted.path) == 1 and planted.place.startswith("text/"):
            vr = "LT" if planted.place.endswith(("ImageComments", "History")) else "LO"
            vr = "ST" if planted.place.endswith("DerivationDescription") else vr
            clean.add_new(planted.path[0], vr, " ".join(planted.kept))
        elif planted.place == "private/safe":
            block = clean.private_block(0x0019, "SIEMENS MR HEADER", create=True)
            block.add_new(0x0C, "IS", planted.kept[0])
