"""Does every score fall into exactly one bin, the same everywhere?"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.evaluation import bin_index, logit_edges


@pytest.mark.parametrize("bins", [2, 3, 50, 100])
def test_edges_ascend_strictly_and_are_symmetric(bins: int) -> None:
    edges = logit_edges(bins)
    assert edges.shape == (bins - 1,)
    assert (np.diff(edges) > 0).all()
    np.testing.assert_allclose(edges, -edges[::-1], atol=1e-6)


def test_bins_are_narrow_where_squeezed_scores_lie() -> None:
    edges = logit_edges(100)
    middle = edges[(edges > -1) & (edges < 1)]
    assert np.diff(middle).max() < 0.12
    assert edges[-1] == 32.0


@given(st.floats(allow_nan=True, allow_infinity=True), st.integers(2, 100))
def test_every_score_has_one_bin(logit: float, bins: int) -> None:
    place = int(bin_index(np.array([logit]), bins)[0])
    assert 0 <= place < bins
    if not np.isnan(logit):
        edges = [-np.inf, *logit_edges(bins), np.inf]
        assert edges[place] <= logit
        assert logit < edges[place + 1] or logit == np.inf


def test_not_a_number_counts_as_the_lowest_score() -> None:
    assert bin_index(np.array([np.nan, -np.inf, np.inf]), 100).tolist() == [0, 0, 99]


def test_edges_are_frozen_for_auditors() -> None:
    assert logit_edges(6).tolist() == [-32.0, -2.806417, 0.0, 2.806417, 32.0]
