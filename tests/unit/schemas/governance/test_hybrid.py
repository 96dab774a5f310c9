"""SECAGG-16: do ML-KEM-768 keys and ciphertexts stand in hybrid plans, all of them, only there?"""

from __future__ import annotations

import base64
from typing import Any

import pytest
import rfc8785

from schemas import limits
from schemas.canonical import build, parse
from schemas.documents import MAX_PUSH_BYTES
from schemas.errors import CohortiumError, ConfigError, ErrorCode
from schemas.governance.approval import Approval, check_approvals, open_approval
from schemas.governance.study import StudyPlan
from schemas.signing import Context, SignedDocument, seal
from tests.support.factories import (
    HYBRID,
    make_approval,
    make_keys,
    make_plan,
    plan_with,
    sealed_approval,
)

PLAN, KEYS = make_plan(aggregation={"pair_root": HYBRID})
PLAIN = plan_with(KEYS)


def rebuilt(plan: StudyPlan, **changes: Any) -> StudyPlan:
    return build(StudyPlan, {**plan.model_dump(mode="json"), **changes})


def sites_of(plan: StudyPlan) -> list[dict[str, Any]]:
    return [site.model_dump(mode="json") for site in plan.sites]


def changed(plan: StudyPlan, site_id: str, **changes: Any) -> SignedDocument:
    values = {**make_approval(plan, site_id, KEYS).model_dump(), **changes}
    return seal(KEYS[site_id].approval, Context.APPROVAL, Approval(**values))


def code_of(plan: StudyPlan, signed: SignedDocument) -> ErrorCode:
    with pytest.raises(CohortiumError) as caught:
        open_approval(plan, signed)
    return caught.value.code


# -- plans -----------------------------------------------------------------------------------


def test_a_hybrid_plan_pins_every_kem_key_and_a_plain_one_none() -> None:
    assert PLAN.is_hybrid and not PLAIN.is_hybrid
    for site in PLAN.sites:
        assert site.kem_key == KEYS[site.site_id].kem.public_key().public_bytes_raw().hex()
    assert {site.kem_key for site in PLAIN.sites} == {None}


def test_of_each_pair_exactly_the_first_in_the_order_of_names_encapsulates() -> None:
    assert PLAN.encapsulated_for("site-1") == ("site-2", "site-3", "site-4")
    assert PLAN.encapsulated_for("site-4") == ()
    pairs = [{site, peer} for site in PLAN.site_ids for peer in PLAN.encapsulated_for(site)]
    assert len(pairs) == 6 and all(len(pair) == 2 for pair in pairs)
    assert not any(PLAIN.encapsulated_for(site) for site in PLAIN.site_ids)


def test_the_order_is_that_of_names_and_not_of_the_list_in_the_plan() -> None:
    backwards = rebuilt(PLAN, sites=sites_of(PLAN)[::-1])
    assert backwards.encapsulated_for("site-2") == ("site-3", "site-4")


def test_a_hybrid_plan_that_lacks_a_kem_key_is_refused() -> None:
    sites = sites_of(PLAN)
    sites[2]["kem_key"] = None
    with pytest.raises(ConfigError):
        rebuilt(PLAN, sites=sites)
    del sites[2]["kem_key"]
    with pytest.raises(ConfigError):
        rebuilt(PLAN, sites=sites)


def test_a_plain_plan_with_a_kem_key_is_refused() -> None:
    with pytest.raises(ConfigError):
        rebuilt(PLAIN, sites=sites_of(PLAN)[:1] + sites_of(PLAIN)[1:])


def test_two_sites_with_one_kem_key_are_refused() -> None:
    sites = sites_of(PLAN)
    sites[3]["kem_key"] = sites[0]["kem_key"]
    with pytest.raises(ConfigError, match="StudyPlan"):
        rebuilt(PLAN, sites=sites)


@pytest.mark.parametrize("key", ["", "00" * 1183, "00" * 1185, "ff" * 1184, "AB" + "00" * 1183])
def test_a_malformed_kem_key_is_refused(key: str) -> None:
    """FIPS 203 section 7.2: length and modulus."""
    with pytest.raises(ConfigError) as caught:
        rebuilt(PLAN, sites=[{**sites_of(PLAN)[0], "kem_key": key}, *sites_of(PLAN)[1:]])
    assert caught.value.code is ErrorCode.FIELD_INVALID


