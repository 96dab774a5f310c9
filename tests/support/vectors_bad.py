"""What do the bad vectors of the secure sum hold? One message each that a site must refuse.

A bad vector names a good one, the site that looks, the messages in which it differs, and the code
of the refusal. Whatever a dishonest *member* could sign is properly signed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from tests.support.reference_bytes import (
    SHAMIR_PRIME,
    ZEROS,
    canonical,
    header_of,
    polynomial,
    sign,
    words_bytes,
)
from tests.support.reference_site import Attempt, Plan
from tests.support.vectors_frames import frames
from tests.support.vectors_good import (
    KEM_FILE,
    LENGTH,
    Case,
    keys_of,
    ledger_of,
    plan_of,
    resigned,
    seed,
)

OTHER: Final = "77" * 32
LOW_ORDER: Final = "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"
LOOKS: Final = "site-1"
WRONG: Final = "site-2"


def bad(cases: Mapping[str, Case]) -> dict[str, dict[str, Any]]:
    """Every bad vector by the name of its defect."""
    made: dict[str, dict[str, Any]] = {}
    parts = (_readies, _headers, _cohorts, _shares, _modes, _hybrid, _sums, _survivors, _frames)
    for part in parts:
        for name, vector in part(cases):
            assert name not in made, name
            made[name] = vector
    return made


Vectors = Iterator[tuple[str, dict[str, Any]]]


def _frames(cases: Mapping[str, Case]) -> Vectors:
    """SECAGG-19: bodies that have no reading."""
    return frames(cases["recoverable-one-lost"])


# --- one READY of the cohort ------------------------------------------------------------------


def _cohort(case: Case, clause: str, code: str, says: str, **changed: Any) -> dict[str, Any]:
    """A cohort shown to `LOOKS`; ``replace`` gives one site's READY, ``readies`` all names."""
    return {
        "says": says,
        "clause": clause,
        "base": case.name,
        "site": LOOKS,
        "stage": "cohort",
        "code": code,
        **changed,
    }


def _said(case: Case, site: str = WRONG) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(case.readies[site])["ready"]
    return said


def _readies(cases: Mapping[str, Case]) -> Vectors:
    """SECAGG-3, -19: bytes that are no READY, within a COHORT."""
    case = cases["atomic-training"]
    raw = case.readies[WRONG].decode()

    def vector(code: str, says: str, old: str, new: str) -> dict[str, Any]:
        assert old in raw, old
        text = raw.replace(old, new, 1)
        code = code if "." in code else "document." + code
        return _cohort(case, "SECAGG-19", code, says, replace={WRONG: text})

    yield (
        "ready-of-an-earlier-version",
        vector("version_unknown", "A READY of protocol version 1.", '"version":2', '"version":1'),
    )
    yield (
        "ready-with-an-unknown-field",
        vector(
            "field_unknown", "A count beside the update.", '"round":3', '"patients":12,"round":3'
        ),
    )
    head = f'"ledger_head":"{_said(case)["ledger_head"]}",'
    yield (
        "ready-with-a-missing-field",
        vector("field_missing", "No ledger head.", head, ""),
    )
    zeros = f'"self_mask_commitment":"{ZEROS}",'
    for name, says, old in (
        ("ready-without-a-version", "No version.", ',"version":2'),
        ("ready-without-a-commitment", "It is zeros in atomic mode.", zeros),
        (
            "ready-without-mask-shares",
            "It is empty in atomic mode.",
            '"mask_shares":{},',
        ),
    ):
        yield name, vector("field_missing", says, old, "")
    yield (
        "ready-with-a-version-spelled-otherwise",
        vector("not_canonical", "The number 2 with a decimal.", '"version":2', '"version":2.0'),
    )
    yield (
        "ready-with-a-duplicate-key",
        vector("duplicate_key", "Two rounds in one READY.", '"round":3', '"round":3,"round":3'),
    )
    yield (
        "ready-with-a-space",
        vector("not_canonical", "A second spelling of one READY.", '"round":3', '"round": 3'),
    )
    yield (
        "ready-with-text-for-a-number",
        vector("field_invalid", "The round as text.", '"round":3', '"round":"3"'),
    )
    yield (
        "ready-with-a-negative-round",
        vector("field_invalid", "A round below zero.", '"round":3', '"round":-3'),
    )
    digits = _said(case)["ledger_head"]
    yield (
        "ready-with-capital-digits",
        vector("field_invalid", "Hexadecimal in capitals.", digits, digits.upper()),
    )
    share = _said(case)["group_shares"][LOOKS]
    yield (
        "ready-with-a-short-share",
        vector("field_invalid", "A sealed share of 47 bytes.", share, share[2:]),
    )
    yield (
        "ready-cut-off",
        vector("message.malformed", "The end of the READY is missing.", raw, raw[:-1]),
    )


