"""What may the pixels of an object show, and how is it taken out? (public API)"""

from __future__ import annotations

from deid.pixels.boxes import Box
from deid.pixels.detector import TextDetector
from deid.pixels.examine import PixelOutcome, PixelReport, examine
from deid.pixels.faces import Face, face_verdict

__all__ = [
    "Box",
    "Face",
    "PixelOutcome",
    "PixelReport",
    "TextDetector",
    "examine",
    "face_verdict",
]
