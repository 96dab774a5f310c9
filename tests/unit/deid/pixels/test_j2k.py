from __future__ import annotations

import imagecodecs
import numpy as np
import pytest

from deid.errors import DeidRefusal
from deid.pixels import j2k
from tests.support.pixel_objects import noise

_PIXELS = noise((40, 50), 12)
_LOSSLESS = {"level": 0, "reversible": True, "bitspersample": 12}
_STREAM = j2k.cleaned(imagecodecs.jpeg2k_encode(_PIXELS, codecformat="j2k", **_LOSSLESS))
_COMMENT = b"\xff\x64\x00\x10\x00\x01HONG GILDONG"


def _same(stream: bytes) -> bool:
    return np.array_equal(imagecodecs.jpeg2k_decode(stream), _PIXELS) and b"HONG" not in stream


def test_a_clean_stream_is_given_back() -> None:
    assert j2k.cleaned(_STREAM) is _STREAM


def test_comments_of_the_main_header_go() -> None:
    at = _STREAM.index(b"\xff\x52")
    assert j2k.cleaned(_STREAM[:at] + _COMMENT + _STREAM[at:]) == _STREAM


def test_comments_of_a_tile_part_are_emptied_without_moving_it() -> None:
    at = _STREAM.index(b"\xff\x90")
    length = int.from_bytes(_STREAM[at + 6 : at + 10], "big") + len(_COMMENT)
    tile = _STREAM[at : at + 6] + length.to_bytes(4, "big") + _STREAM[at + 10 : at + 12]
    dirty = _STREAM[:at] + tile + _COMMENT + _STREAM[at + 12 :]
    clean = j2k.cleaned(dirty)
    assert len(clean) == len(dirty) and _same(clean)
    assert j2k.cleaned(clean) is clean


def test_what_follows_the_last_tile_part_or_the_end_goes() -> None:
    assert j2k.cleaned(_STREAM[:-2] + _COMMENT + _STREAM[-2:]) == _STREAM
    assert j2k.cleaned(_STREAM + b"HONG GILDONG") == _STREAM


def test_a_wrong_tile_part_length_ends_at_the_next_end_marker() -> None:
    at = _STREAM.index(b"\xff\x90")
    wrong = _STREAM[: at + 6] + b"\0\0\0\x20" + _STREAM[at + 10 :]
    assert j2k.cleaned(wrong) is wrong
    assert j2k.cleaned(wrong + b"HONG") == wrong
    open_end = _STREAM[: at + 6] + bytes(4) + _STREAM[at + 10 :]
    assert j2k.cleaned(open_end + b"HONG") == open_end


def test_of_a_jp2_file_only_the_code_stream_stays() -> None:
    boxed = imagecodecs.jpeg2k_encode(_PIXELS, level=0, reversible=True, codecformat="jp2")
    text = (8 + 12).to_bytes(4, "big") + b"xml HONG GILDONG"
    clean = j2k.cleaned(boxed[:12] + text + boxed[12:])
    assert clean.startswith(b"\xff\x4f") and _same(clean)


def test_the_header_is_read() -> None:
    header = j2k.siz(_STREAM)
    assert (header.rows, header.columns, header.components, header.precision) == (40, 50, 1, 12)
    assert header.reversible and not header.transform and not header.signed


def test_a_damaged_size_is_replaced() -> None:
    bad = _STREAM[:6] + b"\xfe\xff\xdd\xe0\x01\0" + _STREAM[12:]
    assert _same(j2k.resized(bad, 40, 50))


@pytest.mark.parametrize("stream", [b"", b"\xff\x4f\xff\x51\0", b"\0\0\0\x0cjP  \r\n\x87\n"])
def test_what_cannot_be_walked_is_refused(stream: bytes) -> None:
    with pytest.raises(DeidRefusal):
        j2k.cleaned(stream)
