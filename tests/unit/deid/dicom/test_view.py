from __future__ import annotations

from pydicom.data import get_testdata_file

from deid.dicom.container import read
from deid.dicom.quiet import silent_pydicom
from deid.dicom.view import source_view
from tests.support.forge import dicom_bytes


def test_the_view_decodes_standard_attributes_when_asked() -> None:
    view = source_view(read(dicom_bytes()))
    with silent_pydicom:
        assert (view.Rows, view.Modality, view.PixelData) == (4, "CR", bytes(range(16)))
        assert "OtherPatientIDsSequence" in view.RequestAttributesSequence[0]
    assert (0x0009, 0x1001) not in view


def test_every_coding_is_seen_alike() -> None:
    for name in ("MR_small.dcm", "MR_small_implicit.dcm", "MR_small_bigendian.dcm"):
        path = get_testdata_file(name, download=False)
        with open(str(path), "rb") as file, silent_pydicom:
            view = source_view(read(file.read()))
            assert (view.Rows, view.Columns, view.BitsAllocated) == (64, 64, 16)
