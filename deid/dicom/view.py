"""How do the pixel rules see an object that is not yet cleaned? As a pydicom data set, lazily."""

from __future__ import annotations

from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag

from deid.dicom.container import Source
from deid.dicom.elements import UNDEFINED

_FIRST = (
    0x00080006  # without the character set: a damaged one stops pydicom, and the rules read codes
)
_LAST_GROUP = 0x7FE0  # pixel data; what follows is signatures and padding
_tags: dict[int, BaseTag] = {}


def source_view(source: Source) -> Dataset:
    """Give the standard top-level attributes of an opened file; values are decoded when asked for.

    Never written: it holds everything that identifies.
    """
    implicit, little, data = source.coding.implicit, source.coding.little, source.data
    entries: dict[BaseTag, RawDataElement] = {}
    for element in source.elements:
        tag = element.tag
        if tag & 0x10000 or element.recoded or tag >> 16 > _LAST_GROUP or tag < _FIRST:
            continue
        known = _tags.get(tag)
        if known is None:
            known = BaseTag(tag)
            if len(_tags) < 65_536:  # a hostile file names any number of tags
                _tags[tag] = known
        value = element.value if element.items is None else data[element.start : element.end]
        length = UNDEFINED if element.undefined else len(value)
        vr = None if implicit else element.vr
        entries[known] = RawDataElement(known, vr, length, value, 0, implicit, little)
    view = Dataset(entries)  # type: ignore[arg-type]  # pydicom keeps raw elements like this too
    view.set_original_encoding(implicit, little, None)
    return view
