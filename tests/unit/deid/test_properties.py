"""What holds of every object, whatever stands in it: laws of de-identification, by random trees.

An object is a random tree of attributes that identify, describe, count, point or date, at any
depth, in any of the file's encodings, private, unknown and UN-coded ones among them. One person's
values are planted throughout. The checks here share no code with the product's own search.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from datetime import date, timedelta
from functools import cache
from io import BytesIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

from deid.dicom import CleanObject, DicomDeidentifier
from deid.dicom.quiet import silent_pydicom
from deid.profile import shipped_profile
from deid.pseudonym import Pseudonymiser
from deid.report import DeidReport

LAWS = settings(max_examples=40, derandomize=True, deadline=None, database=None)
SR = b"1.2.840.10008.5.1.4.1.1.88.33"
EXPLICIT, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"
BIG, DEFLATED = "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"
CHARSETS = {"ISO_IR 192": "utf-8", "\\ISO 2022 IR 149": "euc-kr", "GB18030": "gb18030"}
NAMES = ("Namgung^Gildong=南宮^吉洞=남궁^길동", "Namgung Gildong", "남궁길동", "NAMGUNG, GILDONG")
MRN, RRN, PHONE, MAIL = "QX-73190428", "630412-1234567", "010-9876-1234", "gildong@clinic.example"
HOSPITAL = "서울가나다병원"
SECRETS = ("namgung", "gildong", "남궁길동", "남궁^길동", "南宮吉洞", "南宮^吉洞", "qx-73190428")
SECRETS += (RRN, PHONE, "01098761234", MAIL, HOSPITAL)
FIRST_DAY = date(2019, 1, 7)
LONG_VRS = ("OB", "SQ", "UN", "UT")
Path = tuple[int, ...]
Tree = dict[int, tuple[str, "bytes | list[Tree]"]]

names = st.sampled_from(NAMES)
secrets = st.sampled_from([*NAMES, MRN, RRN, PHONE, MAIL, HOSPITAL])
clinical = st.sampled_from(["CT chest with contrast", "흉부 CT", "nodule 5 mm", "T2 axial", ""])
texts = st.lists(st.one_of(clinical, secrets), min_size=1, max_size=3).map(" ".join)
days = st.integers(0, 1500).map(lambda n: (FIRST_DAY + timedelta(days=n)).strftime("%Y%m%d"))
uids = st.integers(1, 9).map(lambda n: f"1.2.410.200001.73.{n}")
# What may stand in any data set or item: tags, the VR it is coded as, values.
KINDS: tuple[tuple[tuple[int, ...], str, st.SearchStrategy[str]], ...] = (
    ((0x00100010, 0x00080090, 0x00081070), "PN", names),
    ((0x00100020,), "LO", st.just(MRN)),
    ((0x00081030, 0x0008103E, 0x00181030, 0x00080104, 0x00102160), "LO", texts),
    ((0x00104000, 0x00204000, 0x0040A160), "UT", texts),
    ((0x00080080, 0x00081040), "LO", st.just(HOSPITAL)),
    ((0x00080020, 0x00080023, 0x0040A121), "DA", days),
    ((0x0008002A,), "DT", days.map(lambda day: f"{day}101530")),
    ((0x00081155, 0x0040A124), "UI", uids),
    ((0x00180015, 0x00080008, 0x0008002E), "CS", names),  # a name where a defined term is due
    ((0x00200011, 0x00280010), "LO", secrets),  # and where a number is
    ((0x00321032, 0x00101040, 0x00081080), "UN", secrets),  # known attributes, coded UN
    ((0x00189999, 0x0019108F), "UN", secrets),  # unknown; private without a creator
    ((0x60000022, 0x00401400, 0x00400280), "LO", secrets),  # overlay text; retired; comments
    ((0x00420011,), "OB", secrets),  # a document
    ((0x00282000,), "OB", names),  # a colour profile that is none
    ((0x00200013,), "IS", st.integers(0, 999).map(str)),
)
SEQUENCES = (0x00081111, 0x0040A730, 0x00400275, 0x04000561, 0x00082218, 0x00189998)


@st.composite
def trees(draw: st.DrawFn, codec: str, depth: int = 2) -> Tree:
    """Give a data set or an item."""
    tree: Tree = {}
    for tags, vr, values in draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=6)):
        tree[draw(st.sampled_from(tags))] = (vr, draw(values).encode(codec, "replace"))
    if draw(st.booleans()):
        creator = draw(st.sampled_from([b"ACME 1.0", b"SIEMENS CSA HEADER", b"GEMS_PARM_01"]))
        tree[0x00290010] = ("LO", creator)
        for number, vr in ((0x1001, "LO"), (0x1010, "OB"), (0x1011, "UN")):
            tree[0x00290000 | number] = (vr, draw(secrets).encode(codec, "replace"))
    if depth:
        for tag in draw(st.lists(st.sampled_from(SEQUENCES), max_size=2)):
            items = st.lists(trees(codec, depth - 1), min_size=1, max_size=2)
            tree[tag] = ("SQ", draw(items))
    return tree


@st.composite
def files(draw: st.DrawFn) -> bytes:
    """Give a complete file of an object that is sound as far as its class and identity go."""
    charset = draw(st.sampled_from(list(CHARSETS)))
    tree: Tree = draw(trees(CHARSETS[charset]))
    tree[0x00080005] = ("CS", charset.encode())
    tree[0x00080016], tree[0x00080018] = ("UI", SR), ("UI", draw(uids).encode())
    tree[0x0020000D], tree[0x0020000E] = ("UI", draw(uids).encode()), ("UI", draw(uids).encode())
    tree[0x00100020], tree[0x00080060] = ("LO", MRN.encode()), ("CS", b"SR")
    tree[0x00100010] = ("PN", NAMES[0].encode(CHARSETS[charset]))
    tree[0x00080020] = ("DA", draw(days).encode())
    syntax = draw(st.sampled_from([EXPLICIT, IMPLICIT, BIG, DEFLATED]))
    body = _encoded(tree, ">" if syntax == BIG else "<", syntax == IMPLICIT)
    if syntax == DEFLATED:
        packer = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
        body = packer.compress(body) + packer.flush()
    meta = _encoded({0x00020010: ("UI", syntax.encode())}, "<", False)
    length = _encoded({0x00020000: ("UL", struct.pack("<L", len(meta)))}, "<", False)
    preamble = b"NAMGUNG GILDONG".ljust(128, b"\0")
    return preamble + b"DICM" + length + meta + body


def _encoded(tree: Tree, order: str, implicit: bool) -> bytes:
    parts = []
    for tag, (vr, value) in sorted(tree.items()):
        if isinstance(value, list):
            items = [_encoded(item, order, implicit) for item in value]
            heads = [struct.pack(order + "HHL", 0xFFFE, 0xE000, len(item)) for item in items]
            raw = b"".join(part for pair in zip(heads, items, strict=True) for part in pair)
        else:
            raw = value + (b"\0" if vr in ("UI", "OB", "UN") else b" ") * (len(value) & 1)
        head = struct.pack(order + "HH", tag >> 16, tag & 0xFFFF)
        if implicit:
            head += struct.pack(order + "L", len(raw))
        elif vr in LONG_VRS:
            head += vr.encode() + struct.pack(order + "HL", 0, len(raw))
        else:
            head += vr.encode() + struct.pack(order + "H", len(raw))
        parts += [head, raw]
    return b"".join(parts)


@cache
def _cleaner(profile: str) -> DicomDeidentifier:
    return _fresh_cleaner(profile)


def _fresh_cleaner(profile: str) -> DicomDeidentifier:
    pseudonyms = Pseudonymiser(bytes(range(32)), "laws")
    return DicomDeidentifier(shipped_profile(profile), pseudonyms, DeidReport())


def _elements(raw: bytes) -> dict[Path, DataElement]:
    """Read a file: every element by its path of tags and item numbers."""
    with silent_pydicom:
        return dict(_walk(dcmread(BytesIO(raw))))


def _walk(
    data: Dataset, path: tuple[int, ...] = ()
) -> Iterator[tuple[tuple[int, ...], DataElement]]:
    for element in data:
        here = (*path, int(element.tag))
        yield here, element
        if element.VR == "SQ":
            for number, item in enumerate(element.value):
                yield from _walk(item, (*here, number))


def _plain_bytes(clean: CleanObject) -> bytes:
    """Give the file's bytes, with the data set inflated where it is deflated."""
    at = clean.raw.find(DEFLATED.encode())
    if at < 0:
        return clean.raw
    start = 144 + int.from_bytes(clean.raw[140:144], "little")
    return clean.raw[:start] + zlib.decompress(clean.raw[start:], -zlib.MAX_WBITS)


