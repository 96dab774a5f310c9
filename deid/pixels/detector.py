"""Where in a grey picture does writing stand? (text detection: offline, in any script)

The network marks the pixels that look like strokes in a row; what is a line of writing among
them is decided in `deid.pixels.lines`. Nothing is read: the bundled recogniser knows no Hangul,
but the detector sees it, so a picture is redacted on detection and never on reading.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from deid.pixels.boxes import Box
from deid.pixels.lines import Patch, lines_of, patches_of
from schemas.errors import ConfigError, ErrorCode

MODEL = "PP-OCRv6_det_small.onnx"  # the detection model inside the rapidocr 3.10.0 wheel
TILE = 1152  # a larger picture goes through in tiles, so that memory is bounded by one of them
OVERLAP = 128  # more than twice the tallest line looked for, so that no line is cut in all tiles
# The second look, by the picture's pixels: magnified it finds small print, halved large letters.
# CPU time grows with the square of the scale, so larger pictures are magnified less.
SECOND_LOOKS = ((600_000, 2.0), (1_300_000, 1.5))
HALVED = 0.5
_STEP = 32  # the network's input sides are multiples of this


class _Session(Protocol):
    def run(
        self, names: None, inputs: dict[str, NDArray[np.float32]], /
    ) -> list[NDArray[np.float32]]: ...


class TextDetector:
    """Find lines of writing with a differentiable-binarisation network (Liao et al., AAAI 2020)."""

    def __init__(self, session: _Session, input_name: str) -> None:
        self._session = session
        self._input = input_name

    @classmethod
    def load(cls) -> TextDetector | None:
        """Load the network from the installed wheel; nothing is fetched.

        It runs on one thread: the same picture then gives the same numbers in every worker.

        Returns:
            None when the optional extra is not installed.

        Raises:
            ConfigError: the extra is installed without the model that was measured.
        """
        wheel = importlib.util.find_spec("rapidocr")
        if wheel is None or wheel.origin is None:
            return None
        if any(importlib.util.find_spec(name) is None for name in ("onnxruntime", "cv2")):
            return None
        model = Path(wheel.origin).parent / "models" / MODEL
        if not model.is_file():
            raise ConfigError(
                ErrorCode.TEXT_DETECTION_MISSING,
                "The text detection installed here has another model than the one measured.",
                hint="Install the extra again: cohortium[text-detection].",
            )
        # Official builds of the runtime report to their maker unless this stands before the import.
        os.environ["ORT_DISABLE_TELEMETRY"] = "1"
        import onnxruntime  # here: optional, and a second to import

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.enable_cpu_mem_arena = False  # else the largest picture's memory is kept for good
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(
            str(model), options, providers=["CPUExecutionProvider"]
        )
        return cls(session, session.get_inputs()[0].name)

    def find(self, grey: NDArray[np.uint8], *, thorough: bool = True) -> list[Box]:
        """Find the lines of writing in one picture.

        Args:
            grey: shape (rows, columns).
            thorough: look at two magnifications; False looks once, at a fifth of the cost, and
                overlooks a few lines more (for the many frames of a loop).

        Returns:
            Boxes without a frame, somewhat larger than the lines, in reading order.
        """
        if grey.size == 0 or grey.min() == grey.max():
            return []
        once = self._patches(grey, 1.0)
        again: list[Patch] = []
        scale = next((scale for size, scale in SECOND_LOOKS if grey.size <= size), HALVED)
        if thorough:
            again = self._patches(grey, scale)
        return lines_of(grey, once, again, scale)

    def _patches(self, grey: NDArray[np.uint8], scale: float) -> list[Patch]:
        import cv2  # here: comes with the optional extra

        if scale != 1.0:
            sides = (round(grey.shape[1] * scale), round(grey.shape[0] * scale))
            method = cv2.INTER_LINEAR if scale > 1 else cv2.INTER_AREA
            grey = np.asarray(cv2.resize(grey, sides, interpolation=method), dtype=np.uint8)
        return patches_of(self.probability(grey), scale)

    def probability(self, grey: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Give the network's map of "writing here", 0 to 1, shape (rows, columns) of ``grey``."""
        rows, columns = grey.shape
        out = np.zeros((rows, columns), dtype=np.float32)
        for down in _spans(rows):
            for across in _spans(columns):
                here = out[down, across]
                np.maximum(here, self._tile(grey[down, across]), out=here)
        return out

    def _tile(self, part: NDArray[np.uint8]) -> NDArray[np.float32]:
        rows, columns = part.shape
        if part.min() == part.max():
            return np.zeros((rows, columns), dtype=np.float32)
        sides = (-(-rows // _STEP) * _STEP, -(-columns // _STEP) * _STEP)
        plane = np.zeros(sides, dtype=np.float32)
        plane[:rows, :columns] = part
        plane /= np.float32(127.5)
        plane -= np.float32(1.0)
        batch = np.ascontiguousarray(np.broadcast_to(plane, (1, 3, *sides)))
        return self._session.run(None, {self._input: batch})[0][0, 0, :rows, :columns]


def _spans(length: int) -> list[slice]:
    """Cover one side with as few equal tiles as may be, each overlapping the next."""
    count = max(1, -(-(length - OVERLAP) // (TILE - OVERLAP)))
    size = -(-(length + (count - 1) * OVERLAP) // count)
    starts = [min(index * (size - OVERLAP), length - size) for index in range(count)]
    return [slice(start, start + size) for start in starts]