def _headers(cases: Mapping[str, Case]) -> Vectors:
    """SECAGG-4: what a READY says and who signed it."""
    case = cases["atomic-training"]

    def said(code: str, says: str, **change: Any) -> dict[str, Any]:
        text = resigned(WRONG, _said(case) | change).decode()
        return _cohort(case, "SECAGG-4", code, says, replace={WRONG: text})

    yield (
        "ready-for-another-plan",
        said("cohort.plan_mismatch", "A member holds another plan.", plan_digest=OTHER),
    )
    yield (
        "ready-for-an-evaluation",
        said("cohort.kind_mismatch", "An evaluation's READY in training.", kind="evaluate"),
    )
    yield (
        "ready-of-an-earlier-round",
        said("cohort.round_mismatch", "Replay: a READY of the round before.", round=2),
    )
    yield (
        "ready-of-an-earlier-attempt",
        said("cohort.round_mismatch", "Replay: a READY of a void attempt.", attempt=0),
    )
    yield (
        "ready-of-another-model",
        said("cohort.model_mismatch", "Split model: a member has another.", model_hash=OTHER),
    )
    yield (
        "ready-after-another-sum",
        said("cohort.last_sum_mismatch", "A member was given another sum.", last_sum_hash=OTHER),
    )
    genuine = json.loads(case.readies[WRONG])
    flipped = f"{int(genuine['signature'], 16) ^ 1:0128x}"
    forged = [
        ("ready-with-a-flipped-signature-bit", genuine | {"signature": flipped}, "One bit."),
        (
            "ready-with-a-swapped-key",
            genuine | {"ready": genuine["ready"] | {"ephemeral_key": OTHER}},
            "The coordinator puts its own ephemeral key into a READY.",
        ),
        (
            "ready-signed-for-another-purpose",
            json.loads(resigned(WRONG, genuine["ready"], context="survivors")),
            "A signature of the same key for another purpose.",
        ),
        (
            "ready-signed-by-another-site",
            json.loads(
                canonical(
                    {
                        "ready": genuine["ready"],
                        "signature": sign(
                            seed("site-3", "identity"), "ready", canonical(genuine["ready"])
                        ),
                    }
                )
            ),
            "A READY of one site under the key of another.",
        ),
    ]
    for name, signed, says in forged:
        text = canonical(signed).decode()
        yield (
            name,
            _cohort(case, "SECAGG-4", "signature.invalid", says, replace={WRONG: text}),
        )


def _cohorts(cases: Mapping[str, Case]) -> Vectors:
    """SECAGG-4: who is in the cohort."""
    case = cases["atomic-training"]

    def vector(code: str, says: str, **changed: Any) -> dict[str, Any]:
        return _cohort(case, "SECAGG-4", "cohort." + code, says, **changed)

    everybody = list(case.members)
    yield (
        "cohort-too-small",
        vector("too_small", "Two of three needed hospitals.", readies=["site-1", "site-2"]),
    )
    yield (
        "cohort-with-a-site-twice",
        vector("duplicate_member", "One READY counted twice.", readies=[*everybody, WRONG]),
    )
    again = case.begin(WRONG)
    again.ready(case.attempt, (OTHER, 3), case.fresh_of(WRONG, "again"))
    yield (
        "cohort-with-two-readies-of-a-site",
        vector(
            "duplicate_member",
            "One hospital posing as two, each READY properly signed.",
            readies=everybody,
            extra=[again.issued.decode()],
        ),
    )
    yield (
        "cohort-without-oneself",
        vector(
            "own_ready_missing",
            "Three other hospitals.",
            readies=["site-2", "site-4"],
            extra=[case.begin("site-3").issued.decode()],
        ),
    )
    mine = case.begin(LOOKS)
    mine.ready(case.attempt, ledger_of(LOOKS), case.fresh_of(LOOKS, "again"))
    yield (
        "cohort-with-an-own-ready-not-issued-last",
        vector(
            "own_ready_altered",
            "This site's READY of the same attempt, but not the one outstanding.",
            replace={LOOKS: mine.issued.decode()},
        ),
    )
    stranger = Case("stranger", "", plan_of(5), case.attempt, ["site-5"]).begin("site-5")
    ready = json.loads(stranger.issued)["ready"] | {"plan_digest": Plan.of(case.plan).digest.hex()}
    yield (
        "cohort-with-an-invented-hospital",
        vector(
            "member_unknown",
            "A hospital that is not in the plan.",
            readies=everybody,
            extra=[resigned("site-5", ready).decode()],
        ),
    )
    yield (
        "cohort-with-an-unapproved-member",
        vector(
            "member_unapproved", "Site-4 has not approved, as far as known.", approved=everybody[:2]
        ),
    )


