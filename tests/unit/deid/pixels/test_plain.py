from __future__ import annotations

import imagecodecs
import numpy as np
import pytest

from deid.errors import DeidRefusal
from deid.pixels.boxes import Box
from deid.pixels.codec import open_frames
from deid.pixels.plain import uncompressed
from tests.support.pixel_objects import encapsulated, noise


def test_frames_of_other_sizes_are_fitted() -> None:
    streams = [imagecodecs.jpegls_encode(noise(shape)) for shape in ((9, 11), (7, 11), (9, 13))]
    frames = open_frames(encapsulated(streams, 9, 11), "1.2.840.10008.1.2.4.80")
    assert frames.form is not None
    data, changes = uncompressed(frames, frames.form, {0: [Box(0, 0, 2, 2)]})
    plain = np.frombuffer(data[: 3 * 99], np.uint8).reshape(3, 9, 11)
    assert len(data) == 298
    assert not plain[1, 7:].any() and np.array_equal(plain[1, :7], noise((7, 11)))
    assert np.array_equal(plain[2], noise((9, 13))[:, :11])
    assert (plain[0, :2, :2] == plain[0].min()).all()
    assert changes["BitsAllocated"] == 8 and changes["HighBit"] == 7


def test_more_than_an_element_can_hold_is_refused() -> None:
    stream = imagecodecs.jpegls_encode(noise((4, 4)))
    frames = open_frames(encapsulated([stream] * 9, 16000, 16000), "1.2.840.10008.1.2.4.80")
    assert frames.form is not None
    with pytest.raises(DeidRefusal):
        uncompressed(frames, frames.form, {})