def test_another_pair_root_is_refused_and_changes_the_digest_where_allowed() -> None:
    assert PLAN.digest() != PLAIN.digest()
    for name in ("ml-kem-768", "x25519-ml-kem-1024", ""):
        with pytest.raises(ConfigError):
            plan_with(KEYS, aggregation={"pair_root": name})


def test_the_largest_hybrid_plan_and_its_approval_stay_within_their_limits() -> None:
    names = [f"h{index:02d}-{'x' * 36}" for index in range(limits.MAX_HYBRID_SITES)]
    keys = {name: make_keys() for name in names}
    plan = plan_with(keys, aggregation={"pair_root": HYBRID})
    signed = sealed_approval(plan, names[0], keys)
    assert len(base64.b64encode(signed.canonical())) < 0.75 * MAX_PUSH_BYTES
    approval = open_approval(plan, signed)
    assert len(approval.encapsulations) == limits.MAX_HYBRID_SITES - 1
    assert len(approval.canonical()) < 0.75 * limits.MAX_APPROVAL_BYTES
    assert len(plan.canonical()) < 0.5 * limits.MAX_PLAN_BYTES
    with pytest.raises(ConfigError):
        plan_with({**keys, "one-more": make_keys()}, aggregation={"pair_root": HYBRID})


# -- approvals -------------------------------------------------------------------------------


def test_an_approval_carries_one_ciphertext_for_each_later_peer() -> None:
    for site, later in (("site-1", 3), ("site-2", 2), ("site-3", 1), ("site-4", 0)):
        assert len(open_approval(PLAN, sealed_approval(PLAN, site, KEYS)).encapsulations) == later


def test_a_ciphertext_too_few_or_for_another_site_is_refused() -> None:
    good = make_approval(PLAN, "site-2", KEYS).encapsulations
    one = good["site-3"]
    for wrong in ({}, {"site-3": one}, {**good, "site-1": one}, {**good, "site-2": one},
                  {**good, "site-9": one}):  # fmt: skip
        signed = changed(PLAN, "site-2", encapsulations=wrong)
        assert code_of(PLAN, signed) is ErrorCode.APPROVAL_ENCAPSULATIONS_WRONG
        assert check_approvals(PLAN, [signed]).approved == ()


def test_a_plain_plans_approval_carries_none() -> None:
    hybrid = make_approval(PLAN, "site-1", KEYS).encapsulations
    signed = changed(PLAIN, "site-1", encapsulations=hybrid)
    assert code_of(PLAIN, signed) is ErrorCode.APPROVAL_ENCAPSULATIONS_WRONG


@pytest.mark.parametrize("text", ["", "00" * 1087, "00" * 1089, "zz" * 1088, "AB" * 1088])
def test_a_malformed_ciphertext_is_refused(text: str) -> None:
    good = make_approval(PLAN, "site-3", KEYS)
    values = {**good.model_dump(), "encapsulations": {"site-4": text}}
    bent = good.model_construct(**values)
    signed = seal(KEYS["site-3"].approval, Context.APPROVAL, bent)
    assert code_of(PLAN, signed) is ErrorCode.FIELD_INVALID


def test_a_ciphertext_changed_on_the_way_breaks_the_approval() -> None:
    signed = sealed_approval(PLAN, "site-3", KEYS)
    payload = signed.payload
    middle = len(payload) // 8
    swapped = "A" if payload[middle] != "A" else "B"
    bent = signed.model_copy(update={"payload": payload[:middle] + swapped + payload[middle + 1 :]})
    assert code_of(PLAN, bent) is ErrorCode.SIGNATURE_INVALID


def test_an_approval_without_the_field_is_of_no_known_form() -> None:
    """A node from before hybrid plans cannot approve one by leaving the field out."""
    values = make_approval(PLAN, "site-4", KEYS).model_dump(mode="json")
    del values["encapsulations"]
    with pytest.raises(CohortiumError) as caught:
        parse(Approval, rfc8785.dumps(values), max_bytes=10**6)
    assert caught.value.code is ErrorCode.DOCUMENT_NOT_CANONICAL
