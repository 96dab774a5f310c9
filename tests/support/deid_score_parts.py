"""Which elements of a real file must stay as they are, and which are instance UIDs?

By the standard's own lists: what Table E.1-1 names is judged by what was planted; of what it does
not name, numbers and coded strings are technical and must survive.
"""

from __future__ import annotations

import functools
import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydicom.datadict import dictionary_has_tag, dictionary_is_retired, dictionary_VM, dictionary_VR
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

Key = tuple[tuple[int, int], ...]
"""An element's place: (tag, item) of every sequence around it, then (its tag, 0)."""

_TABLE = Path(__file__).parents[2] / "deid/data/standard/table_E1-1_basic_2026c_options_2024e.json"
_NUMBERS = frozenset(["US", "SS", "UL", "SL", "FL", "FD", "DS", "IS", "CS", "AT"])
_SAFE_TEXT = frozenset([
    "Manufacturer", "ManufacturerModelName", "SoftwareVersions", "CodeMeaning", "CodeValue",
    "CodingSchemeDesignator", "ConvolutionKernel", "SequenceName",
])  # fmt: skip
# set by de-identification itself, by another syntax's way of writing, or by redaction
_REWRITTEN = frozenset([
    "BurnedInAnnotation", "PatientIdentityRemoved", "LongitudinalTemporalInformationModified",
    "SpecificCharacterSet", "PlanarConfiguration", "PhotometricInterpretation",
    "LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod",
    "SmallestImagePixelValue", "LargestImagePixelValue", "RecognizableVisualFeatures",
    "TimezoneOffsetFromUTC", "DataSetTrailingPadding", "ImageType",
])  # fmt: skip
# sequences that go, or may go, as a whole
_GOING = re.compile(
    "Icon|OriginalAttr|Signature|MACParam|Graphic|Identification|OtherPatientIDs|RequestAttr|"
    "ReferencedPatient|ContributingEquip|ReferencedStudy|EncryptedAttr|ModifiedAttr|Person|"
    "RequestingService|Deidentif|ScheduledStep|ReferencedPerformedProcedure|PerformedProtocol|"
    "ReasonForRequested|Physician|Institution|Operator|Participant|ObserverS|Verifying|"
    "ReferencedRequest|Custodian"
)
_CLASS_LIKE = re.compile(
    "SOPClass|TransferSyntax|CodingSchemeUID|ContextUID|MappingResource|ContextGroup|Creator|"
    "ImplementationClass|SpecificationUID|PrivateInformation"
)
_VALID = {
    "CS": re.compile(r"[A-Z0-9 _]{0,16}"),
    "DS": re.compile(r"[-+0-9eE. ]{0,16}"),
    "IS": re.compile(r" *[-+]?[0-9]{0,12} *"),
}


@functools.cache
def table_e1_1() -> frozenset[str]:
    """Tags of Table E.1-1 as eight hexadecimal digits; repeating groups with their x."""
    rows = json.loads(_TABLE.read_text())
    return frozenset(re.sub(r"[^0-9A-Fa-fxX]", "", row["tag"]).lower() for row in rows)


def flatten(dataset: Dataset) -> dict[Key, DataElement]:
    """Give every element at any depth by its place."""
    return dict(_walk(dataset, ()))


def _walk(dataset: Dataset, above: Key) -> Iterator[tuple[Key, DataElement]]:
    for element in dataset:
        key = (*above, (int(element.tag), 0))
        yield key, element
        if element.VR == "SQ":
            for number, item in enumerate(element.value or []):
                yield from _walk(item, (*above, (int(element.tag), number)))


def tags_of(key: Key) -> tuple[int, ...]:
    """The tags of a place, items aside."""
    return tuple(tag for tag, _ in key)


def by_tags(elements: Mapping[Key, DataElement]) -> dict[tuple[int, ...], list[Any]]:
    """Give all values by tags; a sequence holds whatever stands in it."""
    found: dict[tuple[int, ...], list[Any]] = defaultdict(list)
    for key, element in elements.items():
        if element.VR == "SQ":
            found[tags_of(key)].append("")
            continue
        tags = tags_of(key)
        for depth in range(1, len(tags) + 1):
            found[tags[:depth]].append(element.value)
    return found


def is_instance_uid(element: DataElement | None) -> bool:
    """Whether this names an instance, and not a class, a syntax or a well-known thing."""
    if element is None or element.VR != "UI" or not element.value or element.tag.is_private:
        return False
    if _CLASS_LIKE.search(element.keyword) or not element.keyword:
        return False
    first = element.value[0] if isinstance(element.value, MultiValue) else element.value
    return not str(first).startswith("1.2.840.10008.")


def is_technical(key: Key, element: DataElement) -> bool:
    """Whether a number or coded string that nothing in Annex E names, with a value of its VR."""
    if not _is_plain(key, element) or element.VR not in _NUMBERS:
        return False
    if element.VM > 1 and dictionary_VM(key[-1][0]) == "1":
        return False  # not what its VR says: may go
    check = _VALID.get(element.VR)
    values = element.value if isinstance(element.value, MultiValue) else [element.value]
    return check is None or all(check.fullmatch(str(each)) for each in values)


def is_safe_text(key: Key, element: DataElement) -> bool:
    """Whether free text of devices and codes that must survive where nothing was planted."""
    if element.keyword == "CodeMeaning" and len(key) < 2:
        return False
    return element.keyword in _SAFE_TEXT and _is_plain(key, element)


def _is_plain(key: Key, element: DataElement) -> bool:
    if element.value in (None, "") or (isinstance(element.value, MultiValue) and not element.value):
        return False
    for tag, _ in key:
        if (tag >> 16) % 2 or not dictionary_has_tag(tag) or dictionary_is_retired(tag):
            return False
        if (tag >> 16) in (0x0002, 0x5000, 0x6000) or (tag & 0xFFFF) == 0:
            return False
        if f"{tag:08x}" in table_e1_1():
            return False
    if dictionary_VR(key[-1][0]) != element.VR and element.VR not in dictionary_VR(key[-1][0]):
        return False
    return element.keyword not in _REWRITTEN and not _GOING.search(_words(key))


@functools.cache
def _words(key: Key) -> str:
    from pydicom.datadict import keyword_for_tag

    return " ".join(keyword_for_tag(tag) for tag, _ in key)


def same_value(old: object, new: object) -> bool:
    """Whether two values say the same; blanks at the ends do not count."""
    olds = list(old) if isinstance(old, MultiValue) else [old]
    news = list(new) if isinstance(new, MultiValue) else [new]
    return len(olds) == len(news) and all(
        str(a).strip().rstrip("\0") == str(b).strip().rstrip("\0") or _same_number(a, b)
        for a, b in zip(olds, news, strict=True)
    )


def _same_number(a: object, b: object) -> bool:
    try:
        return float(str(a)) == float(str(b))
    except ValueError:
        return False
