"""What did the examination of an output folder find?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

EXAMPLES = 20  # shown and kept; the counts cover all


@dataclass(slots=True)
class Findings:
    """Count what an examination of an output folder found.

    Attributes:
        files: clean files examined.
        bytes: their size.
        broken: clean files with at least one fault.
        faults: faults by kind.
        examples: the first broken files' names, with the kind and tag of their first fault.
        others: files that are not DICOM and that no run wrote.
        compared: input files whose clean copy was searched for what was removed.
        patterns: removed values searched for, all files together.
        missing: clean files that the journal names and that are gone, or of another size.
        not_run: input files that no finished run knows.
    """

    files: int = 0
    bytes: int = 0
    broken: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    examples: list[tuple[str, str]] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    n_others: int = 0
    compared: int = 0
    patterns: int = 0
    missing: int = 0
    not_run: int = 0

    @property
    def is_clean(self) -> bool:
        """Tell whether nothing was found."""
        return not self.broken and not self.missing

    def blame(self, name: str, kinds: Sequence[str], tag: int | None = None) -> None:
        """Add one broken file, with the kinds of its faults and the tag of the first."""
        self.broken += 1
        self.faults.update(kinds)
        if len(self.examples) < EXAMPLES:
            place = "" if tag is None else f" at ({tag >> 16:04X},{tag & 0xFFFF:04X})"
            self.examples.append((name, kinds[0] + place))
