"""What do an object's stored pixels hold, and how are they written back? The judge's own codec.

Nothing here is the product's: pydicom's decoders where it has one, and imagecodecs for the JPEG
processes pydicom leaves to a GPL library.
"""

from __future__ import annotations

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels import pixel_array

_NATIVE = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2",
           "1.2.840.10008.1.2.1.99")  # fmt: skip
_J2K = "1.2.840.10008.1.2.4."


class CannotEncode(ValueError):
    """No encoder for this syntax or kind of pixel here."""


def syntax_of(dataset: Dataset) -> str:
    """The transfer syntax; explicit or implicit little endian where no meta says it."""
    found = dataset.file_meta.get("TransferSyntaxUID") if hasattr(dataset, "file_meta") else None
    return str(found or "1.2.840.10008.1.2")


def decode(dataset: Dataset) -> NDArray[np.generic]:
    """Give stored values, colour as it is stored: (frames, rows, columns[, samples])."""
    syntax = syntax_of(dataset)
    count = int(dataset.get("NumberOfFrames") or 1)
    if syntax in (_J2K + "51", _J2K + "53", _J2K + "55", _J2K + "57", _J2K + "70"):
        frames = [
            imagecodecs.jpeg_decode(frame, colorspace=None)
            if syntax[-2:] not in ("57", "70")
            else _lossless_jpeg(frame)
            for frame in generate_frames(bytes(dataset.PixelData), number_of_frames=count)
        ]
        array = np.stack(frames)
        if int(dataset.get("PixelRepresentation") or 0) and array.dtype == np.uint16:
            array = array.view(np.int16)
    else:
        array = pixel_array(dataset, raw=True)
    shape = (count, int(dataset.Rows), int(dataset.Columns))
    samples = int(dataset.get("SamplesPerPixel") or 1)
    return array.reshape(*shape, samples) if samples > 1 else array.reshape(shape)


def _lossless_jpeg(frame: bytes) -> NDArray[np.generic]:
    try:
        return np.asarray(imagecodecs.jpegsof3_decode(frame))
    except Exception:
        return np.asarray(imagecodecs.ljpeg_decode(frame))


def encode(dataset: Dataset, frames: NDArray[np.generic]) -> None:
    """Write stored values back in the data set's own syntax.

    Raises:
        CannotEncode: no encoder for it here.
    """
    syntax = syntax_of(dataset)
    if syntax in _NATIVE:
        _encode_native(dataset, frames, syntax)
        return
    coded = [_encode_frame(dataset, frame, syntax) for frame in frames]
    coded = [each + b"\0" * (len(each) % 2) for each in coded]
    before = dataset["PixelData"]._value
    dataset["PixelData"]._value = encapsulate(coded)
    dataset["PixelData"].is_undefined_length = True
    error = np.abs(decode(dataset).astype(float) - frames.astype(float)).mean()
    lossless = not syntax.endswith((".50", ".91"))
    if error > (0.0 if lossless else 0.05 * max(1.0, float(np.ptp(frames)))):
        dataset["PixelData"]._value = before
        raise CannotEncode(syntax)  # this encoder's idea of the pixels is another


def _encode_native(dataset: Dataset, frames: NDArray[np.generic], syntax: str) -> None:
    if "422" in str(dataset.PhotometricInterpretation) or int(dataset.BitsAllocated) not in (8, 16):
        raise CannotEncode(syntax)
    if frames.ndim == 4 and int(dataset.get("PlanarConfiguration") or 0) == 1:
        frames = frames.transpose(0, 3, 1, 2)
    order = ">" if syntax == "1.2.840.10008.1.2.2" else "<"
    data = np.ascontiguousarray(frames.astype(frames.dtype.newbyteorder(order))).tobytes()
    if order == ">" and frames.dtype.itemsize == 1 and dataset["PixelData"].VR == "OW":
        swapped = np.frombuffer(data + b"\0" * (len(data) % 2), np.uint8).reshape(-1, 2)[:, ::-1]
        data = swapped.tobytes()
    dataset["PixelData"]._value = data + b"\0" * (len(data) % 2)


def _encode_frame(dataset: Dataset, frame: NDArray[np.generic], syntax: str) -> bytes:
    frame = np.ascontiguousarray(frame)
    colour, photometric = frame.ndim == 3, str(dataset.PhotometricInterpretation)
    if syntax.endswith("1.2.5"):
        planes = np.moveaxis(frame, -1, 0) if colour else frame[None]
        return _rle(planes)
    kind = syntax.removeprefix(_J2K)
    if kind in ("90", "91"):
        if colour and photometric not in ("YBR_RCT", "YBR_ICT", "RGB"):
            raise CannotEncode(syntax)
        transform = photometric in ("YBR_RCT", "YBR_ICT")
        lossless = kind == "90" or photometric == "YBR_RCT" or frame.dtype.kind == "i"
        return bytes(
            imagecodecs.jpeg2k_encode(
                frame, level=0 if lossless else 60, codecformat="j2k", reversible=lossless,
                mct=transform, bitspersample=int(dataset.BitsStored),
            )
        )  # fmt: skip
    if kind == "80" and frame.dtype.kind == "u":
        return bytes(imagecodecs.jpegls_encode(frame, level=0))
    if kind == "50" and frame.dtype == np.uint8:
        if not colour:
            return bytes(imagecodecs.jpeg8_encode(frame, level=92))
        space = "RGB" if photometric == "RGB" else "YCBCR"
        sampling = "422" if "422" in photometric else "444"
        return bytes(
            imagecodecs.jpeg8_encode(
                frame, level=92, colorspace=space, outcolorspace=space, subsampling=sampling
            )
        )
    if kind in ("57", "70") and frame.dtype == np.uint16 and not colour:
        return bytes(imagecodecs.ljpeg_encode(frame, bitspersample=int(dataset.BitsStored)))
    raise CannotEncode(syntax)


def _rle(planes: NDArray[np.generic]) -> bytes:
    """RLE of PS3.5 Annex G: most significant byte planes first, one segment each."""
    segments = []
    for plane in planes:
        values = np.ascontiguousarray(plane.astype(plane.dtype.newbyteorder(">")))
        octets = values.view(np.uint8).reshape(*plane.shape, plane.dtype.itemsize)
        for byte in range(plane.dtype.itemsize):
            segments.append(b"".join(_packbits(row.tobytes()) for row in octets[..., byte]))
    segments = [each + b"\0" * (len(each) % 2) for each in segments]
    offsets, at = [], 64
    for each in segments:
        offsets.append(at)
        at += len(each)
    header = np.zeros(16, "<u4")
    header[0] = len(segments)
    header[1 : len(offsets) + 1] = offsets
    return header.tobytes() + b"".join(segments)


def _packbits(row: bytes) -> bytes:
    return bytes(imagecodecs.packbits_encode(row))