@pytest.mark.parametrize("profile", ["basic", "research"])
@LAWS
@given(raw=files())
def test_nothing_planted_survives_anywhere(profile: str, raw: bytes) -> None:
    written = _plain_bytes(_cleaner(profile).clean(raw)).lower()
    for secret in SECRETS:
        for encoding in ("utf-8", "cp949", "utf-16-le", "utf-16-be", "gb18030", "cp932"):
            needle = secret.encode(encoding, "ignore").lower()
            if len(needle) >= len(secret):
                assert needle not in written
    for number in range(1, 10):
        assert f"1.2.410.200001.73.{number}".encode() not in written


@pytest.mark.parametrize("profile", ["basic", "research"])
@LAWS
@given(raw=files())
def test_the_same_file_gives_the_same_bytes(profile: str, raw: bytes) -> None:
    assert _cleaner(profile).clean(raw).raw == _fresh_cleaner(profile).clean(raw).raw


@LAWS
@given(raw=files())
def test_every_date_moves_by_the_patient_s_days(raw: bytes) -> None:
    source = _elements(raw)
    shifts = set()
    for path, element in _elements(_cleaner("research").clean(raw).raw).items():
        if element.VR not in ("DA", "DT") or not element.value or path not in source:
            continue
        old, new = str(source[path].value), str(element.value)
        if old:
            shifts.add(date.fromisoformat(old[:8]) - date.fromisoformat(new[:8]))
            assert old[8:] == new[8:]
    assert shifts == {shifts.copy().pop()}
    assert timedelta(0) < shifts.pop() <= timedelta(days=365)


