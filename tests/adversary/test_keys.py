"""Key swap and low-order points: can a coordinator put keys of its own between two hospitals?"""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from schemas.errors import ErrorCode, ProtocolError
from schemas.secagg import cohort, keys, shares
from schemas.secagg import site as secagg_site
from schemas.secagg.messages import SignedReady
from schemas.secagg.streams import Keystream
from tests.support.attacks import VICTIM, Attack, Party, Puppets, forged
from tests.support.factories import make_keys
from tests.support.mutants import without
from tests.support.secure_sum import Consortium, vectors_of

OTHERS = ("site-2", "site-3", "site-4")


def shown(attack: Attack, attempt: int) -> tuple[dict[str, SignedReady], Puppets]:
    """The victim's own READY, and READYs of the others that the coordinator made itself."""
    own = attack.readies(0, attempt, sites=[VICTIM])[VICTIM]
    puppets = Puppets.holding(attack.consortium, OTHERS)
    return {VICTIM: own, **puppets.readies(own.ready)}, puppets


# -- key swap --------------------------------------------------------------------------------


def test_a_swapped_ephemeral_key_is_refused(attack) -> None:
    attempt = attack.fresh()
    readies = attack.readies(0, attempt)
    ours = make_keys().study.public_key().public_bytes_raw().hex()
    swapped = {s: forged(readies[s].ready, ephemeral_key=ours) for s in OTHERS[:1]}
    call = attack.cohort({**readies, **swapped}.values(), 0, attempt)
    assert attack.refused(VICTIM, call) == "signature.invalid"


def test_without_signatures_a_swapped_key_still_breaks_the_seal_of_the_shares(
    attack, monkeypatch
) -> None:
    """The second layer: every sealed share is bound to the header that holds the key."""
    without(monkeypatch, cohort.checked_cohort, ErrorCode.SIGNATURE_INVALID)
    attempt = attack.fresh()
    readies = attack.readies(0, attempt)
    ours = make_keys().study.public_key().public_bytes_raw().hex()
    swapped = {"site-2": forged(readies["site-2"].ready, ephemeral_key=ours)}
    call = attack.cohort({**readies, **swapped}.values(), 0, attempt)
    assert attack.refused(VICTIM, call) == "cohort.share_invalid"


def unsigned_by_a_thief_of_study_keys(attack: Attack) -> tuple[int, dict, Puppets]:
    """READYs with keys of the coordinator's own, sealed right, signed by nobody."""
    attempt = attack.fresh()
    readies, puppets = shown(attack, attempt)
    return attempt, {s: r if s == VICTIM else forged(r.ready) for s, r in readies.items()}, puppets


def test_a_thief_of_study_keys_cannot_speak_for_their_sites(attack) -> None:
    attempt, readies, _ = unsigned_by_a_thief_of_study_keys(attack)
    call = attack.cohort(readies.values(), 0, attempt)
    assert attack.refused(VICTIM, call) == "signature.invalid"


def test_without_signatures_a_thief_of_study_keys_reads_the_victim(
    attack, monkeypatch, drawn
) -> None:
    without(monkeypatch, cohort.checked_cohort, ErrorCode.SIGNATURE_INVALID)
    attempt, readies, puppets = unsigned_by_a_thief_of_study_keys(attack)
    upload = attack.upload(VICTIM, attack.cohort(readies.values(), 0, attempt))
    found = puppets.open(readies.values(), attack.model_hash, {VICTIM: upload})
    assert np.array_equal(found, drawn[VICTIM])


def signed_by_a_thief_of_identity_keys(attack: Attack) -> tuple[int, dict, Puppets]:
    """READYs properly signed, but sealed without the study keys that the plan pins."""
    attempt = attack.fresh()
    own = attack.readies(0, attempt, sites=[VICTIM])[VICTIM]
    stolen = {
        site: Party(site, attack.consortium.sites[site].keys.identity, make_keys().study)
        for site in OTHERS
    }
    puppets = Puppets(attack.consortium.plan, stolen, attack.consortium.sites)
    return attempt, {VICTIM: own, **puppets.readies(own.ready)}, puppets


def test_a_thief_of_identity_keys_cannot_seal_a_share(attack, monkeypatch) -> None:
    trust_own_keys(monkeypatch)  # of the attacker's machine; the victim's are right
    attempt, readies, _ = signed_by_a_thief_of_identity_keys(attack)
    call = attack.cohort(readies.values(), 0, attempt)
    assert attack.refused(VICTIM, call) == "cohort.share_invalid"