def _remade(case: Case, site: str, **change: Any) -> bytes:
    """A READY whose shares are sealed for the header it now has."""
    own = case.begin(site)
    ready = json.loads(own.issued)["ready"] | change
    header = canonical({k: v for k, v in ready.items() if k not in ("group_shares", "mask_shares")})
    part = case.fresh_of(site).contribution
    ready["group_shares"] = {
        peer: own.sealed("group-share", peer, header, part) for peer in ready["group_shares"]
    }
    return resigned(site, ready)


def _shares(cases: Mapping[str, Case]) -> Vectors:
    """SECAGG-3, -4: keys and sealed shares of a dishonest member."""
    case = cases["atomic-training"]

    def vector(code: str, says: str, text: bytes) -> dict[str, Any]:
        return _cohort(case, "SECAGG-4", "cohort." + code, says, replace={WRONG: text.decode()})

    yield (
        "ephemeral-key-of-low-order",
        vector(
            "key_invalid",
            "A point of order 8: the pair's mask would be known to everybody.",
            _remade(case, WRONG, ephemeral_key=LOW_ORDER),
        ),
    )
    stolen = _said(case, LOOKS)["ephemeral_key"]
    yield (
        "ephemeral-key-of-another-member",
        vector("key_invalid", "One key, two sites.", _remade(case, WRONG, ephemeral_key=stolen)),
    )
    shares = _said(case)["group_shares"]
    missing = {site: share for site, share in shares.items() if site != LOOKS}
    yield (
        "group-share-missing",
        vector(
            "share_missing",
            "Nothing for this site.",
            resigned(WRONG, _said(case) | {"group_shares": missing}),
        ),
    )
    flipped = f"{int(shares[LOOKS], 16) ^ 1 << 200:096x}"
    for name, says, share in (
        ("group-share-with-a-flipped-bit", "One bit of the ciphertext.", flipped),
        ("group-share-of-another-receiver", "Sealed for site-3.", shares["site-3"]),
    ):
        text = resigned(WRONG, _said(case) | {"group_shares": shares | {LOOKS: share}})
        yield name, vector("share_invalid", says, text)
    earlier = case.begin(WRONG)
    before = Attempt("train", 3, 0, case.attempt.model_hash, case.attempt.last_sum_hash)
    earlier.ready(before, ledger_of(WRONG), case.fresh_of(WRONG))
    old = json.loads(earlier.issued)["ready"]["group_shares"]
    yield (
        "group-share-of-an-earlier-attempt",
        vector(
            "share_invalid",
            "The same contribution and key, sealed for the attempt before.",
            resigned(WRONG, _said(case) | {"group_shares": shares | {LOOKS: old[LOOKS]}}),
        ),
    )


