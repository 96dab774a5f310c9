"""How is one DICOM object de-identified, from bytes to verified bytes? (public API)"""

from __future__ import annotations

from deid.dicom.clean import CleanObject, DicomDeidentifier, removed_values
from deid.dicom.container import MAX_FILE_BYTES
from deid.dicom.plane import pixel_plane

__all__ = [
    "MAX_FILE_BYTES",
    "CleanObject",
    "DicomDeidentifier",
    "pixel_plane",
    "removed_values",
]
