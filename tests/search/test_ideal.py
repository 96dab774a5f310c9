"""Do the ideal primitives behave as the real ones, and do they know who could compute what?"""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from schemas.canonical import Document
from schemas.errors import CohortiumError, ErrorCode
from schemas.secagg import keys
from schemas.secagg.messages import SurvivorList
from schemas.signing import Context, is_valid, public_hex, sign
from tests.search.ideal import MEMORY, Entropy, IdealEd25519, IdealX25519, ideal_primitives


@pytest.fixture(autouse=True)
def ideal():
    with ideal_primitives():
        yield


def private(name: str, *, is_honest: bool = True) -> IdealX25519:
    return IdealX25519.from_private_bytes(Entropy(name.encode(), is_honest)(32))


def public(key: IdealX25519) -> str:
    return key.public_key().public_bytes_raw().hex()


def test_both_ends_agree_and_nobody_else_knows_it() -> None:
    one, other = private("one"), private("other")
    secret = keys.agree(one, public(other))
    assert secret == keys.agree(other, public(one)) != keys.agree(one, public(one))
    assert not MEMORY.is_known(secret, set())


def test_whoever_holds_one_end_knows_it() -> None:
    secret = keys.agree(private("one"), public(private("theirs", is_honest=False)))
    assert MEMORY.is_known(secret, set())
    assert MEMORY.is_known(keys.agree(private("one"), "ab" * 32), set())  # made up by anybody


def test_points_of_low_order_are_refused() -> None:
    with pytest.raises(CohortiumError) as refused:
        keys.agree(private("one"), "00" * 32)
    assert refused.value.code is ErrorCode.COHORT_KEY_INVALID


def test_a_derived_key_is_known_with_secret_and_salt_only() -> None:
    hidden = keys.agree(private("one"), public(private("other")))
    plain = keys.agree(private("one"), public(private("theirs", is_honest=False)))
    made = [
        keys.derive(secret, b"purpose", b"context", salt=salt, n_bytes=48)
        for secret in (hidden, plain)
        for salt in (hidden, b"")
    ]
    assert [MEMORY.is_known(each, set()) for each in made] == [False, False, False, True]
    assert MEMORY.is_known(made[0], {made[0]})  # revealed as such


def test_a_pair_mask_with_a_foreign_ephemeral_key_is_still_hidden_by_the_root() -> None:
    """What READY signatures protect twice: the root takes a pinned key (SECAGG-2, -5)."""
    mine, peer = private("mine"), private("peer")
    root = keys.pair_root(mine, public(peer), "11" * 32, "a", "b")
    attempt = keys.Attempt("11" * 32, "train", 0, 0, "22" * 32, "33" * 32)
    seed = keys.pair_seed(private("fresh"), "ab" * 32, root, attempt, "a", "b")
    assert not MEMORY.is_known(seed, set())
    own = keys.pair_root(mine, public(private("theirs", is_honest=False)), "11" * 32, "a", "c")
    assert MEMORY.is_known(own, set())


def test_signatures_are_of_one_key_one_purpose_and_one_text() -> None:
    key = IdealEd25519(bytes(range(32)))
    signature = sign(key, Context.READY, b"text")
    assert is_valid(public_hex(key), Context.READY, b"text", signature)
    assert not is_valid(public_hex(key), Context.READY, b"other", signature)
    assert not is_valid(public_hex(key), Context.SURVIVORS, b"text", signature)
    assert not is_valid("ab" * 32, Context.READY, b"text", signature)


class TestOutside:
    """Without the fixture's effect on names: it has ended when these look."""

    @pytest.fixture(autouse=True)
    def ideal(self):
        with ideal_primitives():
            pass
        yield

    def test_everything_is_put_back(self) -> None:
        assert keys.X25519PrivateKey is X25519PrivateKey
        assert keys.derive.__module__ == keys.__name__ == keys.pair_root.__module__
        assert Document.canonical.__module__ == "schemas.canonical"

    def test_documents_have_the_same_bytes_there(self) -> None:
        listed = SurvivorList(
            plan_digest="11" * 32, round=1, attempt=0, transcript_hash="22" * 32,
            uploads={"site-2": "33" * 32, "site-10": "44" * 32},
        )  # fmt: skip
        with ideal_primitives():
            quick = listed.canonical()
        assert listed.canonical() == quick
