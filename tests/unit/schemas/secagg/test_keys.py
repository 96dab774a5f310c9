"""SECAGG-2, -3, -5, -7: every key is bound to what it is for."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from schemas.errors import ErrorCode, ProtocolError
from schemas.secagg.field import PRIME
from schemas.secagg.keys import (
    Attempt,
    agree,
    blind_key,
    frame,
    group_secret,
    open_share,
    pair_mask,
    pair_root,
    seal_share,
    tag_secret,
)

A = X25519PrivateKey.from_private_bytes(b"\x01" * 32)
B = X25519PrivateKey.from_private_bytes(b"\x02" * 32)
PLAN = "0a" * 32
ATTEMPT = Attempt(PLAN, "train", 3, 1, "0b" * 32, "0c" * 32)
ROOT = b"r" * 32

# RFC 7748 §6.1 warns of these; the list is of all points of small order and their twist.
LOW_ORDER = (
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
)


def public(private: X25519PrivateKey) -> str:
    return private.public_key().public_bytes_raw().hex()


def test_frame_tells_lists_apart() -> None:
    assert frame([b"ab", b"c"]) != frame([b"a", b"bc"]) != frame([b"abc"])
    assert frame([]) != frame([b""])


def test_both_sites_find_the_same_root() -> None:
    first = pair_root(A, public(B), PLAN, "site-1", "site-2")
    assert first == pair_root(B, public(A), PLAN, "site-2", "site-1")
    assert len(first) == 32


@pytest.mark.parametrize(
    ("plan", "own", "peer"),
    [("0b" * 32, "site-1", "site-2"), (PLAN, "site-1", "site-3"), (PLAN, "site-12", "site-2")],
)
def test_root_is_bound_to_plan_and_sites(plan: str, own: str, peer: str) -> None:
    assert pair_root(A, public(B), plan, own, peer) != pair_root(
        A, public(B), PLAN, "site-1", "site-2"
    )


@pytest.mark.parametrize("point", LOW_ORDER)
def test_points_of_low_order_are_refused(point: str) -> None:
    for use in (
        lambda: agree(A, point),
        lambda: pair_root(A, point, PLAN, "site-1", "site-2"),
        lambda: pair_mask(A, point, ROOT, ATTEMPT, "site-1", "site-2"),
    ):
        with pytest.raises(ProtocolError) as refused:
            use()
        assert refused.value.code is ErrorCode.COHORT_KEY_INVALID


def test_key_of_another_length_is_refused() -> None:
    with pytest.raises(ProtocolError):
        agree(A, "00" * 31)


def test_share_opens_for_its_receiver() -> None:
    share = seal_share(ROOT, b"g" * 32, header=b"header", sender="site-1", to="site-2")
    assert open_share(ROOT, share, header=b"header", sender="site-1", to="site-2") == b"g" * 32
    assert b"g" * 32 not in bytes.fromhex(share)


@pytest.mark.parametrize(
    "change",
    [{"header": b"other"}, {"sender": "site-3"}, {"to": "site-3"}, {"root": b"s" * 32}],
    ids=lambda change: next(iter(change)),
)
def test_share_is_bound_to_header_sender_and_receiver(change: dict[str, object]) -> None:
    share = seal_share(ROOT, b"g" * 32, header=b"header", sender="site-1", to="site-2")
    how = {"root": ROOT, "header": b"header", "sender": "site-1", "to": "site-2"} | change
    with pytest.raises(ProtocolError) as refused:
        open_share(how.pop("root"), share, **how)
    assert refused.value.code is ErrorCode.COHORT_SHARE_INVALID
    assert refused.value.detail == how["sender"]


@pytest.mark.parametrize("bit", [0, 100, 255, 256, 383])
def test_any_changed_bit_of_a_share_is_noticed(bit: int) -> None:
    raw = bytearray.fromhex(
        seal_share(ROOT, b"g" * 32, header=b"header", sender="site-1", to="site-2")
    )
    raw[bit // 8] ^= 1 << (bit % 8)
    with pytest.raises(ProtocolError):
        open_share(ROOT, raw.hex(), header=b"header", sender="site-1", to="site-2")


def test_shares_of_two_receivers_reveal_nothing_by_comparison() -> None:
    first = seal_share(ROOT, b"g" * 32, header=b"header", sender="site-1", to="site-2")
    second = seal_share(ROOT, b"g" * 32, header=b"header", sender="site-1", to="site-3")
    assert first[:64] != second[:64]  # one nonce, but never one key


def test_a_pair_has_one_mask_with_two_signs() -> None:
    one = pair_mask(A, public(B), ROOT, ATTEMPT, "site-1", "site-2")
    two = pair_mask(B, public(A), ROOT, ATTEMPT, "site-2", "site-1")
    assert (one.stream_key, one.tag_mask) == (two.stream_key, two.tag_mask)
    assert (one.sign, two.sign) == (1, -1)
    assert 0 <= one.tag_mask < PRIME


CHANGES = [
    {"plan_digest": "0f" * 32},
    {"kind": "evaluate"},
    {"round": 4},
    {"attempt": 2},
    {"new_model_hash": "0f" * 32},
    {"transcript_hash": "0f" * 32},
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: next(iter(change)))
def test_mask_and_group_secret_are_bound_to_the_whole_attempt(change: dict[str, object]) -> None:
    other = replace(ATTEMPT, **change)
    mine = pair_mask(A, public(B), ROOT, ATTEMPT, "site-1", "site-2")
    theirs = pair_mask(A, public(B), ROOT, other, "site-1", "site-2")
    assert mine.stream_key != theirs.stream_key
    assert mine.tag_mask != theirs.tag_mask
    parts = {"site-1": b"1" * 32, "site-2": b"2" * 32}
    assert group_secret(parts, ATTEMPT) != group_secret(parts, other)


def test_mask_needs_the_static_key_as_well() -> None:
    mine = pair_mask(A, public(B), ROOT, ATTEMPT, "site-1", "site-2")
    assert pair_mask(A, public(B), b"s" * 32, ATTEMPT, "site-1", "site-2") != mine


def test_round_and_attempt_cannot_be_read_as_one_number() -> None:
    assert (
        replace(ATTEMPT, round=1, attempt=11).info() != replace(ATTEMPT, round=11, attempt=1).info()
    )


@pytest.mark.parametrize("site", ["site-1", "site-2", "site-3"])
def test_every_contribution_counts(site: str) -> None:
    parts = {f"site-{i}": bytes([i]) * 32 for i in (1, 2, 3)}
    changed = parts | {site: b"x" * 32}
    assert group_secret(parts, ATTEMPT) != group_secret(changed, ATTEMPT)


def test_group_secret_does_not_depend_on_order() -> None:
    parts = {f"site-{i}": bytes([i]) * 32 for i in (1, 2, 3)}
    turned = dict(reversed(parts.items()))
    assert group_secret(parts, ATTEMPT) == group_secret(turned, ATTEMPT)


def test_purposes_of_the_group_secret_are_separate() -> None:
    group = b"G" * 32
    made = [tag_secret(group, 8), tag_secret(group, 9)]
    streams = [blind_key(group, "site-1"), blind_key(group, "site-2")]
    heads = {secret[:32] for secret in (*made, *streams)}
    assert len(heads) == 4
