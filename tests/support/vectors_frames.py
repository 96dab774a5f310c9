"""Which bodies must be refused before anybody looks at what they say? (SECAGG-19)"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from tests.support.reference_bytes import body, words_bytes
from tests.support.reference_frames import MAX_BODY, MAX_HEADER
from tests.support.reference_site import Plan
from tests.support.vectors_good import Case

LOOKS: Final = "site-1"
Vectors = Iterator[tuple[str, dict[str, Any]]]


def cohort_body(plan_digest: str, kind: str, step: tuple[int, int], texts: Sequence[str]) -> bytes:
    """A COHORT that holds these texts where READYs belong, whatever they are."""
    header = (
        f'{{"attempt":{step[1]},"blobs":[],"kind":"{kind}","message":"cohort",'
        f'"plan_digest":"{plan_digest}","previous":null,"readies":[{",".join(texts)}],'
        f'"round":{step[0]},"version":1}}'
    ).encode()
    return framed(header)


def framed(header: bytes, blobs: bytes = b"") -> bytes:
    """A header after its length, and what follows it."""
    return len(header).to_bytes(4, "big") + header + blobs


def frames(case: Case) -> Vectors:
    """One defect each, in the SURVIVORS message of an attempt or in a CLOSE with its sum."""
    digest = Plan.of(case.plan).digest.hex()
    place = {"plan_digest": digest, "round": case.attempt.round, "attempt": case.attempt.attempt}
    good = body({"message": "survivors", "version": 1, **place, "uploads": case.listed()})
    header = good[4:].decode()
    words, tag = case.summed()
    last = {"round": place["round"], "attempt": place["attempt"], "tag": f"{tag:016x}"}
    close = {"message": "close", "version": 1, "plan_digest": digest, "approvals": []}
    close |= {"missing": [], "last": {**last, "readies": [], "survivors": case.survivors}}
    summed = words_bytes(words)
    whole = body(close, summed)

    def vector(code: str, says: str, raw: bytes, **more: Any) -> dict[str, Any]:
        assert raw not in (good, whole)
        return {
            "says": says,
            "clause": "SECAGG-19",
            "base": case.name,
            "site": LOOKS,
            "stage": "frame",
            "body": raw.hex(),
            "code": code,
            **more,
        }

    def changed(code: str, says: str, old: str, new: str) -> dict[str, Any]:
        assert header.count(old) == 1, old
        return vector(code, says, framed(header.replace(old, new).encode()))

    bad, order = "message.malformed", "message.out_of_order"
    yield "frame-with-a-trailing-byte", vector(bad, "One byte more.", good + b"\0")
    yield (
        "frame-with-a-byte-after-its-blob",
        vector(bad, "One byte more than the blobs' lengths say.", whole + b"\0"),
    )
    short = body(close, summed[:-1])[: -len(summed) + 1] + summed
    yield "frame-with-a-short-blob-length", vector(bad, "The length names one byte fewer.", short)
    long = body(close, summed + b"\0")[:-1]
    yield "frame-with-a-long-blob-length", vector(bad, "The length names one byte more.", long)
    yield "frame-cut-in-its-header", vector(bad, "The last byte is missing.", good[:-1])
    beyond = (len(good) - 3).to_bytes(4, "big") + good[4:]
    yield "frame-with-a-header-beyond-its-end", vector(bad, "A header of one byte more.", beyond)
    within = (len(good) - 5).to_bytes(4, "big") + good[4:]
    yield "frame-with-a-header-cut-short", vector(bad, "A header of one byte fewer.", within)
    yield "frame-of-three-bytes", vector(bad, "Not even a length.", good[:3])
    yield "frame-without-a-header", vector(bad, "A header of no bytes.", bytes(4))
    yield "frame-that-is-a-list", vector(bad, "JSON, but no object.", framed(b"[]"))
    yield (
        "frame-that-is-not-utf-8",
        vector(bad, "A byte that UTF-8 has not.", framed(b'{"message":"\xff"}')),
    )
    yield (
        "frame-with-a-header-beyond-its-limit",
        vector(
            bad,
            "The length alone: 32 MiB and one byte, and as many bytes of zero after it.",
            (MAX_HEADER + 1).to_bytes(4, "big"),
            zeros=MAX_HEADER + 1,
        ),
    )
    yield (
        "frame-oversized",
        vector("message.oversized", "448 MiB and one byte, all zero.", b"", zeros=MAX_BODY + 1),
    )
    yield (
        "frame-of-an-unknown-message",
        changed("message.unknown", "A name no version has.", '"survivors"', '"survivor"'),
    )
    refusal = body({"message": "refusal", "version": 1, "code": "recovery.done"})
    yield "frame-for-the-other-side", vector(order, "A site's answer, sent to a site.", refusal)
    canonical = "document.not_canonical"
    yield (
        "frame-with-a-space",
        changed(canonical, "A second spelling.", '"version":1', '"version": 1'),
    )
    yield (
        "frame-with-fields-in-another-order",
        vector(
            canonical,
            "The list of blobs stands last.",
            framed((header.replace('"blobs":[],', "")[:-1] + ',"blobs":[]}').encode()),
        ),
    )
    yield (
        "frame-without-a-list-of-blobs",
        changed(canonical, "No blobs, and nothing that says so.", '"blobs":[],', ""),
    )
    yield (
        "frame-without-a-version",
        changed(canonical, "No version at all.", ',"version":1', ""),
    )
    yield (
        "frame-with-a-version-spelled-otherwise",
        changed(canonical, "The number 1 with a decimal.", '"version":1', '"version":1.0'),
    )
    yield (
        "frame-of-version-0",
        changed("document.version_unknown", "Version 0.", '"version":1', '"version":0'),
    )
    yield (
        "frame-of-version-2",
        changed("document.version_unknown", "A later version.", '"version":1', '"version":2'),
    )
    step = f'"round":{place["round"]}'
    yield (
        "frame-with-a-number-that-is-none",
        changed("document.malformed", "NaN for the round.", step, '"round":NaN'),
    )
    yield (
        "frame-with-a-duplicate-key",
        changed("document.duplicate_key", "Two rounds.", step, f"{step},{step}"),
    )
    yield (
        "frame-with-a-parameter",
        changed(
            "document.field_unknown",
            "The coordinator wishes for a lower threshold.",
            step,
            f'{step},"survivor_threshold":2',
        ),
    )
    yield (
        "frame-with-a-missing-field",
        changed("document.field_missing", "No round.", f"{step},", ""),
    )
    yield (
        "frame-with-a-round-beyond-its-range",
        changed("document.field_invalid", "Round 1000001.", step, '"round":1000001'),
    )
    sum_ = body(close | {"last": last | {"survivors": case.survivors}}, summed)
    yield (
        "frame-with-a-sum-that-lacks-a-list",
        vector(canonical, "A sum without its list of READYs.", sum_),
    )
