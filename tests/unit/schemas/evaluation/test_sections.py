"""Does the blind vector hold every section once, in one order, and nothing else?"""

from __future__ import annotations

import numpy as np
import pytest

from schemas.evaluation.sections import (
    CALIBRATION,
    DISCRIMINATION,
    evaluation_length,
    join_sections,
    sections,
    split_sections,
)


def filled(bins: int) -> dict[str, np.ndarray]:
    return {
        section.name: np.arange(section.words, dtype=np.int64) + 1000 * place
        for place, section in enumerate(sections(bins))
    }


@pytest.mark.parametrize("bins", [2, 50, 100])
def test_what_is_joined_is_split_again(bins: int) -> None:
    """SECAGG-9: one blind vector of fixed length carries every noise-free quantity."""
    parts = filled(bins)
    vector = join_sections(bins, parts)
    assert vector.shape == (evaluation_length(bins),)
    again = split_sections(bins, vector)
    assert {name: part.tolist() for name, part in again.items()} == {
        name: part.tolist() for name, part in parts.items()
    }


def test_the_length_is_two_histograms_four_cells_and_nine_limbs() -> None:
    assert evaluation_length(100) == 2 * 100 + 4 + 9


def test_a_missing_strange_or_short_section_is_a_fault() -> None:
    parts = filled(10)
    short = parts | {CALIBRATION: parts[CALIBRATION][:-1]}
    missing = {DISCRIMINATION: parts[DISCRIMINATION]}
    for wrong in (short, missing, parts | {"age": parts[CALIBRATION]}):
        with pytest.raises(ValueError, match="sections"):
            join_sections(10, wrong)
