"""Do product and second implementer write and read the same bytes for every message?"""

from __future__ import annotations

import hashlib
from typing import Any, get_args

import pytest

from schemas import wire
from schemas.secagg import SignedReady
from schemas.signing import Context, SignedDocument, is_valid, open_signed
from schemas.wire import (
    Close,
    CohortCall,
    Confirmation,
    Final,
    FinalReply,
    Open,
    ReadyReply,
    Refusal,
    ReleaseReply,
    Reply,
    Request,
    Result,
    SumTag,
    SurvivorsCall,
    UnmaskCall,
    Unmasking,
    Upload,
    decode,
    encode,
)
from tests.support.reference_frames import TO_COORDINATOR, TO_SITE, read_body
from tests.support.vectors_replay import GOOD, Replay, Vector, load
from tests.support.vectors_text import REFUSAL, RELEASE


@pytest.fixture(scope="module")
def good() -> dict[str, Vector]:
    return {name: load("good", name) for name in GOOD}


def first_of(vector: Vector) -> str:
    """The site that speaks in the messages of a vector."""
    site: str = (vector["sum"]["survivors"] or list(vector["readies"]))[0]
    return site


def made_by_product(vector: Vector) -> dict[str, bytes]:
    """Every message of a vector, by the product's own encoder."""
    told, site = vector["attempt"], first_of(vector)
    plan, kind = {"plan_digest": vector["plan_digest"]}, {"kind": told["kind"]}
    where: dict[str, Any] = {**plan, "round": told["round"], "attempt": told["attempt"]}
    readies = Replay(vector, site).parsed(list(vector["readies"].values()))
    own = next(signed for signed in readies if signed.ready.site_id == site)
    upload = vector["uploads"][site]
    made = {
        "ready": encode(ReadyReply(ready=own)),
        "cohort": encode(CohortCall(**where, **kind, readies=readies)),
        "upload": encode(
            Upload(**where, **kind, tag=upload["tag"]), bytes.fromhex(upload["words"])
        ),
        "final": encode(FinalReply(final=SignedDocument(**vector["finals"][site]))),
        "refusal": encode(Refusal(code=REFUSAL)),
    }
    made |= _around_the_sum(vector, where, readies)
    if "answers" in vector:
        signature, answer = vector["confirmations"][site], vector["answers"][site]
        made |= {
            "survivors": encode(SurvivorsCall(**where, uploads=vector["survivors"])),
            "confirmation": encode(Confirmation(**where, site_id=site, signature=signature)),
            "unmask": encode(UnmaskCall(**where, confirmations=vector["confirmations"])),
            "unmasking": encode(Unmasking(**where, site_id=site, **answer)),
        }
    if told["kind"] == "evaluate":
        header, blob = read_body(bytes_of(vector["messages"]["release"]), TO_COORDINATOR)
        key = Replay(vector, site).plan.site(site).identity_key
        assert blob == [RELEASE] and is_valid(key, Context.RELEASE, RELEASE, header["signature"])
        reply = ReleaseReply(site_id=site, signature=header["signature"])
        made["release"] = encode(reply, RELEASE)
    return made


def _around_the_sum(
    vector: Vector, where: dict[str, Any], readies: tuple[SignedReady, ...]
) -> dict[str, bytes]:
    summed, kind = vector["sum"], vector["attempt"]["kind"]
    blob = bytes.fromhex(summed["words"])
    plan = {"plan_digest": vector["plan_digest"]}
    step = {"round": where["round"], "attempt": where["attempt"]}
    tag = SumTag(**step, tag=summed["tag"], survivors=tuple(summed["survivors"]))
    approvals = tuple(SignedDocument(**one) for one in vector["approvals"])
    if kind == "evaluate":
        finals = tuple(SignedDocument(**one) for one in vector["finals"].values())
        opened = Open(**where, kind=kind, approvals=approvals, finals=finals)
        return {"open": encode(opened), "result": encode(Result(**plan, summed=tag), blob)}
    later = {**where, "round": where["round"] + 1, "attempt": 0}
    missing = (tag.model_copy(update={"readies": readies}),)
    return {
        "open": encode(Open(**later, kind=kind, approvals=approvals, missing=missing), blob),
        "close": encode(Close(**plan, approvals=approvals, last=tag), blob),
    }


def bytes_of(message: dict[str, Any]) -> bytes:
    """A message that a vector shows in full."""
    header = message["header"].encode()
    return len(header).to_bytes(4, "big") + header + bytes.fromhex(message["blob"])


@pytest.mark.parametrize("name", GOOD)
def test_messages_have_the_same_bytes(good: dict[str, Vector], name: str) -> None:
    """SECAGG-19: header, blobs and their lengths, as the product's own encoder writes them."""
    wanted = good[name]["messages"]
    made = made_by_product(good[name])
    assert made.keys() == wanted.keys()
    for message, raw in made.items():
        digest = hashlib.sha256(raw).hexdigest()
        assert (len(raw), digest) == (wanted[message]["bytes"], wanted[message]["sha256"]), message
        if "header" in wanted[message]:
            assert raw == bytes_of(wanted[message])


def test_every_message_is_in_some_vector(good: dict[str, Vector]) -> None:
    shown = {name for vector in good.values() for name in vector["messages"]}
    assert shown == set(wire._BY_NAME) == TO_SITE.keys() | TO_COORDINATOR.keys()


@pytest.mark.parametrize("name", GOOD)
def test_both_read_every_message_alike(good: dict[str, Vector], name: str) -> None:
    """SECAGG-19: the same fields and blobs, and each only where it belongs."""
    for message, raw in made_by_product(good[name]).items():
        place, types = (
            (TO_SITE, get_args(Request))
            if message in TO_SITE
            else (TO_COORDINATOR, get_args(Reply))
        )
        frame = decode(raw, allowed=types)
        header, blobs = read_body(raw, place)
        assert frame.header.model_dump(mode="json") == header
        assert [bytes(blob) for blob in frame.blobs] == blobs


def test_a_final_is_signed_as_the_specification_says(good: dict[str, Vector]) -> None:
    """SECAGG-19: purpose, fields and key of what a site signs of its last model."""
    for vector in good.values():
        plan = Replay(vector, first_of(vector)).plan
        for site, one in vector["finals"].items():
            key = plan.site(site).identity_key
            final = open_signed(
                SignedDocument(**one),
                Context.FINAL,
                Final,
                expected_signer=key,
                max_bytes=4096,
            )
            told = vector["attempt"]
            assert (final.site_id, final.model_hash) == (site, told["new_model_hash"])
            assert final.last_sum_hash == vector["sum"]["hash"]
