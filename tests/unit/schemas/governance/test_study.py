"""Is a plan accepted only when it is consistent, and does every change change its digest?"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import limits
from schemas.canonical import build, parse, sha256_hex
from schemas.errors import CohortiumError, ConfigError, ErrorCode, ProtocolError, TrustError
from schemas.governance.study import StudyPlan, open_plan
from schemas.signing import Context, SignedDocument, public_hex, seal
from tests.support.factories import VENDOR, make_plan, plan_with, seal_plan

PLAN, KEYS = make_plan()
VALUES: dict[str, Any] = json.loads(PLAN.canonical())
SITES = VALUES["sites"]


def test_a_plan_survives_the_journey_byte_for_byte() -> None:
    signed = seal_plan(PLAN)
    travelled = parse(SignedDocument, signed.canonical(), max_bytes=10**6)
    plan = open_plan(travelled)
    assert plan == PLAN
    assert plan.digest() == sha256_hex(travelled.payload_bytes()) == PLAN.digest()


@pytest.mark.parametrize("n_sites", [3, 4, 8])
def test_consortia_of_usual_sizes_pass(n_sites: int) -> None:
    plan, _ = make_plan(n_sites)
    assert len(plan.site_ids) == n_sites
    assert plan.site("site-2").site_id == "site-2"
    with pytest.raises(KeyError):
        plan.site("site-99")


def test_a_plan_of_the_largest_consortium_fits_its_limit() -> None:
    record = SITES[0]
    assert len(json.dumps(record)) * limits.MAX_SITES < limits.MAX_PLAN_BYTES / 2


def test_derived_numbers() -> None:
    assert PLAN.model.input_width == 4
    assert PLAN.training.attempts == 12
    noise = 13 * math.sqrt(3 / 2)
    assert PLAN.headroom(PLAN.sum_terms(0)) == pytest.approx(2**31 - (2000 + 12 * noise) * 2**18)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"cohort_minimum": 3, "collusion_bound": 2}, "at least collusion_bound"),
        ({"cohort_minimum": 5}, "fewer sites than cohort_minimum"),
        ({"cohort_minimum": 2}, "greater than or equal to 3"),
        ({"collusion_bound": 0}, "greater than or equal to 1"),
        ({"sites": SITES[:2]}, "at least 3"),
        ({"sites": [*SITES, SITES[0]]}, "site names must all be different"),
        ({"expires": VALUES["created"]}, "expires before"),
        ({"expires": "2026-11-22T11:00:00Z"}, "expires before"),
        ({"expires": "2028-11-23T12:00:00Z"}, "longer than 731 days"),
        ({"expires": "soon"}, "a time is written"),
        ({"outputs": []}, "at least 1"),
        ({"outputs": ["release", "release"]}, "outputs must all be different"),
        ({"outputs": ["histogram"]}, "Input should be"),
        ({"recipients": []}, "at least 1"),
        ({"recipients": ["A", "A"]}, "recipients must all be different"),
        ({"study_id": "Heart"}, "pattern"),
        ({"title": "a\u202eb"}, "invisible"),
        ({"app_bundle_sha256": "AB" * 32}, "pattern"),
        ({"tuning_declaration": ""}, "at least 1"),
        ({"training": {"sampling": "poisson"}}, "exactly when sampling_rate is 1"),
        ({"training": {"sampling_rate": 0.5, "divisor": 10}}, "exactly when sampling_rate is 1"),
        ({"training": {"sampling_rate": 0}}, "greater than 0"),
        ({"training": {"sampling_rate": 1.01}}, "less than or equal to 1"),
        ({"training": {"average_from_step": 11}}, "after the last step"),
        ({"training": {"divisor": 2001}}, "divisor exceeds"),
        ({"training": {"steps": 0}}, "greater than or equal to 1"),
        ({"training": {"retry_cap": -1}}, "greater than or equal to 0"),
        ({"training": {"momentum": 1}}, "less than 1"),
        ({"training": {"learning_rate": 0}}, "greater than or equal to"),
        ({"training": {"clip": 0}}, "greater than or equal to"),
        ({"training": {"weight_decay": -0.1}}, "greater than or equal to 0"),
        ({"training": {"max_images_per_patient": 0}}, "greater than or equal to 1"),
        ({"training": {"integer_clip": 255}}, "greater than or equal to 256"),
        ({"training": {"integer_clip": 2**20}}, "could wrap"),
        ({"training": {"maximum_patients": 8_200, "divisor": 500}}, "could wrap"),
        ({"training": {"integer_clip": 256}, "model": {"parameters": 7}}, "more than 1 %"),
        ({"training": {"algorithm": "fedavg"}}, "Input should be"),
        ({"privacy": {"delta": 2e-5}}, "less than or equal to"),
        (
            {"privacy": {"smallest_site_patients": 10_001}, "training": {"integer_clip": 2**10}},
            "delta exceeds one tenth",
        ),
        ({"privacy": {"smallest_site_patients": 2_001}}, "exceeds maximum_patients"),
        ({"privacy": {"epsilon_two_hospitals": 0.5}}, "below epsilon"),
        ({"privacy": {"epsilon": 21, "epsilon_two_hospitals": 30}}, "less than or equal to 20"),
        ({"privacy": {"epsilon": 0}}, "greater than 0"),
        ({"privacy": {"noise_multiplier": 0}}, "greater than 0"),
        ({"privacy": {"noise_multiplier": 0.00005}}, "below 8 grid units"),
        ({"privacy": {"noise_multiplier": 60}}, "beyond the sampler"),
        ({"privacy": {"hospitals_per_patient": 5}}, "number of sites"),
        ({"privacy": {"unit": "image"}}, "Input should be"),
        ({"privacy": {"adjacency": "replace"}}, "Input should be"),
        ({"privacy": {"accountant": "rdp"}}, "Input should be"),
        ({"evaluation": {"bins": 101}}, "less than or equal to 100"),
        ({"evaluation": {"bins": 1}}, "greater than or equal to 2"),
        ({"evaluation": {"threshold": 1}}, "less than 1"),
        ({"evaluation": {"minimum_roc_patients": 9}}, "greater than or equal to 10"),
        ({"model": {"features": []}}, "neither features nor an image"),
        ({"model": {"image_rows": 28}}, "both zero or both positive"),
        ({"model": {"image_rows": 28, "image_columns": 28}}, "disagree on the size"),
        ({"model": {"architecture": "small-cnn"}}, "needs image_rows"),
        ({"model": {"architecture": "resnet"}}, "Input should be"),
        ({"model": {"parameters": 0}}, "greater than or equal to 1"),
        ({"model": {"features": [{"column": "bmi", "encoding": "identity"}]}}, "not a column"),
        ({"model": {"features": [{"column": "num", "encoding": "identity"}]}}, "may not be a"),
        (
            {"model": {"features": [{"column": "cp", "encoding": "one-hot", "levels": ["9"]}]}},
            "not a code",
        ),
        (
            {"model": {"features": [{"column": "cp", "encoding": "scale", "maximum": 4}]}},
            "only a number can be scaled",
        ),
        (
            {"model": {"features": [{"column": "age", "encoding": "identity"}] * 2}},
            "features must all be different",
        ),
    ],
)
def test_a_plan_that_contradicts_itself_is_refused(changes: dict[str, Any], why: str) -> None:
    """SECAGG-1, among others: 3 <= n, t >= 1, t + 2 <= m_min <= n."""
    with pytest.raises(ConfigError, match=why):
        plan_with(KEYS, **changes)


@pytest.mark.parametrize("field", ["clip", "learning_rate", "divisor"])
@pytest.mark.parametrize("value", [0.0, -1.0, 5e-324, 1e-320, 1e10])
def test_a_constant_that_float64_cannot_carry_is_refused(field: str, value: float) -> None:
    """With a clip of 1e-320 a site's refusal would say something about one patient."""
    with pytest.raises(ConfigError, match="than or equal to"):
        plan_with(KEYS, training={field: value})


