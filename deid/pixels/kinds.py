"""Can an object of this class show writing, and does its kind usually carry some?"""

from __future__ import annotations

from pydicom.dataset import Dataset

_ROOT = "1.2.840.10008.5.1.4.1.1."
# Pixel Data that are labels, doses or computed numbers, not a picture that a screen was copied
# into: no device writes text into them, and blanking would change measurements.
_NOT_PICTURES = frozenset(
    {
        _ROOT + "66.4",  # Segmentation
        _ROOT + "66.7",  # Label Map Segmentation
        _ROOT + "66.8",  # Height Map Segmentation
        _ROOT + "30",  # Parametric Map
        _ROOT + "481.2",  # RT Dose
    }
)
# Reconstructed by the scanner, value by value: writing gets in only when someone adds it.
_PLAIN = frozenset(
    {
        _ROOT + "2",  # CT
        _ROOT + "2.1",  # Enhanced CT
        _ROOT + "2.2",  # Legacy Converted Enhanced CT
        _ROOT + "4",  # MR
        _ROOT + "4.1",  # Enhanced MR
        _ROOT + "4.4",  # Legacy Converted Enhanced MR
        _ROOT + "20",  # NM
        _ROOT + "128",  # PET
        _ROOT + "128.1",  # Legacy Converted Enhanced PET
        _ROOT + "130",  # Enhanced PET
    }
)


def is_picture(dataset: Dataset) -> bool:
    """Whether Pixel Data are a picture; False for segmentations, doses and computed maps."""
    return str(dataset.get("SOPClassUID") or "") not in _NOT_PICTURES


def shows_label(dataset: Dataset) -> bool:
    """Whether a picture of a slide may show the slide's label: a name, a number, a barcode.

    A label is written by hand or as a barcode as often as in print, so that no detector of printed
    text clears it. An overview counts unless it says that the label is not in it (PS3.3 C.8.12.8,
    Specimen Label in Image).
    """
    stated = str(dataset.get("SpecimenLabelInImage") or "").strip().upper()
    if stated == "YES":
        return True
    flavour = _image_type(dataset)[2:3]
    return flavour == ["LABEL"] or (flavour == ["OVERVIEW"] and stated != "NO")


def _image_type(dataset: Dataset) -> list[str]:
    kind = dataset.get("ImageType") or ()
    words = [kind] if isinstance(kind, str) else [str(word) for word in kind]
    return [word.strip().upper() for word in words]


def carries_text(dataset: Dataset) -> bool:
    """Whether pictures of this kind often carry writing.

    False only for slices that a CT, MR, NM or PET scanner reconstructed itself (Image Type
    ORIGINAL, or DERIVED but PRIMARY), in grey, and not declared to hold annotation. All else,
    known or unknown, counts as carrying text.
    """
    if str(dataset.get("SOPClassUID") or "") not in _PLAIN:
        return True
    if str(dataset.get("BurnedInAnnotation") or "").strip().upper() == "YES":
        return True
    if str(dataset.get("SamplesPerPixel") or 1) != "1":
        return True
    words = _image_type(dataset)
    return len(words) > 1 and words[0] != "ORIGINAL" and words[1] == "SECONDARY"
