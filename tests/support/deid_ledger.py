"""What was planted in one file, and what must become of it? The scorer reads it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

Path = tuple[int, ...]
"""Tags from the top of the data set: a sequence's, then the attribute's inside; items aside."""

MIDI_B = (
    "date_shifted", "patid_consistent", "pixels_hidden", "pixels_retained", "tag_retained",
    "text_notnull", "text_removed", "text_retained", "uid_changed", "uid_consistent",
)  # fmt: skip
PRIVACY = ("date_shifted", "pixels_hidden", "text_removed", "uid_changed")
UTILITY = tuple(name for name in MIDI_B if name not in PRIVACY)
OURS = (
    "date_interval", "file_present", "file_valid", "file_clean", "ts_retained", "deid_marked",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Planted:
    """One planted thing.

    Attributes:
        place: where, as a short stable name such as ``header/StudyDescription``.
        path: the attribute; empty where no attribute holds it (preamble, file meta, code stream).
        gone: strings that may not be left in the attribute.
        kept: strings that must be left in it when descriptions are cleaned and not dropped.
        tier: ``basic`` counts under every profile, ``option`` under one that cleans or retains.
    """

    place: str
    path: Path = ()
    gone: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    tier: str = "basic"


@dataclass(frozen=True, slots=True)
class Line:
    """One line burned into pixels: half-open box, the frame (None: all), script, rendered ink."""

    top: int
    left: int
    bottom: int
    right: int
    frame: int | None
    script: str  # "latin", "hangul", "digits"
    text: str
    ink: bytes  # (bottom - top) * (right - left) bytes, 0..255


@dataclass(slots=True)
class Ledger:
    """Everything that is known about one injected file."""

    patient: str  # who, the same text for the same person
    planted: list[Planted] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    secrets: list[str] = field(default_factory=list)  # nowhere in the raw bytes
    must_be_refused: bool = False  # malformed: quarantine is the only right outcome
    may_be_refused: bool = False  # odd: either outcome, but never a crash and never a leak
    says_burned_in: bool = False  # Burned In Annotation YES: only clean pixels may release it
    native_text: bool = False  # readable text stood in the pixels before

    def plant(
        self,
        place: str,
        path: Path = (),
        gone: Iterable[str] = (),
        kept: Iterable[str] = (),
        tier: str = "basic",
    ) -> None:
        """Note one planted thing; what must go must go from the whole file too."""
        self.planted.append(Planted(place, path, tuple(gone), tuple(kept), tier))
        self.secrets.extend(text for text in gone if len(text) >= 4)
