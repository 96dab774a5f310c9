"""What stands in for an encapsulated document? (PS3.3 C.24.2, PS3.15 Table E.1-1: D)

A report inside an object is free text in a format of its own; nothing in it is cleaned, all of it
is replaced by the smallest valid document of the same type.
"""

from __future__ import annotations

import re

MIME_TAG, DOCUMENT_TAG, LENGTH_TAG = 0x00420012, 0x00420011, 0x00420015
_MAX_TEXT_BYTES = 65_536  # of a document, looked through for values to search the output for
_WORDS = re.compile(rb"[\x20-\x7e\x80-\xff]{6,64}")

_CDA = (
    '<?xml version="1.0" encoding="UTF-8"?>\n'
    '<ClinicalDocument xmlns="urn:hl7-org:v3">'
    '<typeId root="2.16.840.1.113883.1.3" extension="POCD_HD000040"/>'
    "<title>REMOVED</title></ClinicalDocument>\n"
)
_STL = bytes(80) + b"\0\0\0\0"  # binary STL: a header of 80 bytes and a count of no triangles
_OBJ = b"# REMOVED\nv 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n"
_MTL = b"# REMOVED\nnewmtl removed\nKd 0.5 0.5 0.5\n"


def _pdf() -> bytes:
    """Build a PDF of one empty page (ISO 32000-1 7.5)."""
    objects = (
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]/Resources<<>>>>",
    )
    body, offsets = b"%PDF-1.4\n", []
    for number, content in enumerate(objects, start=1):
        offsets.append(len(body))
        body += b"%d 0 obj" % number + content + b"endobj\n"
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    return (
        body
        + b"xref\n0 4\n0000000000 65535 f \n"
        + table
        + b"trailer<</Size 4/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n" % len(body)
    )


_STAND_INS = {
    "application/pdf": _pdf(),
    "text/xml": _CDA.encode("ascii"),
    "application/xml": _CDA.encode("ascii"),
    "application/hl7-sda+xml": _CDA.encode("ascii"),
    "model/stl": _STL,
    "application/sla": _STL,
    "model/obj": _OBJ,
    "model/mtl": _MTL,
}


def stand_in_document(mime_type: str) -> bytes:
    """Give a minimal document of a MIME type, even in length; a line of text for other types."""
    key = mime_type.split(";", maxsplit=1)[0].strip().lower()
    document = _STAND_INS.get(key, b"REMOVED\n")
    return document + (b"\n" if key in _STAND_INS and key != "model/stl" else b" ") * (
        len(document) & 1
    )


def printable(raw: bytes) -> tuple[str, ...]:
    """Give the runs of text that bytes hold, for the search of what was written."""
    found = _WORDS.findall(raw[:_MAX_TEXT_BYTES])
    return tuple(run.decode("utf-8", "replace").strip() for run in found[:200])