@pytest.mark.parametrize("profile", ["basic", "research"])
@LAWS
@given(first=files(), second=files())
def test_uids_are_mapped_one_to_one_across_files(profile: str, first: bytes, second: bytes) -> None:
    pairs: set[tuple[str, str]] = set()
    for raw in (first, second):
        source = _elements(raw)
        for path, element in _elements(_cleaner(profile).clean(raw).raw).items():
            if element.VR == "UI" and path in source and element.value:
                pairs.add((str(source[path].value), str(element.value)))
    assert len({old for old, _ in pairs}) == len({new for _, new in pairs}) == len(pairs)
    for old, new in pairs:
        assert (old == new) == old.startswith("1.2.840.10008.")


@pytest.mark.parametrize("profile", ["basic", "research"])
@LAWS
@given(raw=files())
def test_cleaning_twice_changes_nothing_but_pseudonyms(profile: str, raw: bytes) -> None:
    """Identity is mapped once more, dates by the new number's days; all else is a fixed point."""
    once = _cleaner(profile).clean(raw)
    twice = _cleaner(profile).clean(once.raw)
    before, after = list(_elements(once.raw).items()), list(_elements(twice.raw).items())
    assert [(path, e.VR) for path, e in before] == [(path, e.VR) for path, e in after]
    moved = set()
    for (path, old), (_, new) in zip(before, after, strict=True):
        if old.VR == "UI" or path[-1] in (0x00100010, 0x00100020) or old.VR == "SQ":
            continue
        if old.VR in ("DA", "DT") and old.value and profile == "research":
            a, b = date.fromisoformat(old.value[:8]), date.fromisoformat(new.value[:8])
            moved.add(a - b)
        else:
            assert old.value == new.value
    assert len(moved) <= 1
