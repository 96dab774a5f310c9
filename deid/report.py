"""How much was removed or replaced, by kind? Counts only; a report never quotes a value."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(slots=True)
class DeidReport:
    """Count what de-identification did.

    Attributes:
        records: records (images or rows) that came out clean.
        actions: attributes or cells, by action ("keep", "remove", "patient", …).
        refused: records refused, by reason code.
        notes: records with something unusual, by fixed word ("patient-unstated", "repaired", …).
        pixels: images by what was done about their pixels ("examined", "too-small", …).
        frames: frames that the text detector looked at.
        boxes: stretches of images blanked, by what asked for it ("detected", "ruled").
        redacted: images of which something was blanked.
        removed_fraction: the blanked share of those images' pixels, added up; over `redacted` it
            is the mean.
        largest_fraction: the largest blanked share of one image's pixels, 0 to 1.
        outside_text: like `removed_fraction`, where the detector found no text: by rules, and in
            the rest of JPEG blocks.
        largest_outside_text: the largest such share of one image.
    """

    records: int = 0
    actions: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)
    pixels: Counter[str] = field(default_factory=Counter)
    frames: int = 0
    boxes: Counter[str] = field(default_factory=Counter)
    redacted: int = 0
    removed_fraction: float = 0.0
    largest_fraction: float = 0.0
    outside_text: float = 0.0
    largest_outside_text: float = 0.0

    def add_pixels(
        self,
        why: str,
        examined: int,
        detected: int,
        ruled: int,
        removed_fraction: float,
        outside_text: float = 0.0,
    ) -> None:
        """Count one image: why it was (not) looked at, frames, boxes, blanked shares (0 to 1)."""
        self.pixels[why] += 1
        self.frames += examined
        self.boxes["detected"] += detected
        self.boxes["ruled"] += ruled
        if detected or ruled:
            self.redacted += 1
            self.removed_fraction += removed_fraction
            self.largest_fraction = max(self.largest_fraction, removed_fraction)
            self.outside_text += outside_text
            self.largest_outside_text = max(self.largest_outside_text, outside_text)

    def as_mapping(self) -> Mapping[str, object]:
        """Give plain JSON-ready counts, sorted."""
        images = max(1, self.redacted)
        return {
            "records": self.records,
            "actions": dict(sorted(self.actions.items())),
            "refused": dict(sorted(self.refused.items())),
            "notes": dict(sorted(self.notes.items())),
            "pixels": {
                "images": dict(sorted(self.pixels.items())),
                "frames_examined": self.frames,
                "boxes": {word: n for word, n in sorted(self.boxes.items()) if n},
                "images_redacted": self.redacted,
                "mean_removed_fraction": round(self.removed_fraction / images, 6),
                "largest_removed_fraction": round(self.largest_fraction, 6),
                "mean_outside_text": round(self.outside_text / images, 6),
                "largest_outside_text": round(self.largest_outside_text, 6),
            },
        }