@pytest.mark.parametrize("field", ["identity_key", "approval_key", "study_key"])
def test_one_key_at_two_sites_is_refused(field: str) -> None:
    sites = [SITES[0], {**SITES[1], field: SITES[0][field]}, *SITES[2:]]
    with pytest.raises(ConfigError, match="keys must all be different"):
        plan_with(KEYS, sites=sites)


def test_a_site_may_not_be_its_own_vendor() -> None:
    with pytest.raises(ConfigError, match="keys must all be different"):
        plan_with(KEYS, vendor_key=SITES[0]["identity_key"])


@pytest.mark.parametrize("field", ["identity_key", "approval_key", "study_key"])
def test_a_key_of_low_order_is_refused(field: str) -> None:
    with pytest.raises(ConfigError, match="low order"):
        plan_with(KEYS, sites=[{**SITES[0], field: "00" * 32}, *SITES[1:]])


def test_poisson_sampling_passes_with_its_own_divisor() -> None:
    plan = plan_with(KEYS, training={"sampling": "poisson", "sampling_rate": 0.1, "divisor": 50})
    assert plan.training.sampling_rate == 0.1
    with pytest.raises(ConfigError, match="divisor exceeds"):
        plan_with(KEYS, training={"sampling": "poisson", "sampling_rate": 0.1, "divisor": 201})


