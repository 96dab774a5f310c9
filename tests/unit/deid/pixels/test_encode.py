from __future__ import annotations

import numpy as np
import pytest

from deid.pixels import j2k
from deid.pixels.codec import Coded
from deid.pixels.encode import NoEncoder, encode_frame
from deid.pixels.form import pixel_form
from tests.support.pixel_objects import encapsulated, noise

_J = "1.2.840.10008.1.2.4"
_FORM = pixel_form(encapsulated([b"ab"], 24, 31, BitsAllocated=16, BitsStored=12))


@pytest.mark.parametrize("kind", ["50", "53", "55", "92", "93", "102"])
def test_syntaxes_without_a_lossless_encoder_say_so(kind: str) -> None:
    assert _FORM is not None
    with pytest.raises(NoEncoder):
        encode_frame(Coded(noise((24, 31), 12), 12, "MONOCHROME2"), b"", _FORM, f"{_J}.{kind}")


def test_samples_beyond_their_precision_are_not_lost_silently() -> None:
    assert _FORM is not None
    samples = noise((24, 31), 12)
    samples[0, 0] = 60_000
    with pytest.raises(NoEncoder):
        encode_frame(Coded(samples, 12, "MONOCHROME2"), b"\xff\xd8\xff\xd9", _FORM, f"{_J}.80")


@pytest.mark.parametrize("signed", [True, False])
def test_high_throughput_keeps_precision_and_sign(signed: bool) -> None:
    import imagecodecs

    assert _FORM is not None
    samples = noise((24, 31), 12)
    if signed:
        samples = (samples.astype(np.int16) - 3000).clip(-2048, 2047)
    source = imagecodecs.jpeg2k_encode(samples, level=0, reversible=True, codecformat="j2k",
                                       bitspersample=12)  # fmt: skip
    stream = encode_frame(Coded(samples, 12, "MONOCHROME2"), source, _FORM, f"{_J}.201")
    header = j2k.siz(stream)
    assert (header.precision, header.signed, header.reversible) == (12, signed, True)
    assert np.array_equal(imagecodecs.htj2k_decode(stream), samples)
    assert np.array_equal(imagecodecs.jpeg2k_decode(stream), samples)
