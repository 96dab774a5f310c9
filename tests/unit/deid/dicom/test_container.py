from __future__ import annotations

import zlib
from io import BytesIO

import pydicom
import pytest
from pydicom.data import get_testdata_file

from deid import DeidRefusal
from deid.dicom import container
from deid.dicom.container import Out, Writer, assemble, coding_of, plain_vr, read
from deid.dicom.elements import EXPLICIT_BIG, EXPLICIT_LITTLE, IMPLICIT_LITTLE, Parser
from schemas.errors import ErrorCode
from tests.support.raw_dicom import CT, explicit, head, identity, implicit

DEFLATED = "1.2.840.10008.1.2.1.99"


def _code(raw: bytes) -> ErrorCode:
    with pytest.raises(DeidRefusal) as caught:
        read(raw)
    return caught.value.code


def _file(name: str) -> bytes:
    path = get_testdata_file(name, download=False)
    assert isinstance(path, str)
    with open(path, "rb") as file:
        return file.read()


@pytest.mark.parametrize(
    ("name", "coding"),
    [
        ("CT_small.dcm", EXPLICIT_LITTLE),
        ("MR_small_implicit.dcm", IMPLICIT_LITTLE),
        ("MR_small_bigendian.dcm", EXPLICIT_BIG),
        ("image_dfl.dcm", EXPLICIT_LITTLE),
        ("JPEG2000.dcm", EXPLICIT_LITTLE),
        ("rtplan.dcm", IMPLICIT_LITTLE),
    ],
)
def test_a_rewritten_file_holds_what_pydicom_read(name: str, coding: object) -> None:
    raw = _file(name)
    source = read(raw)
    assert source.coding == coding
    outs = [
        Out(e.tag, plain_vr(e.tag, e.vr, e.value), e.value, e.undefined)
        for e in source.elements
        if e.items is None
    ]
    again = pydicom.dcmread(BytesIO(assemble(outs, source.syntax).packed()))
    before = pydicom.dcmread(BytesIO(raw))
    assert again.file_meta.TransferSyntaxUID == before.file_meta.TransferSyntaxUID
    for out in outs:
        if not out.tag & 0x10000 and before[out.tag].VR != "OW":
            assert str(again[out.tag].value) == str(before[out.tag].value)


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", ErrorCode.FILE_EMPTY),
        (b"D", ErrorCode.FILE_NOT_DICOM),
        (b"PK\x03\x04" * 100, ErrorCode.FILE_NOT_DICOM),
        (bytes((i * 7919 + i // 3) % 256 for i in range(5_000)), ErrorCode.FILE_NOT_DICOM),
        (bytes(128) + b"DICM", ErrorCode.DICOM_UNREADABLE),
        (head(), ErrorCode.DICOM_UNREADABLE),
        (head() + identity()[:-3], ErrorCode.DICOM_UNREADABLE),
        (head("1.2.410.200088.99.1") + identity(), ErrorCode.DICOM_SYNTAX_UNKNOWN),
        (head("1.2.840.10008.1.2.4.111") + identity(), ErrorCode.DICOM_SYNTAX_UNKNOWN),
        (head(DEFLATED) + identity(), ErrorCode.DICOM_UNREADABLE),
        (explicit(0x00080060, "CS", b"CT"), ErrorCode.FILE_NOT_DICOM),
    ],
    ids=[
        "empty", "byte", "zip", "random", "prefix", "meta", "cut", "private-syntax", "jpeg-xl",
        "not-deflated", "no-class",
    ],
)  # fmt: skip
def test_what_is_no_whole_file_is_refused(raw: bytes, code: ErrorCode) -> None:
    assert _code(raw) is code


def test_every_truncation_of_a_file_is_refused_or_ends_between_elements() -> None:
    raw = head() + identity()
    ends = {e.end for e in Parser(raw, EXPLICIT_LITTLE).data_set(len(head()), len(raw))[0]}
    for end in range(len(raw)):
        try:
            read(raw[:end])
        except DeidRefusal:
            continue
        assert end in ends


def test_a_file_that_inflates_too_far_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(container, "MAX_INFLATED_BYTES", 10_000)
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    bomb = packer.compress(identity() + bytes(1_000_000)) + packer.flush()
    assert _code(head(DEFLATED) + bomb) is ErrorCode.FILE_TOO_LARGE


def test_a_file_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(container, "MAX_FILE_BYTES", 100)
    assert _code(head() + identity()) is ErrorCode.FILE_TOO_LARGE


@pytest.mark.parametrize(
    ("raw", "syntax"),
    [
        (identity(), "1.2.840.10008.1.2.1"),
        (identity(order=">"), "1.2.840.10008.1.2.2"),
        (implicit(0x00080016, CT.encode() + b"\0"), "1.2.840.10008.1.2"),
        (bytes(128) + b"DICM" + identity(), "1.2.840.10008.1.2.1"),
        (head()[132:] + identity(), "1.2.840.10008.1.2.1"),
        (head("1.2.840.10008.1.2.1") + identity(order=">"), "1.2.840.10008.1.2.2"),
        (head("1.2.840.10008.1.2") + identity(), "1.2.840.10008.1.2.1"),
        (head() + implicit(0x00080016, CT.encode() + b"\0"), "1.2.840.10008.1.2"),
    ],
    ids=[
        "bare", "bare-big", "bare-implicit", "no-meta", "no-preamble", "big-as-little",
        "explicit-as-implicit", "implicit-as-explicit",
    ],
)  # fmt: skip
def test_files_are_read_by_what_their_bytes_are(raw: bytes, syntax: str) -> None:
    source = read(raw)
    assert source.syntax == syntax
    assert source.elements[0].value.startswith(CT.encode())


def test_what_stands_outside_the_data_set_is_given_for_the_search() -> None:
    raw = b"HONG GILDONG".ljust(128, b"\0") + head()[128:] + identity()
    source = read(raw + explicit(0x7FE00010, "OB", b"ab") + b"10482213 HONG")
    assert source.outside[0].startswith(b"HONG") and source.outside[1] == b"10482213 HONG"


def test_values_are_padded_by_their_kind() -> None:
    writer = Writer(EXPLICIT_LITTLE)
    assert writer.elements([Out(0x00100020, "LO", b"K")]).endswith(b"K ")
    assert writer.elements([Out(0x00080018, "UI", b"1")]).endswith(b"1\0")


def test_text_too_long_for_its_vr_is_written_as_unknown() -> None:
    raw = Writer(EXPLICIT_LITTLE).elements([Out(0x30060050, "DS", b"1" * 70_000)])
    assert raw[4:6] == b"UN" and len(raw) == 70_012


@pytest.mark.parametrize(
    ("vr", "size", "plain"),
    [("US or SS", 2, "US"), ("OB or OW", 9, "OW"), ("US or OW", 512, "OW"), ("CS", 2, "CS")],
)
def test_a_vr_that_depends_becomes_one(vr: str, size: int, plain: str) -> None:
    assert plain_vr(0x00280106, vr, bytes(size)) == plain


def test_the_file_meta_is_ours_alone() -> None:
    outs = [Out(0x00080016, "UI", CT.encode()), Out(0x00080018, "UI", b"2.25.1")]
    written = pydicom.dcmread(BytesIO(assemble(outs, "1.2.840.10008.1.2.1").packed()))
    assert written.preamble == bytes(128)
    assert written.file_meta.MediaStorageSOPInstanceUID == "2.25.1"
    assert {element.keyword for element in written.file_meta} == {
        "FileMetaInformationGroupLength", "FileMetaInformationVersion", "TransferSyntaxUID",
        "MediaStorageSOPClassUID", "MediaStorageSOPInstanceUID", "ImplementationClassUID",
        "ImplementationVersionName",
    }  # fmt: skip


def test_all_compressed_syntaxes_are_explicit_little_endian() -> None:
    assert coding_of("1.2.840.10008.1.2.4.90") == EXPLICIT_LITTLE