@settings(max_examples=200)
@given(
    clip=st.integers(2**12, 2**22),
    patients=st.integers(500, 50_000),
    sigma=st.floats(0.5, 40),
    n_noisy=st.integers(3, 4),
)
def test_an_accepted_plan_cannot_wrap(clip: int, patients: int, sigma: float, n_noisy: int) -> None:
    training = {"integer_clip": clip, "maximum_patients": patients}
    privacy = {"noise_multiplier": sigma}
    try:
        plan = plan_with(KEYS, training=training, privacy=privacy)
    except ConfigError as refused:
        assert refused.code is ErrorCode.FIELD_INVALID
        return
    share = sigma * clip / math.sqrt(n_noisy - plan.collusion_bound)
    worst = patients * clip + 12 * share * math.sqrt(n_noisy)
    assert worst < 2**31


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from leaves(inner, (*path, index))
    else:
        yield path, value


LEAVES = list(leaves(VALUES))


def replaced(path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    copy: Any = json.loads(json.dumps(VALUES))
    inner = copy
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    assert isinstance(copy, dict)
    return copy


@settings(max_examples=200)
@given(st.sampled_from(LEAVES), st.data())
def test_any_change_is_refused_or_gives_another_digest(
    leaf: tuple[tuple[Any, ...], Any], data: st.DataObject
) -> None:
    path, old = leaf
    new = data.draw(
        st.one_of(
            st.none(),
            st.booleans(),
            st.integers(-1, 10_000),
            st.floats(0, 2),
            st.text(st.characters(codec="utf-8"), max_size=10),
            st.just("ab" * 32),
        )
    )
    if type(new) is type(old) and new == old:
        return
    try:
        plan = build(StudyPlan, replaced(path, new))
    except ConfigError:
        return
    assert plan.digest() != PLAN.digest() or new == old


def test_a_plan_signed_by_another_key_than_it_names_is_refused() -> None:
    stranger = Ed25519PrivateKey.generate()
    with pytest.raises(TrustError) as caught:
        open_plan(seal(stranger, Context.PLAN, PLAN))
    assert caught.value.code is ErrorCode.SIGNER_UNEXPECTED


def test_a_tampered_plan_is_refused() -> None:
    other = plan_with(KEYS, privacy={"epsilon": 2})
    mixed = seal_plan(PLAN).model_copy(update={"payload": seal_plan(other).payload})
    with pytest.raises(TrustError) as caught:
        open_plan(mixed)
    assert caught.value.code is ErrorCode.SIGNATURE_INVALID


def sealed_raw(raw: bytes) -> SignedDocument:
    message = b"cohortium/v1/plan\x00" + raw
    return SignedDocument(
        signer=public_hex(VENDOR),
        payload=base64.b64encode(raw).decode(),
        signature=VENDOR.sign(message).hex(),
    )


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (PLAN.canonical()[:-1] + b',"zz":1}', ErrorCode.FIELD_UNKNOWN),
        (PLAN.canonical()[:-1] + b',"version":1}', ErrorCode.DUPLICATE_KEY),
        (PLAN.canonical() + b" ", ErrorCode.DOCUMENT_NOT_CANONICAL),
        (PLAN.canonical().replace(b'"version":1}', b'"version":2}'), ErrorCode.VERSION_UNKNOWN),
        (b" " * (limits.MAX_PLAN_BYTES + 1), ErrorCode.DOCUMENT_TOO_LARGE),
    ],
)
def test_even_a_signed_plan_must_be_strict(raw: bytes, code: ErrorCode) -> None:
    with pytest.raises(ProtocolError) as caught:
        open_plan(sealed_raw(raw))
    assert caught.value.code is code


def test_a_sealed_approval_is_not_a_plan() -> None:
    with pytest.raises(CohortiumError) as caught:
        open_plan(seal(VENDOR, Context.APPROVAL, PLAN))
    assert caught.value.code is ErrorCode.SIGNATURE_INVALID