def test_without_pair_roots_a_thief_of_identity_keys_reads_the_victim(
    attack, monkeypatch, drawn
) -> None:
    trust_own_keys(monkeypatch)
    monkeypatch.setattr(shares, "pair_root", public_root)
    attempt, readies, puppets = signed_by_a_thief_of_identity_keys(attack)
    upload = attack.upload(VICTIM, attack.cohort(readies.values(), 0, attempt))
    found = puppets.open(readies.values(), attack.model_hash, {VICTIM: upload})
    assert np.array_equal(found, drawn[VICTIM])


def trust_own_keys(monkeypatch) -> None:
    """Let the attacker's state machine run with keys that are not the plan's."""
    without(monkeypatch, secagg_site._own_place, ErrorCode.OWN_KEY_WRONG)


def public_root(study, peer_key, plan_digest, own_id, peer_id, kem_secret=b"") -> bytes:
    """A pair root made of names alone, as where keys are not agreed but handed out."""
    names = "/".join((plan_digest, *sorted((own_id, peer_id))))
    return hashlib.sha256(names.encode()).digest()


# -- low-order points ------------------------------------------------------------------------

ZERO, ONE = "00" * 32, "01" + "00" * 31
checked = keys.agree


def careless(private, peer_public_hex: str) -> bytes:
    """X25519 without the check of RFC 7748 section 6.1: what any such point gives is zero."""
    try:
        return checked(private, peer_public_hex)
    except ProtocolError:
        return bytes(32)


@pytest.mark.parametrize("point", [ZERO, ONE])
def test_an_ephemeral_key_of_low_order_is_refused(attack, point) -> None:
    attempt = attack.fresh()
    readies = attack.readies(0, attempt)
    low = attack.resign(readies["site-2"].ready, ephemeral_key=point)
    call = attack.cohort({**readies, "site-2": low}.values(), 0, attempt)
    assert attack.refused(VICTIM, call) == "cohort.key_invalid"


@pytest.fixture(scope="module")
def three() -> Consortium:
    return Consortium.of(3)


def with_low_points(three: Consortium) -> tuple[dict, dict]:
    """READYs in which every peer of the victim has a key that keeps no secret."""
    issued = three.issue_all()
    readies = {VICTIM: issued[VICTIM][0]}
    for site, point in (("site-2", ZERO), ("site-3", ONE)):
        readies[site] = sealed_with_key(three, site, point)
    return issued, readies


def sealed_with_key(three: Consortium, site: str, point: str) -> SignedReady:
    """A READY that names another ephemeral key and seals its shares under that header."""
    party, plan = three.parties[site], three.plan
    honest, _ = three.issue(site)
    header = honest.ready.header().model_copy(update={"ephemeral_key": point})
    sealed = {
        peer: keys.seal_share(
            keys.pair_root(party.study, plan.site(peer).study_key, plan.digest(), site, peer),
            bytes(32),
            header=header.canonical(),
            sender=site,
            to=peer,
        )
        for peer in three.parties
    }
    return three.resign(honest.ready, ephemeral_key=point, group_shares=sealed)


def test_low_order_points_are_refused_where_every_peer_has_one(three) -> None:
    issued, readies = with_low_points(three)
    with pytest.raises(ProtocolError) as error:
        three.join(VICTIM, issued[VICTIM][1], readies.values())
    assert error.value.code is ErrorCode.COHORT_KEY_INVALID


def test_without_the_check_of_points_study_keys_alone_open_the_past(three, monkeypatch) -> None:
    """Whoever gets hold of peers' study keys years later needs no erased ephemeral key."""
    monkeypatch.setattr(keys, "agree", careless)
    issued, readies = with_low_points(three)
    member = three.join(VICTIM, issued[VICTIM][1], readies.values())
    vector = vectors_of([VICTIM], 50)[VICTIM]
    words = secagg_site.mask(member, vector).words
    plan = three.plan
    for peer in ("site-2", "site-3"):  # from here on: recorded traffic and stolen study keys
        stolen = three.parties[peer].study
        own_key = plan.site(VICTIM).study_key
        root = keys.pair_root(stolen, own_key, plan.digest(), peer, VICTIM)
        seed = keys.derive(
            bytes(32), b"pair-mask", member.attempt.info(), VICTIM.encode(), peer.encode(),
            salt=root, n_bytes=48,
        )  # fmt: skip
        words = words - stream_of(seed[:32], len(words))
    assert np.array_equal(words.view(np.int32).astype(np.int64), vector)


def stream_of(key: bytes, length: int) -> np.ndarray:
    """The words of one mask."""
    words = np.empty(length, dtype="<u4")
    Keystream(key).fill(words)
    return words.astype(np.uint32)
