"""SECAGG-2, -3, -5, -7, -12, -16: every key is bound to what it is for."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from schemas.errors import ErrorCode, ProtocolError
from schemas.secagg.field import PRIME
from schemas.secagg.keys import (
    GROUP_SHARE,
    MASK_SHARE,
    Attempt,
    PairMask,
    agree,
    blind_key,
    frame,
    group_secret,
    open_share,
    pair_root,
    pair_seed,
    pair_sign,
    seal_share,
    self_mask_commitment,
    self_mask_seed,
    tag_offset,
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
    """SECAGG-2: another plan or pair has another root."""
    assert pair_root(A, public(B), plan, own, peer) != pair_root(
        A, public(B), PLAN, "site-1", "site-2"
    )


def test_a_hybrid_root_needs_both_secrets() -> None:
    """SECAGG-16: with the ML-KEM secret alone, or the X25519 secret alone, there is no root."""
    roots = {
        pair_root(mine, public(B), PLAN, "site-1", "site-2", kem)
        for mine in (A, B)
        for kem in (b"", b"k" * 32, b"l" * 32)
    }
    assert len(roots) == 6
    both = (pair_root(A, public(B), PLAN, "site-1", "site-2", b"k" * 32), b"k" * 32)
    assert pair_root(B, public(A), PLAN, "site-2", "site-1", both[1]) == both[0]


@pytest.mark.parametrize("point", LOW_ORDER)
def test_points_of_low_order_are_refused(point: str) -> None:
    """SECAGG-2: a shared secret of zero is no secret."""
    for use in (
        lambda: agree(A, point),
        lambda: pair_root(A, point, PLAN, "site-1", "site-2"),
        lambda: pair_seed(A, point, ROOT, ATTEMPT, "site-1", "site-2"),
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
    [
        {"header": b"other"},
        {"sender": "site-3"},
        {"to": "site-3"},
        {"root": b"s" * 32},
        {"purpose": MASK_SHARE},
    ],
    ids=lambda change: next(iter(change)),
)
def test_share_is_bound_to_purpose_header_sender_and_receiver(change: dict[str, object]) -> None:
    """SECAGG-3: a share opens where it was meant to, nowhere else."""
    usual = {"header": b"header", "sender": "site-1", "to": "site-2", "purpose": GROUP_SHARE}
    share = seal_share(ROOT, b"g" * 32, **usual)
    assert share == seal_share(ROOT, b"g" * 32, header=b"header", sender="site-1", to="site-2")
    how = {"root": ROOT, **usual, **change}
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
    one = pair_seed(A, public(B), ROOT, ATTEMPT, "site-1", "site-2")
    two = pair_seed(B, public(A), ROOT, ATTEMPT, "site-2", "site-1")
    assert one == two and len(one) == 48
    assert (pair_sign("site-1", "site-2"), pair_sign("site-2", "site-1")) == (1, -1)
    assert pair_sign("site-10", "site-2") == 1  # names sort as text


def test_a_mask_is_read_from_its_seed() -> None:
    seed = bytes(range(32)) + (PRIME + 5).to_bytes(16, "little")
    mask = PairMask.of(seed, -1)
    assert (mask.sign, mask.stream_key, mask.tag_mask) == (-1, seed[:32], 5)
    for short in (seed[:47], seed + b"x", b""):
        with pytest.raises(ValueError, match="48"):
            PairMask.of(short, 1)


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
    """SECAGG-5 and SECAGG-7: every part of A changes both."""
    other = replace(ATTEMPT, **change)
    mine = pair_seed(A, public(B), ROOT, ATTEMPT, "site-1", "site-2")
    theirs = pair_seed(A, public(B), ROOT, other, "site-1", "site-2")
    assert mine[:32] != theirs[:32]
    assert mine[32:] != theirs[32:]
    parts = {"site-1": b"1" * 32, "site-2": b"2" * 32}
    assert group_secret(parts, ATTEMPT) != group_secret(parts, other)


def test_mask_needs_the_static_key_as_well() -> None:
    """SECAGG-5: R is the salt of a pair's mask."""
    mine = pair_seed(A, public(B), ROOT, ATTEMPT, "site-1", "site-2")
    assert pair_seed(A, public(B), b"s" * 32, ATTEMPT, "site-1", "site-2") != mine


def test_round_and_attempt_cannot_be_read_as_one_number() -> None:
    assert (
        replace(ATTEMPT, round=1, attempt=11).info() != replace(ATTEMPT, round=11, attempt=1).info()
    )


@pytest.mark.parametrize("site", ["site-1", "site-2", "site-3"])
def test_every_contribution_counts(site: str) -> None:
    """SECAGG-7: no member alone chooses G."""
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
    offsets = {tag_offset(group, n, site) for n in (8, 9) for site in ("site-1", "site-2")}
    assert len(offsets) == 4
    streams = [blind_key(group, "site-1"), blind_key(group, "site-2")]
    heads = {secret[:32] for secret in (*made, *streams)}
    assert len(heads) == 4


def test_a_self_mask_is_bound_to_its_secret_and_header() -> None:
    """SECAGG-12: seed_i."""
    seeds = {self_mask_seed(s * 32, header) for s in (b"s", b"t") for header in (b"1", b"2")}
    assert len(seeds) == 4
    assert {len(seed) for seed in seeds} == {48}


def test_a_commitment_fits_one_secret_of_one_site_in_one_attempt() -> None:
    """SECAGG-12: what the coordinator compares a secret with."""
    usual = (b"s" * 32, PLAN, "site-1", "0d" * 32)
    changed = [
        (b"t" * 32, *usual[1:]),
        (usual[0], "0b" * 32, *usual[2:]),
        (*usual[:2], "site-2", usual[3]),
        (*usual[:3], "0e" * 32),
    ]
    made = {self_mask_commitment(*each) for each in (usual, *changed)}
    assert len(made) == 5
    assert all(len(each) == 64 for each in made)
    assert self_mask_commitment(*usual) != self_mask_seed(usual[0], b"").hex()[:64]
