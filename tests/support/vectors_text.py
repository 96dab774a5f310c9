"""How is a played attempt written down? Its secrets, values on the way, and every message of it."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.support.reference_bytes import (
    body,
    canonical,
    hashed,
    kdf,
    self_mask_seed,
    sign,
    words_bytes,
)
from tests.support.reference_site import Plan
from tests.support.vectors_good import (
    KEM_FILE,
    LENGTH,
    NEW_MODEL,
    Case,
    joined_of,
    ledger_of,
    seed,
)

REFUSAL: Final = "recovery.done"
RELEASE: Final = b'{"stands_for":"a release"}'


def as_vector(case: Case) -> dict[str, Any]:
    """Write one attempt down, secrets included."""
    words, tag = case.summed()
    opener = case.sites[case.survivors[0]]
    survivors = case.survivors if case.is_recoverable else []
    vector: dict[str, Any] = {
        "says": case.says,
        "plan": case.plan.decode(),
        "plan_digest": Plan.of(case.plan).digest.hex(),
        "attempt": {**vars(case.attempt), "new_model_hash": NEW_MODEL},
        "sites": {site: _secrets(case, site) for site in case.everybody},
        "readies": {site: raw.decode() for site, raw in case.readies.items()},
        "derived": _derived(case),
        "uploads": {
            site: {"words": words_bytes(w).hex(), "tag": f"{t:016x}"}
            for site, (w, t) in case.uploads.items()
        },
    }
    if case.kem:
        vector["encapsulations"] = json.loads(KEM_FILE.read_text())
    if case.is_recoverable:
        vector["survivors"] = case.listed()
        vector["confirmations"] = case.confirmations
        vector["answers"] = {
            site: {"shares": shares, "seeds": seeds}
            for site, (shares, seeds) in case.answers.items()
        }
    vector["sum"] = {
        "words": words_bytes(words).hex(),
        "tag": f"{tag:016x}",
        "hash": hashed("sum", tag.to_bytes(8, "little"), words_bytes(words)),
        "survivors": survivors,
    }
    vector["opened"] = opener.open(words, tag, survivors)
    vector["approvals"] = approvals(case)
    vector["finals"] = {site: final(case, site) for site in case.members}
    vector["messages"] = messages(case)
    return vector


def _secrets(case: Case, site: str) -> dict[str, Any]:
    found: dict[str, Any] = {
        "identity_private": seed(site, "identity").hex(),
        "study_private": seed(site, "study").hex(),
    }
    if case.kem:
        found["kem_seed"] = seed(site, "kem", size=64).hex()
        found["kem_secrets"] = {peer: s.hex() for peer, s in sorted(case.kem[site].items())}
    if site in case.fresh:
        fresh = case.fresh[site]
        found |= {
            "ledger_head": ledger_of(site)[0],
            "ledger_charges": ledger_of(site)[1],
            "ephemeral_private": fresh.ephemeral.hex(),
            "contribution": fresh.contribution.hex(),
            "vector": case.vectors[site],
        }
        if fresh.coefficients:
            found["coefficients"] = [c.to_bytes(32, "little").hex() for c in fresh.coefficients]
    return found


def _derived(case: Case) -> dict[str, Any]:
    """Values on the way, for an implementer whose upload differs."""
    joined = joined_of(case, case.members[0])
    pairs = [(low, high) for low in case.members for high in case.members if low < high]
    seeds = {f"{low} {high}": joined_of(case, low).seeds[high].hex() for low, high in pairs}
    length = LENGTH.to_bytes(8, "big")
    derived: dict[str, Any] = {
        "pair_roots": {f"{low} {high}": case.sites[low].root(high).hex() for low, high in pairs},
        "transcript_hash": joined.transcript,
        "bound": joined.bound.hex(),
        "pair_masks": seeds,
        "group_secret": joined.group.hex(),
        "tag_key": kdf(joined.group, "tag", length, length=32).hex(),
        "tag_offsets": {
            s: kdf(joined.group, "tag-offset", length, s.encode(), length=32).hex()
            for s in case.members
        },
    }
    if case.attempt.kind == "evaluate":
        derived["blind_keys"] = {
            s: kdf(joined.group, "blind", s.encode(), length=32).hex() for s in case.members
        }
    if case.is_recoverable:
        derived["self_masks"] = {
            site: self_mask_seed(
                case.fresh[site].coefficients[0], json.loads(case.readies[site])["ready"]
            ).hex()
            for site in case.members
        }
        derived["upload_hashes"] = {s: joined_of(case, s).upload_hash for s in case.members}
    return derived


def messages(case: Case) -> dict[str, Any]:
    """The bodies that carry this attempt, with a first site where one site speaks or is spoken to.

    The next OPEN, or the CLOSE, brings the sum, with the READYs to a site without secrets.
    """
    site = case.survivors[0]
    digest = Plan.of(case.plan).digest.hex()
    (words, tag), (summed, sum_tag) = case.uploads[site], case.summed()
    round_, attempt = case.attempt.round, case.attempt.attempt
    plan = {"version": 1, "plan_digest": digest}
    where = {**plan, "round": round_, "attempt": attempt}
    kind = {"kind": case.attempt.kind}
    readies = [json.loads(raw) for raw in case.readies.values()]
    blob = words_bytes(summed)
    told = {"round": round_, "attempt": attempt, "tag": f"{sum_tag:016x}", "readies": []}
    told |= {"survivors": case.survivors if case.is_recoverable else []}
    signed = {"approvals": approvals(case), "finals": []}
    bodies = {
        "ready": body({"message": "ready", "version": 1, "ready": json.loads(case.readies[site])}),
        "cohort": body(
            {"message": "cohort", **where, **kind, "readies": readies, "previous": None}
        ),
        "upload": body(
            {"message": "upload", **where, **kind, "tag": f"{tag:016x}", "next_ready": None},
            words_bytes(words),
        ),
        "final": body({"message": "final", "version": 1, "final": final(case, site)}),
        "refusal": body({"message": "refusal", "version": 1, "code": REFUSAL}),
    }
    if case.attempt.kind == "evaluate":
        signature = sign(seed(site, "identity"), "release", RELEASE)
        finals = [final(case, member) for member in case.members]
        bodies |= {
            "open": body(
                {"message": "open", **where, **kind, **signed, "finals": finals, "missing": []}
            ),
            "result": body({"message": "result", **plan, "summed": told}, blob),
            "release": body(
                {"message": "release", "version": 1, "site_id": site, "signature": signature},
                RELEASE,
            ),
        }
    else:
        following = {**where, "round": round_ + 1, "attempt": 0, **kind, **signed}
        missing = [{**told, "readies": readies}]
        bodies |= {
            "open": body({"message": "open", **following, "missing": missing}, blob),
            "close": body(
                {
                    "message": "close",
                    **plan,
                    "approvals": signed["approvals"],
                    "missing": [],
                    "last": told,
                },
                blob,
            ),
        }
    if case.is_recoverable:
        shares, seeds = case.answers[site]
        own = {"site_id": site, "signature": case.confirmations[site]}
        bodies |= {
            "survivors": body({"message": "survivors", **where, "uploads": case.listed()}),
            "confirmation": body({"message": "confirmation", **where, **own}),
            "unmask": body({"message": "unmask", **where, "confirmations": case.confirmations}),
            "unmasking": body(
                {"message": "unmasking", **where, "site_id": site, "shares": shares, "seeds": seeds}
            ),
        }
    return {name: _described(raw) for name, raw in bodies.items()}


def signed_document(private: bytes, context: str, document: Mapping[str, Any]) -> dict[str, str]:
    """A document with its signature, as it travels."""
    payload = canonical(document)
    public = Ed25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()
    encoded = base64.b64encode(payload).decode()
    return {
        "signer": public.hex(),
        "payload": encoded,
        "signature": sign(private, context, payload),
    }


def final(case: Case, site: str) -> dict[str, str]:
    """What a site signs of its last model, as if this sum had been the last."""
    words, tag = case.summed()
    document = {
        "version": 1,
        "plan_digest": Plan.of(case.plan).digest.hex(),
        "site_id": site,
        "steps": case.attempt.round + 1,
        "model_hash": NEW_MODEL,
        "last_sum_hash": hashed("sum", tag.to_bytes(8, "little"), words_bytes(words)),
    }
    return signed_document(seed(site, "identity"), "final", document)


def approvals(case: Case) -> list[dict[str, str]]:
    """Every site's approval; its form is not SECAGG's, but for a hybrid plan's ciphertexts."""
    plan = json.loads(case.plan)
    ciphertexts = json.loads(KEM_FILE.read_text()) if case.kem else {}
    return [
        signed_document(
            seed(site, "approval"),
            "approval",
            {
                "version": 1,
                "plan_digest": Plan.of(case.plan).digest.hex(),
                "study_id": plan["study_id"],
                "site_id": site,
                "peers": {p: seed(p, "card").hex() for p in case.everybody if p != site},
                "encapsulations": ciphertexts.get(site, {}),
                "approved_at": plan["created"],
            },
        )
        for site in case.everybody
    ]


def _described(raw: bytes) -> dict[str, Any]:
    length = int.from_bytes(raw[:4], "big")
    described = {"bytes": len(raw), "sha256": hashlib.sha256(raw).hexdigest()}
    if length > 2_000:  # READYs stand above already
        return described
    return described | {"header": raw[4 : 4 + length].decode(), "blob": raw[4 + length :].hex()}
