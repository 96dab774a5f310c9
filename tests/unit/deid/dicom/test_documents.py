from __future__ import annotations

from xml.etree import ElementTree

import pytest

from deid.dicom.documents import printable, stand_in_document


def test_the_pdf_is_one_with_a_table_that_points_right() -> None:
    pdf = stand_in_document("application/pdf")
    assert pdf.startswith(b"%PDF-1.") and pdf.rstrip().endswith(b"%%EOF")
    start = int(pdf[pdf.index(b"startxref") + 9 :].split()[0])
    assert pdf[start : start + 4] == b"xref"
    for line in pdf[start:].split(b"\n")[3:6]:
        at = int(line[:10])
        assert pdf[at : at + 7].endswith(b" 0 obj") or pdf[at : at + 5].endswith(b"obj")


def test_the_clinical_document_is_well_formed() -> None:
    root = ElementTree.fromstring(stand_in_document("text/XML"))
    assert root.tag == "{urn:hl7-org:v3}ClinicalDocument"


def test_the_mesh_has_no_triangle() -> None:
    assert stand_in_document("model/stl") == bytes(84)


@pytest.mark.parametrize(
    "mime", ["application/pdf; charset=x", "text/xml", "model/obj", "model/mtl", "image/hong", ""]
)
def test_every_stand_in_is_even_in_length_and_says_nothing(mime: str) -> None:
    document = stand_in_document(mime)
    assert document and len(document) % 2 == 0 and b"hong" not in document


def test_text_in_a_document_is_found_for_the_search() -> None:
    assert printable(b"\0\1Hong Gildong\0\0abc\0") == ("Hong Gildong",)
