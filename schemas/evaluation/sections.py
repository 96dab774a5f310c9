"""What does one coordinator-blind sum hold, and where?

A study has one blind sum: two, over rosters that differ by a hospital, would open that hospital
(SECAGG-17). So whatever is to be known of the patients without noise is a section of that one
vector. A section has a name, a length that the plan fixes, a function that fills it at a site and
one that derives from its sum what may be released; all sites co-sign what all sections give. A new
quantity is a new section here, and no new message, roster or round.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from schemas.evaluation.bins import CONFUSION_CELLS
from schemas.evaluation.fixed_point import LIMBS

DISCRIMINATION = "discrimination"
CALIBRATION = "calibration"
_CALIBRATION_SUMS = 3  # predicted, squared error, its square


@dataclass(frozen=True, slots=True)
class Section:
    """One part of the vector: ``words`` 32-bit words."""

    name: str
    words: int


def sections(bins: int) -> tuple[Section, ...]:
    """Give the sections in the order in which they lie in the vector.

    Args:
        bins: histogram bins per class, from the plan.
    """
    return (
        Section(DISCRIMINATION, 2 * bins + CONFUSION_CELLS),
        Section(CALIBRATION, _CALIBRATION_SUMS * LIMBS),
    )


def evaluation_length(bins: int) -> int:
    """Give the length of the whole vector in words."""
    return sum(section.words for section in sections(bins))


def join_sections(bins: int, filled: Mapping[str, NDArray[np.int64]]) -> NDArray[np.int64]:
    """Lay the sections one after another; shape (evaluation_length(bins),).

    Raises:
        ValueError: a section is missing, strange or has another length (a fault of the program).
    """
    wanted = sections(bins)
    if {s.name: (s.words,) for s in wanted} != {n: part.shape for n, part in filled.items()}:
        raise ValueError("the filled sections are not those of the plan")
    return np.concatenate([filled[section.name] for section in wanted]).astype(np.int64)


def split_sections(bins: int, vector: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:
    """Cut a vector of exactly the right length into its sections, by name."""
    parts: dict[str, NDArray[np.int64]] = {}
    start = 0
    for section in sections(bins):
        parts[section.name] = vector[start : start + section.words]
        start += section.words
    return parts
