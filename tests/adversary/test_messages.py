"""Wrong-length, oversized, bit-flipped and outdated messages: has every frame one meaning?"""

from __future__ import annotations

import json
import struct

import pytest
import rfc8785

from schemas import wire
from schemas.errors import CohortiumError, ErrorCode
from schemas.secagg import cohort, keys, shares
from schemas.signing import Context, sign
from schemas.wire import CohortCall, ReadyReply, Refusal
from tests.support.attacks import VICTIM, Attack
from tests.support.mutants import without

ALL = ("site-1", "site-2", "site-3", "site-4")


# -- length ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bend",
    [
        lambda raw: raw + b"\0",
        lambda raw: raw[:-1],
        lambda raw: raw[:3],
        lambda raw: struct.pack(">I", 2**31) + raw[4:],
        lambda raw: struct.pack(">I", len(raw)) + raw[4:],
    ],
    ids=["one byte more", "one byte less", "no length", "length beyond all", "length beyond end"],
)
def test_a_frame_of_wrong_length_is_refused(attack, bend) -> None:
    request = attack.open(0, attack.fresh())
    assert attack.refused(VICTIM, bend(request)) == "message.malformed"


def test_without_the_length_check_a_frame_carries_what_nobody_reads(attack, monkeypatch) -> None:
    """Room for a message to somebody else, under the same logged hash as nothing."""
    without(monkeypatch, wire.decode, "_malformed")
    request = attack.open(0, attack.fresh()) + b"for the colluder at this hospital"
    assert isinstance(attack.ask(VICTIM, request).header, ReadyReply)


def test_an_oversized_frame_is_refused_before_it_is_read(attack, monkeypatch) -> None:
    request = attack.open(0, attack.fresh())
    monkeypatch.setattr(wire, "MAX_FRAME_BYTES", len(request) - 1)
    honest = wire.parse

    def only_the_refusal(cls, raw, **more):
        assert cls is Refusal, "was read"
        return honest(cls, raw, **more)

    monkeypatch.setattr(wire, "parse", only_the_refusal)
    assert attack.refused(VICTIM, request) == "message.oversized"


def test_without_that_limit_a_site_reads_whatever_it_is_sent(attack, monkeypatch) -> None:
    request = attack.open(0, attack.fresh())
    monkeypatch.setattr(wire, "MAX_FRAME_BYTES", len(request) - 1)
    without(monkeypatch, wire.decode, ErrorCode.MESSAGE_OVERSIZED)
    assert isinstance(attack.ask(VICTIM, request).header, ReadyReply)


@pytest.mark.parametrize("digits", [62, 66, 0])
def test_a_key_of_wrong_length_is_refused(attack, digits) -> None:
    attempt = attack.fresh()
    readies = attack.readies(0, attempt)
    call = attack.cohort(readies.values(), 0, attempt)
    key = readies["site-2"].ready.ephemeral_key.encode()
    bent = resized(call, key, (key * 2)[:digits])
    assert attack.refused(VICTIM, bent) == "document.field_invalid"


def resized(frame: bytes, old: bytes, new: bytes) -> bytes:
    """Replace text in a frame's header and put the header's length right."""
    (length,) = struct.unpack(">I", frame[:4])
    header = frame[4 : 4 + length]
    assert old in header
    bent = header.replace(old, new, 1)
    return struct.pack(">I", len(bent)) + bent + frame[4 + length :]


# -- earlier protocol versions ---------------------------------------------------------------


def test_a_frame_of_an_earlier_version_is_refused(attack) -> None:
    request = resized(attack.open(0, attack.fresh()), b'"version":1}', b'"version":0}')
    assert attack.refused(VICTIM, request) == "document.version_unknown"


SINCE = {"self_mask_commitment": "00" * 32, "mask_shares": {}}
"""What version 1 did not have, as version 2 writes out its absence."""


def tolerant(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read any version as if it were today's, filling in what it did not know of."""
    honest = wire.parse

    def lenient(cls, raw, *, max_bytes):
        header = json.loads(raw)
        header["version"] = 1
        for signed in header.get("readies", ()):
            ready = signed["ready"]
            ready["version"] = 2
            ready |= {**SINCE, **ready}
        return honest(cls, rfc8785.dumps(header), max_bytes=max_bytes)

    monkeypatch.setattr(wire, "parse", lenient)


def test_without_the_version_check_an_outdated_request_is_served(attack, monkeypatch) -> None:
    tolerant(monkeypatch)
    request = resized(attack.open(0, attack.fresh()), b'"version":1}', b'"version":0}')
    assert isinstance(attack.ask(VICTIM, request).header, ReadyReply)


def with_an_outdated_ready(attack: Attack, **more: object) -> bytes:
    """A COHORT in which site-2 runs version 1: other labels, no self-mask, its own signature.

    `more` is what it writes in addition.
    """
    attempt = attack.fresh()
    readies = attack.readies(0, attempt)
    call = attack.cohort(readies.values(), 0, attempt)
    header = json.loads(wire.decode(call, allowed=(CohortCall,)).header.canonical())
    (signed,) = (each for each in header["readies"] if each["ready"]["site_id"] == "site-2")
    old = signed["ready"]
    old["version"] = 1
    del old["self_mask_commitment"], old["mask_shares"]
    old |= more
    bound = {name: value for name, value in old.items() if name != "group_shares"}
    own, plan = attack.consortium.sites["site-2"].keys, attack.consortium.plan
    with pytest.MonkeyPatch.context() as then:
        then.setattr(keys, "_LABEL", b"cohortium/v1/secagg/")
        for peer in ALL:
            root = keys.pair_root(
                own.study, plan.site(peer).study_key, plan.digest(), "site-2", peer
            )
            old["group_shares"][peer] = keys.seal_share(
                root, bytes(32), header=rfc8785.dumps(bound), sender="site-2", to=peer
            )
    signed["signature"] = sign(own.identity, Context.READY, rfc8785.dumps(old))
    raw = rfc8785.dumps(header)
    return struct.pack(">I", len(raw)) + raw


def test_a_ready_of_an_earlier_version_is_refused(attack) -> None:
    bare, dressed_up = with_an_outdated_ready(attack), with_an_outdated_ready(attack, **SINCE)
    assert attack.refused(VICTIM, bare) == "document.field_missing"
    assert attack.refused(VICTIM, dressed_up) == "document.version_unknown"


def test_behind_the_version_stand_signature_and_labels(attack, monkeypatch) -> None:
    """What is read as version 2 was neither signed nor sealed as that."""
    tolerant(monkeypatch)
    assert attack.refused(VICTIM, with_an_outdated_ready(attack)) == "signature.invalid"
    without(monkeypatch, cohort.checked_cohort, ErrorCode.SIGNATURE_INVALID)
    assert attack.refused(VICTIM, with_an_outdated_ready(attack)) == "cohort.share_invalid"


def test_without_all_three_an_outdated_hospital_counts(attack, monkeypatch) -> None:
    """In recoverable mode its upload has no self-mask, and can be opened: see test_dropouts."""
    tolerant(monkeypatch)
    without(monkeypatch, cohort.checked_cohort, ErrorCode.SIGNATURE_INVALID)
    honest = shares.open_share

    def lenient(*args, **more) -> bytes:
        try:
            return honest(*args, **more)
        except CohortiumError:
            return bytes(32)

    monkeypatch.setattr(shares, "open_share", lenient)
    before = attack.charged_uploads(VICTIM)
    attack.upload(VICTIM, with_an_outdated_ready(attack))
    assert attack.charged_uploads(VICTIM) == (before[0] + 1, before[1] + 1)
