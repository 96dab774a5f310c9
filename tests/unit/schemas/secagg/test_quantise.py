"""PRIVACY-2: no patient weighs more than the clip, as integers, for any input at all."""

from __future__ import annotations

import gc
import math
import sys
import tracemalloc
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.secagg.quantise import (
    ClippedUpdate,
    _exceed,
    block_rows,
    clip_patients,
    integer_gradient_sum,
    quantise,
)

ANY_FLOAT = st.floats(allow_nan=True, allow_infinity=True, width=64)
CLIP = st.floats(min_value=1e-6, max_value=1e6)
INTEGER_CLIP = st.integers(1, 1 << 30)


def norm_squared(vector: np.ndarray) -> int:
    return sum(int(v) * int(v) for v in vector)


@settings(max_examples=400)
@given(st.lists(ANY_FLOAT, min_size=1, max_size=12), CLIP, INTEGER_CLIP)
def test_one_patient_never_exceeds_the_integer_clip(
    values: list[float], clip: float, integer_clip: int
) -> None:
    """PRIVACY-2: the integer norm is at most C_int, for any gradient."""
    got = integer_gradient_sum(np.array([values]), clip, integer_clip)
    assert norm_squared(got) <= integer_clip**2


@settings(max_examples=300)
@given(
    st.lists(st.integers(-(1 << 20), 1 << 20), min_size=2, max_size=6),
    st.integers(-3, 3),
    st.integers(8, 1 << 30),
)
def test_vectors_an_ulp_around_the_sphere_never_exceed_it(
    direction: list[int], ulps: int, integer_clip: int
) -> None:
    row = np.array([direction], dtype=np.float64)
    length = np.linalg.norm(row)
    if length:
        row *= integer_clip / length
    for _ in range(abs(ulps)):
        row = np.nextafter(row, math.inf if ulps > 0 else 0.0)
    assert norm_squared(integer_gradient_sum(row, float(integer_clip), integer_clip)) <= (
        integer_clip**2
    )


@pytest.mark.parametrize("excess", [2**-45, 2**-28, 2**-22])
def test_rounding_outside_the_sphere_is_stepped_back(excess: float) -> None:
    """Far more than float64 ever leaves: the integers of 3-4-5 come out too long."""
    row = np.array([[3.0, 4.0]]) * (1 + excess)
    naive = np.trunc(row / 5.0 * (5 << 27)).astype(np.int64)[0]
    got = quantise(ClippedUpdate(row, 5.0), 5 << 27).values
    assert norm_squared(got) <= (5 << 27) ** 2
    assert np.abs(got - naive).max() <= 1 + 2 * excess * (5 << 27)
    assert excess < 2**-40 or norm_squared(naive) > (5 << 27) ** 2  # the guard had work to do


@given(st.lists(st.lists(ANY_FLOAT, min_size=3, max_size=3), min_size=1, max_size=6), INTEGER_CLIP)
def test_leaving_one_patient_out_changes_the_sum_by_at_most_the_clip(
    rows: list[list[float]], integer_clip: int
) -> None:
    """PRIVACY-2: the sensitivity itself."""
    every = np.array(rows)
    change = integer_gradient_sum(every, 1.0, integer_clip) - integer_gradient_sum(
        every[1:], 1.0, integer_clip
    )
    assert norm_squared(change) <= integer_clip**2


def test_a_thousand_adversarial_patients() -> None:
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(1000, 64)) * 10.0 ** rng.integers(-300, 300, size=(1000, 1))
    rows[::7, 3] = np.inf
    rows[::11, 5] = np.nan
    rows[::13] = 1e308
    integer_clip = 1 << 18
    for row in rows:
        assert norm_squared(integer_gradient_sum(row[None], 0.7, integer_clip)) <= integer_clip**2


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_a_gradient_that_is_not_finite_counts_as_zero(bad: float) -> None:
    """PRIVACY-2: also where float64 has no number."""
    rows = np.array([[0.5, 0.5], [bad, 0.1]])
    alone = integer_gradient_sum(rows[:1], 1.0, 1000)
    assert np.array_equal(integer_gradient_sum(rows, 1.0, 1000), alone)


def test_short_vectors_keep_their_length_and_long_ones_their_direction() -> None:
    got = clip_patients(np.array([[0.3, 0.4], [30.0, 40.0], [3e307, 4e307]]), 1.0).rows
    assert got == pytest.approx(np.array([[0.3, 0.4], [0.6, 0.8], [0.6, 0.8]]), rel=1e-12)


def test_truncation_is_toward_zero() -> None:
    got = integer_gradient_sum(np.array([[0.19, -0.19]]), 1.0, 10)
    assert got.tolist() == [1, -1]