def _modes(cases: Mapping[str, Case]) -> Vectors:
    """SECAGG-12: self-masks where they belong, and only there."""
    atomic, recoverable = cases["atomic-training"], cases["recoverable-one-lost"]

    def vector(
        case: Case, code: str, says: str, ready: Mapping[str, Any], **more: Any
    ) -> dict[str, Any]:
        text = resigned(WRONG, ready).decode()
        more = {"clause": "SECAGG-12", **more}
        return _cohort(case, code="cohort." + code, says=says, replace={WRONG: text}, **more)

    yield (
        "self-mask-in-atomic-mode",
        vector(
            atomic,
            "mode_mismatch",
            "A commitment where there is no self-mask.",
            _said(atomic) | {"self_mask_commitment": OTHER},
        ),
    )
    yield (
        "mask-shares-in-atomic-mode",
        vector(
            atomic,
            "mode_mismatch",
            "Shares of a self-mask that does not exist.",
            _said(atomic) | {"mask_shares": _said(atomic)["group_shares"]},
        ),
    )
    said = _said(recoverable)
    yield (
        "no-self-mask-in-recoverable-mode",
        vector(
            recoverable,
            "mode_mismatch",
            "A READY without commitment and shares.",
            said | {"self_mask_commitment": ZEROS, "mask_shares": {}},
        ),
    )
    shares = said["mask_shares"]
    missing = {site: share for site, share in shares.items() if site != LOOKS}
    yield (
        "mask-share-missing",
        vector(
            recoverable, "share_missing", "None for this site.", said | {"mask_shares": missing}
        ),
    )
    swapped = shares | {LOOKS: said["group_shares"][LOOKS]}
    yield (
        "mask-share-that-is-a-group-share",
        vector(
            recoverable,
            "share_invalid",
            "A share sealed for the other purpose.",
            said | {"mask_shares": swapped},
        ),
    )
    yield (
        "mask-share-outside-the-field",
        vector(
            recoverable,
            "share_invalid",
            "The right share plus r: one number would have two spellings.",
            said | {"mask_shares": shares | {LOOKS: _beyond(recoverable)}},
            clause="SECAGG-4",
        ),
    )
    yield (
        "recoverable-cohort-too-small",
        _cohort(
            recoverable,
            "SECAGG-12",
            "cohort.too_small",
            "Three sites: enough for m_min, too few for tau = 4.",
            readies=["site-1", "site-2", "site-3"],
        ),
    )


def _beyond(case: Case) -> str:
    """A share for `LOOKS`, properly sealed, that is not below r."""
    own, fresh = case.begin(WRONG), case.fresh_of(WRONG)
    share = polynomial(fresh.coefficients, Plan.of(case.plan).place(LOOKS)) + SHAMIR_PRIME
    plain = share.to_bytes(32, "little")
    return own.sealed("mask-share", LOOKS, header_of(_said(case)), plain)


def _hybrid(cases: Mapping[str, Case]) -> Vectors:
    """SECAGG-16: the second half of a pair root."""
    case = cases["hybrid-training"]
    kem = {peer: secret.hex() for peer, secret in sorted(case.kem[LOOKS].items())}
    yield (
        "kem-secret-missing",
        _cohort(
            case,
            "SECAGG-16",
            "identity.kem_secret_missing",
            "Site-2's half is not at hand; X25519 alone is no fallback.",
            kem_secrets={peer: secret for peer, secret in kem.items() if peer != WRONG},
        ),
    )
    ciphertext = bytearray.fromhex(json.loads(KEM_FILE.read_text())[LOOKS][WRONG])
    ciphertext[100] ^= 1
    yield (
        "kem-secret-of-a-changed-ciphertext",
        _cohort(
            case,
            "SECAGG-16",
            "cohort.share_invalid",
            "The two sites hold secrets of two ciphertexts that differ in one bit.",
            kem_secrets=kem | {WRONG: keys_of(WRONG).kem.decapsulate(bytes(ciphertext)).hex()},
        ),
    )


# --- the sum ----------------------------------------------------------------------------------


