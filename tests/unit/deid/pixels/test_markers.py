from __future__ import annotations

import imagecodecs
import numpy as np
import pytest

from deid.errors import DeidRefusal
from deid.pixels import markers
from tests.support import jpeg_reference
from tests.support.pixel_objects import noise

_GREY = imagecodecs.jpeg8_encode(noise((24, 24)), level=80)
_COLOUR = imagecodecs.jpeg8_encode(noise((24, 24, 3)), level=80)
_LS = markers.cleaned(imagecodecs.jpegls_encode(np.zeros((24, 24), np.uint8)))


def _segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + (len(body) + 2).to_bytes(2, "big") + body


@pytest.mark.parametrize("stream", [_GREY, _COLOUR, _LS])
def test_a_clean_stream_is_given_back(stream: bytes) -> None:
    assert markers.cleaned(stream) is stream
    assert markers.cleaned(stream + b"\0") == stream + b"\0"


@pytest.mark.parametrize("stream", [_GREY, _COLOUR, _LS])
@pytest.mark.parametrize(
    "foreign",
    [_segment(0xFE, b"HONG GILDONG"), _segment(0xE1, b"Exif\0\0HONG"), _segment(0xE8, b"SPIFF\0"),
     _segment(0xED, b"HONG"), _segment(0xEF, b"HONG"), b"\xff" * 3],
)  # fmt: skip
def test_foreign_segments_go_from_everywhere(stream: bytes, foreign: bytes) -> None:
    first = stream[:2] + foreign + stream[2:]
    last = stream[:-2] + foreign.rstrip(b"\xff") + stream[-2:] + b"HONG GILDONG"
    assert markers.cleaned(first) == stream
    assert markers.cleaned(last) == stream


def test_segments_between_scans_go() -> None:
    blocks = np.zeros((2, 2, 64), np.int64)
    parts = [jpeg_reference.Component(1, 1, blocks)] * 3
    stream = jpeg_reference.write(parts, 16, 16, interleaved=False)
    second = stream.index(b"\xff\xda", stream.index(b"\xff\xda") + 2)
    dirty = stream[:second] + _segment(0xFE, b"HONG") + stream[second:]
    assert markers.cleaned(dirty) == stream


def test_what_tells_the_colour_model_stays() -> None:
    jfif = _segment(0xE0, b"JFIF\0\x01\x02\0\0\x01\0\x01\x01\x01abc")
    adobe = _segment(0xEE, b"Adobe\0\x64\0\0\0\0\x01HONG")
    body = _COLOUR[_COLOUR.index(b"\xff\xdb") :]
    clean = markers.cleaned(b"\xff\xd8" + jfif + adobe + body)
    assert (
        clean
        == b"\xff\xd8"
        + _segment(0xE0, b"JFIF\0\x01\x02\0\0\x01\0\x01\0\0")
        + _segment(0xEE, b"Adobe\0\x64\0\0\0\0\x01")
        + body
    )
    assert np.array_equal(imagecodecs.jpeg8_decode(clean), imagecodecs.jpeg8_decode(_COLOUR))


def test_other_application_segments_of_those_numbers_go() -> None:
    dirty = b"\xff\xd8" + _segment(0xE0, b"LJIF\0HONG") + _segment(0xEE, b"HONG") + _LS[2:]
    assert markers.cleaned(dirty) == _LS


def test_the_colour_transform_of_jpeg_ls_stays() -> None:
    kept = _LS[:2] + _segment(0xE8, b"mrfx\x01") + _LS[2:]
    assert markers.cleaned(kept) is kept


@pytest.mark.parametrize(
    "stream", [b"", b"GIF89a", b"\xff\xd8\xff\xdb\xff\xff", b"\xff\xd8abc", b"\xff\xd8\xff\xfe\0\0"]
)
def test_what_cannot_be_walked_is_refused(stream: bytes) -> None:
    with pytest.raises(DeidRefusal):
        markers.cleaned(stream)


def test_a_stream_without_an_end_is_released_as_it_is() -> None:
    assert markers.cleaned(_GREY[:-2]) == _GREY[:-2]


def test_the_colour_model_is_told_as_decoders_do() -> None:
    def told(stream: bytes, stated: bool) -> bool:
        segments, _ = markers.walk(stream)
        header = markers.frame_header(stream, segments)
        assert header is not None
        return markers.holds_rgb(stream, segments, header, stated)

    rgb = imagecodecs.jpeg8_encode(noise((8, 8, 3)), colorspace="RGB", outcolorspace="RGB")
    bare = b"\xff\xd8" + _COLOUR[_COLOUR.index(b"\xff\xdb") :]
    assert told(rgb, False) and not told(_COLOUR, True)
    assert told(bare, True) and not told(bare, False)