def test_subnormal_values_are_zero_on_the_grid() -> None:
    assert integer_gradient_sum(np.array([[5e-324, 1.0]]), 1.0, 10).tolist() == [0, 10]


def test_the_sum_is_that_of_the_patients() -> None:
    rows = np.random.default_rng(2).normal(size=(50, 7))
    singly = sum(integer_gradient_sum(row[None], 1.0, 1 << 18) for row in rows)
    assert np.array_equal(integer_gradient_sum(rows, 1.0, 1 << 18), singly)


def test_nobody_gives_zeros() -> None:
    assert integer_gradient_sum(np.empty((0, 3)), 1.0, 1000).tolist() == [0, 0, 0]


def test_the_caller_keeps_its_gradients() -> None:
    rows = np.array([[3.0, 4.0]])
    clip_patients(rows, 1.0)
    assert rows.tolist() == [[3.0, 4.0]]


@pytest.mark.parametrize("clip", [0.0, -1.0, math.inf, math.nan])
def test_a_clip_that_is_none_is_refused(clip: float) -> None:
    with pytest.raises(ValueError, match="clip"):
        clip_patients(np.ones((1, 2)), clip)


@pytest.mark.parametrize("integer_clip", [0, -5, (1 << 30) + 1])
def test_an_integer_clip_out_of_range_is_refused(integer_clip: int) -> None:
    with pytest.raises(ValueError, match="integer clip"):
        integer_gradient_sum(np.ones((1, 2)), 1.0, integer_clip)


@pytest.mark.parametrize("row", [[2.0, 0.0], [math.nan, 0.0], [math.inf, 0.0]])
def test_rows_that_were_never_clipped_are_refused(row: list[float]) -> None:
    with pytest.raises(ValueError, match="longer"):
        quantise(ClippedUpdate(np.array([row]), 1.0), 1000)


# --- sums of rows, and the same bits whatever is beside ------------------------------------------


@settings(max_examples=200)
@given(st.lists(ANY_FLOAT, min_size=1, max_size=8), CLIP, INTEGER_CLIP, st.integers(1, 1000))
def test_a_mean_never_exceeds_the_integer_clip(
    values: list[float], clip: float, integer_clip: int, count: int
) -> None:
    """PRIVACY-2: also where the row is the sum of a patient's rows."""
    clipped = clip_patients(np.array([values]), clip, np.array([float(count)]))
    assert norm_squared(quantise(clipped, integer_clip).values) <= integer_clip**2


def test_a_sum_with_its_count_is_clipped_as_its_mean() -> None:
    rows = np.random.default_rng(3).normal(size=(40, 9)) * 10.0 ** np.arange(-20, 20)[:, None]
    counts = np.arange(1.0, 41.0)
    got = clip_patients(rows * counts[:, None], 0.3, counts).rows
    np.testing.assert_allclose(got, clip_patients(rows, 0.3).rows, rtol=1e-14)


@pytest.mark.parametrize("d", [1, 7, 1000, 14_561, 200_000])
@pytest.mark.parametrize("integer_clip", [1 << 18, 1 << 30])
def test_a_patients_integers_do_not_depend_on_the_block(d: int, integer_clip: int) -> None:
    """PRIVACY-2: to the last unit; blocks end where they like."""
    rng = np.random.default_rng(d)
    rows = rng.normal(size=(block_rows(d) + 3, d)) if d > 1000 else rng.normal(size=(1030, d))
    rows[1] = np.inf
    whole = integer_gradient_sum(rows, 0.7, integer_clip)
    for left_out in (0, 1, len(rows) - 1):
        rest = integer_gradient_sum(np.delete(rows, left_out, axis=0), 0.7, integer_clip)
        alone = integer_gradient_sum(rows[left_out : left_out + 1], 0.7, integer_clip)
        assert np.array_equal(whole - rest, alone)


@pytest.mark.parametrize("integer_clip", [(1 << 26) - 1, 1 << 26, (1 << 26) + 1])
def test_the_norm_is_exact_on_both_sides_of_where_float_ends(integer_clip: int) -> None:
    """One grid unit over the limit is seen, by float64 as by integers."""
    for excess in (0, 1):
        row = np.array([[float(integer_clip), float(excess)]])
        lengths = np.vecdot(row, row)
        assert _exceed(row, lengths, integer_clip).tolist() == [bool(excess)]


def test_the_check_refuses_what_is_no_number_of_int64() -> None:
    rows = np.array([[np.nan, 0.0], [1e300, 1e300], [3.0, 4.0]])
    with np.errstate(over="ignore"):
        lengths = np.vecdot(rows, rows)
    for integer_clip in (5, 1 << 30):
        assert _exceed(rows, lengths, integer_clip).tolist() == [True, True, False]