def _sums(cases: Mapping[str, Case]) -> Vectors:
    """SECAGG-8, -10: what comes back is not what went in."""
    for kind, case in (
        ("sum", cases["atomic-training"]),
        ("blind-sum", cases["blind-evaluation"]),
        ("recovered-sum", cases["recoverable-one-lost"]),
    ):
        words, tag = case.summed()
        survivors = case.survivors if case.is_recoverable else []

        def vector(
            says: str,
            words: list[int],
            tag: int,
            *,
            code: str = "sum.altered",
            survivors: list[str] = survivors,
            case: Case = case,
            **more: Any,
        ) -> dict[str, Any]:
            return {
                "says": says,
                "clause": "SECAGG-8",
                "base": case.name,
                "site": LOOKS,
                "stage": "sum",
                "words": words_bytes(words).hex(),
                "tag": f"{tag:016x}",
                "survivors": survivors,
                "code": code,
                **more,
            }

        prime = 2**61 - 1
        shifted = [(words[0] + 1) % 2**32, *words[1:]]
        yield f"{kind}-shifted-by-one", vector("One more in one word.", shifted, tag)
        yield f"{kind}-with-another-tag", vector("The tag alone.", words, (tag + 1) % prime)
        if kind == "blind-sum":
            continue
        yield f"{kind}-zeroed", vector("Homogeneous: (0, 0).", [0] * LENGTH, 0)
        if kind == "recovered-sum":
            case_, signer = case, LOOKS
            yield (
                "recovered-sum-of-others-than-signed",
                vector(
                    "A member that signed a list is told of all five.",
                    words,
                    tag,
                    survivors=list(case_.members),
                    code="recovery.survivors_changed",
                    clause="SECAGG-10",
                    site=signer,
                ),
            )
            yield (
                "recovered-sum-of-other-sites",
                vector(
                    "The lost site is told of itself in another's place.",
                    words,
                    tag,
                    survivors=["site-2", "site-3", "site-4", "site-5"],
                    site="site-3",
                ),
            )
            yield (
                "recovered-sum-with-a-wrong-number-of-sites",
                vector(
                    "The lost site is told that nobody was lost.",
                    words,
                    tag,
                    survivors=list(case_.members),
                    site="site-3",
                ),
            )
            yield (
                "recovered-sum-of-too-few",
                vector(
                    "The lost site is told of three survivors; the plan allows one lost.",
                    words,
                    tag,
                    survivors=["site-1", "site-2", "site-4"],
                    code="recovery.too_few",
                    clause="SECAGG-10",
                    site="site-3",
                ),
            )
            continue
        negated = [-word % 2**32 for word in words]
        yield f"{kind}-negated", vector("Homogeneous: (-S, -T).", negated, -tag % prime)
        doubled = [2 * word % 2**32 for word in words]
        yield f"{kind}-doubled", vector("Homogeneous: (2S, 2T).", doubled, 2 * tag % prime)
        yield f"{kind}-cut-by-a-word", vector("One word fewer.", words[:-1], tag)
        yield f"{kind}-grown-by-a-word", vector("One zero more.", [*words, 0], tag)
        yield (
            f"{kind}-with-a-tag-out-of-range",
            vector("A second spelling: T + p.", words, tag + prime, code="sum.malformed"),
        )
        yield (
            f"{kind}-of-part-of-an-atomic-cohort",
            vector(
                "An atomic sum has no survivors.",
                words,
                tag,
                survivors=["site-1", "site-2"],
                code="recovery.too_few",
                clause="SECAGG-10",
            ),
        )


# --- survivors and unmasking ------------------------------------------------------------------


