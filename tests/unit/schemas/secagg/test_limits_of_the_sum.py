"""Are the written limits of the secure sum true? What it does not protect, played out."""

from __future__ import annotations

import numpy as np
import pytest

from schemas.errors import ConfigError
from schemas.secagg import MaskedSum, check_sum, contributors_of
from schemas.secagg.field import PRIME
from schemas.secagg.keys import tag_offset, tag_secret
from schemas.secagg.tag import AffineTag
from tests.support.factories import make_plan
from tests.support.secure_sum import Consortium, summed, vectors_of


def test_two_sites_make_no_consortium() -> None:
    """SECAGG-11: n = 2 does not exist, nor a cohort of two, nor t = 0."""
    for sites, terms in ((2, {}), (3, {"cohort_minimum": 2}), (3, {"collusion_bound": 0})):
        with pytest.raises(ConfigError):
            make_plan(sites, **terms)


def test_all_others_together_read_the_last_vector() -> None:
    """SECAGG-11: with m_min - 1 colluders in a cohort, whatever the plan says of t."""
    consortium = Consortium.of(3)
    assert consortium.plan.cohort_minimum == 3
    keys = consortium.keys()
    vectors = vectors_of(keys, 32)
    opened = check_sum(keys["site-1"], summed(keys, vectors))
    known = vectors["site-1"] + vectors["site-2"]
    assert (opened - known == vectors["site-3"]).all()


def test_a_member_can_forge_a_sum_and_a_stranger_cannot() -> None:
    """SECAGG-11: G is every member's; who colludes writes the tag of any sum."""
    keys = Consortium.of(4).keys(["site-1", "site-2", "site-3"])
    wished = np.arange(32, dtype=np.int64) - 16
    group, roster = keys["site-3"].group(), keys["site-3"].roster
    offset = sum(tag_offset(group, len(wished), site) for site in roster) % PRIME
    tag = AffineTag(tag_secret(group, len(wished))).evaluate(wished, offset=offset)
    forged = MaskedSum(wished.astype(np.uint32), tag)
    believer = keys["site-1"]
    opened = check_sum(believer, forged, contributors=contributors_of(believer, []))
    assert (opened == wished).all()