@pytest.mark.parametrize("d", [1, 2, 3, 50, 8192, 20_000, 300_000])
def test_no_clipped_row_needs_the_check(d: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """PRIVACY-2: rounding is taken off before, so the check, which makes zeros, finds nothing."""
    found: list[bool] = []

    def watched(*given: Any) -> Any:
        found.extend(_exceed(*given))
        return _exceed(*given)

    monkeypatch.setattr(sys.modules[_exceed.__module__], "_exceed", watched)
    rng = np.random.default_rng(d)
    rows = [rng.normal(size=(9, d)), rng.integers(-3, 4, (9, d)), np.ones((3, d)), 7 * np.eye(3, d)]
    for integer_clip in (1 << 18, 1 << 26, 5 << 27):
        for clip in (0.7, math.nextafter(math.sqrt(d), 0.0) / 2):
            integer_gradient_sum(np.concatenate(rows) * 1.0, clip, integer_clip)
    assert len(found) == 6 * 24
    assert not any(found)


def test_what_rounding_takes_off_is_far_below_a_unit() -> None:
    rows = np.array([[2.0] + [0.0] * 10_000])
    got = clip_patients(rows, 1.0).rows
    assert 1 - 1e-12 < np.linalg.norm(got) < 1


def test_rows_may_be_worked_on_where_they_are() -> None:
    rng = np.random.default_rng(8)
    rows = rng.normal(size=(600, 300)) * 10.0 ** rng.integers(-3, 3, size=(600, 1))
    rows[3], rows[5, 0] = np.nan, -np.inf
    expected = integer_gradient_sum(rows, 1.0, 1 << 18)
    assert np.array_equal(integer_gradient_sum(rows, 1.0, 1 << 18, may_overwrite=True), expected)


# --- the same work whatever a patient holds ------------------------------------------------------


def work(rows: np.ndarray, integer_clip: int, **more: Any) -> tuple[list[tuple[str, str]], int]:
    """List every call made for one sum, and the most memory it took, in bytes."""
    calls: list[tuple[str, str]] = []

    def note(frame: Any, event: str, called: Any) -> None:
        name = frame.f_code.co_name if event in ("call", "return") else called.__name__
        calls.append((event, name))

    before = sys.getprofile()
    gc.freeze()  # what other tests left behind need not be looked through
    gc.collect()
    gc.disable()  # a collection in between calls whoever waits for one: no work of the sum
    tracemalloc.start()
    try:
        sys.setprofile(note)
        integer_gradient_sum(rows, 1.0, integer_clip, **more)
        sys.setprofile(before)
        calls_made, calls[:] = list(calls), []
        tracemalloc.reset_peak()
        start = tracemalloc.get_traced_memory()[0]
        integer_gradient_sum(rows, 1.0, integer_clip, **more)
        return calls_made, tracemalloc.get_traced_memory()[1] - start
    finally:
        sys.setprofile(before)
        tracemalloc.stop()
        gc.enable()
        gc.unfreeze()


@pytest.mark.parametrize("shape", [(40, 5), (20, 14_561), (1, 200_000)])
@pytest.mark.parametrize("integer_clip", [1 << 18, 1 << 30])
@pytest.mark.parametrize("may_overwrite", [False, True])
def test_a_row_that_is_not_finite_is_no_other_work(
    shape: tuple[int, int], integer_clip: int, may_overwrite: bool
) -> None:
    """PRIVACY-16: how long a sum takes must not tell of one patient."""
    plain = np.random.default_rng(4).normal(size=shape)
    one, every, mixed = plain.copy(), np.full(shape, np.nan), plain.copy()
    one[0, 0], mixed[::2], mixed[1::3, 1] = np.inf, -np.inf, np.nan
    batches = [plain, one, every, mixed, plain * 1e-9, plain * 0.0, plain * 1e38]
    work(plain.copy(), integer_clip)
    calls, most = work(plain.copy(), integer_clip, may_overwrite=may_overwrite)
    assert calls
    for batch in batches:
        again, bytes_ = work(batch.copy(), integer_clip, may_overwrite=may_overwrite)
        assert again == calls
        assert abs(bytes_ - most) < 2048  # of megabytes, or of many calls: free lists


@pytest.mark.parametrize("clip", [1e-101, 1e101])
def test_a_clip_that_no_plan_can_have_is_refused(clip: float) -> None:
    with pytest.raises(ValueError, match="clip"):
        clip_patients(np.ones((1, 2)), clip)


def test_strange_rows_raise_no_warning_that_a_log_could_show() -> None:
    rows = np.array([[1e308, 1e308], [np.inf, -np.inf], [np.nan, 0.0], [1.0, 0.0]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = integer_gradient_sum(rows, 1.0, 1000)
    assert got.tolist() == [1707, 707]