def _survivors(cases: Mapping[str, Case]) -> Vectors:
    """SECAGG-13 to -15: lists and answers."""
    case = cases["recoverable-one-lost"]
    good = case.listed()

    def listed(
        code: str, says: str, *lists: Mapping[str, str], base: Case = case
    ) -> dict[str, Any]:
        return {
            "says": says,
            "clause": "SECAGG-13",
            "base": base.name,
            "site": LOOKS,
            "stage": "survivors",
            "lists": list(lists),
            "code": code,
        }

    yield (
        "survivors-in-atomic-mode",
        listed(
            "recovery.not_offered",
            "The plan does not sum in recoverable mode.",
            dict.fromkeys(cases["atomic-training"].members, OTHER),
            base=cases["atomic-training"],
        ),
    )
    yield (
        "survivors-with-a-stranger",
        listed("recovery.stranger", "A name that is not in the cohort.", good | {"site-9": OTHER}),
    )
    without = {site: digest for site, digest in good.items() if site != LOOKS}
    yield "survivors-without-oneself", listed("recovery.own_upload", "This site left out.", without)
    yield (
        "survivors-with-another-own-upload",
        listed("recovery.own_upload", "A hash of what it did not send.", good | {LOOKS: OTHER}),
    )
    few = {site: digest for site, digest in good.items() if site != "site-5"}
    yield "survivors-too-few", listed("recovery.too_few", "Two lost; the plan allows one.", few)
    yield (
        "survivors-changed",
        listed(
            "recovery.survivors_changed",
            "A second list: the coordinator wants to open two sums.",
            good,
            good | {"site-2": OTHER},
        ),
    )

    def unmask(
        code: str, says: str, *requests: Mapping[str, str], signs: bool = True
    ) -> dict[str, Any]:
        return {
            "says": says,
            "clause": "SECAGG-14",
            "base": case.name,
            "site": LOOKS,
            "stage": "unmask",
            "lists": [good] if signs else [],
            "requests": list(requests),
            "code": code,
        }

    signed = case.confirmations
    yield (
        "unmask-before-survivors",
        unmask("message.out_of_order", "No list was signed yet.", signed, signs=False),
    )
    three = {site: signature for site, signature in signed.items() if site != "site-5"}
    yield (
        "unmask-with-too-few-signatures",
        unmask("recovery.confirmations_too_few", "Three signatures; tau is 4.", three),
    )
    yield (
        "unmask-with-one-signature-under-two-names",
        unmask(
            "recovery.confirmations_too_few",
            "Site-4's signature once more under site-5.",
            three | {"site-5": three["site-4"]},
        ),
    )
    yield (
        "unmask-with-a-signature-of-the-lost",
        unmask(
            "recovery.confirmations_too_few",
            "The lost site signs in the place of a survivor.",
            three | {"site-3": _statement(case, good, "site-3")},
        ),
    )
    split = good | {"site-5": OTHER}
    yield (
        "unmask-with-a-signature-under-another-list",
        unmask(
            "recovery.confirmations_too_few",
            "Split view: site-5 confirmed another list.",
            three | {"site-5": _statement(case, split, "site-5")},
        ),
    )
    wrong = _listed(case, good)
    yield (
        "unmask-with-a-signature-for-another-purpose",
        unmask(
            "recovery.confirmations_too_few",
            "Site-5 signed these bytes as a READY.",
            three | {"site-5": sign(seed("site-5", "identity"), "ready", wrong)},
        ),
    )
    yield (
        "unmask-twice",
        unmask("recovery.done", "The same request again: answers are given once.", signed, signed),
    )

    def recovery(
        says: str, base: Case, change: Callable[[dict[str, dict[str, Any]]], None]
    ) -> dict[str, Any]:
        answers = {
            site: {"shares": dict(shares), "seeds": dict(seeds)}
            for site, (shares, seeds) in base.answers.items()
        }
        change(answers)
        return {
            "says": says,
            "clause": "SECAGG-15",
            "base": base.name,
            "stage": "recovery",
            "answers": answers,
            "code": "recovery.failed",
        }

    def silent(answers: dict[str, dict[str, Any]]) -> None:
        del answers["site-5"]

    def lying(answers: dict[str, dict[str, Any]]) -> None:
        answers["site-2"]["shares"]["site-1"] = OTHER

    def spelled(answers: dict[str, dict[str, Any]]) -> None:
        share = bytes.fromhex(answers["site-2"]["shares"]["site-1"])
        beyond = int.from_bytes(share, "little") + SHAMIR_PRIME
        answers["site-2"]["shares"]["site-1"] = beyond.to_bytes(32, "little").hex()

    yield (
        "recovery-with-a-share-outside-the-field",
        recovery("Four answers, tau is 4, one right share plus r.", case, spelled),
    )
    yield (
        "recovery-without-one-survivor",
        recovery("A survivor did not answer, and a site was lost.", case, silent),
    )
    yield (
        "recovery-with-a-wrong-share",
        recovery("Four answers, tau is 4, one share is wrong.", case, lying),
    )


def _listed(case: Case, uploads: Mapping[str, str]) -> bytes:
    joined = case.sites[LOOKS].joined
    assert joined is not None
    return canonical(
        {
            "version": 2,
            "plan_digest": Plan.of(case.plan).digest.hex(),
            "round": case.attempt.round,
            "attempt": case.attempt.attempt,
            "transcript_hash": joined.transcript,
            "uploads": dict(uploads),
        }
    )


def _statement(case: Case, uploads: Mapping[str, str], site: str) -> str:
    return sign(seed(site, "identity"), "survivors", _listed(case, uploads))
