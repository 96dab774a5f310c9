"""How do product and reference play a vector, good or bad, each from the same secrets?"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from schemas.canonical import parse
from schemas.governance.study import StudyPlan
from schemas.limits import MAX_PLAN_BYTES
from schemas.secagg import (
    CohortKeys,
    MaskedSum,
    MaskedUpdate,
    Party,
    ReadySecrets,
    Revealed,
    SignedReady,
    check_sum,
    confirm_survivors,
    contributors_of,
    join_cohort,
    make_ready,
    mask,
    observe_cohort,
    recover_sum,
    reveal,
    words_from_bytes,
)
from schemas.wire import CohortCall, Request, decode
from tests.support.reference_bytes import canonical
from tests.support.reference_coordinator import recovered
from tests.support.reference_frames import TO_SITE, read_body
from tests.support.reference_site import Attempt, Fresh, Plan, ReferenceSite
from tests.support.vectors_frames import cohort_body

FOLDER = Path(__file__).resolve().parents[1] / "vectors"
GOOD = sorted(path.stem for path in (FOLDER / "good").glob("*.json"))
BAD = sorted(path.stem for path in (FOLDER / "bad").glob("*.json"))
KEYS = ("identity", "study")
Vector = dict[str, Any]


def load(part: str, name: str) -> Vector:
    """One vector from disk."""
    vector: Vector = json.loads((FOLDER / part / f"{name}.json").read_text())
    return vector


def cohort_of(vector: Vector, texts: list[str]) -> bytes:
    """A COHORT of a vector's attempt with these texts for READYs."""
    told = vector["attempt"]
    step = told["round"], told["attempt"]
    return cohort_body(vector["plan_digest"], told["kind"], step, texts)


class Replay:
    """One product site with the secrets of a vector."""

    def __init__(self, vector: Vector, site: str, kem_secrets: Mapping[str, str] | None = None):
        self.vector, self.site = vector, site
        own = vector["sites"][site]
        self.plan = parse(StudyPlan, vector["plan"].encode(), max_bytes=MAX_PLAN_BYTES)
        kem = own.get("kem_secrets", {}) if kem_secrets is None else kem_secrets
        self.party = Party(
            site,
            Ed25519PrivateKey.from_private_bytes(bytes.fromhex(own["identity_private"])),
            X25519PrivateKey.from_private_bytes(bytes.fromhex(own["study_private"])),
            {peer: bytes.fromhex(secret) for peer, secret in kem.items()},
        )
        self.approved = frozenset(self.plan.site_ids)
        told = vector["attempt"]
        self.step = {name: told[name] for name in ("kind", "round", "attempt")}
        self.state = {name: told[name] for name in ("model_hash", "last_sum_hash")}
        self.new_model = told["new_model_hash"]

    def ready(self) -> tuple[SignedReady, ReadySecrets]:
        """Issue the READY from the vector's entropy, in the order in which it is drawn here."""
        own = self.vector["sites"][self.site]
        coefficients = own.get("coefficients", [])
        draws = [
            own["ephemeral_private"],
            *(["".join(c + "00" * 32 for c in coefficients)] if coefficients else []),
            own["contribution"],
        ]
        queue = iter([bytes.fromhex(draw) for draw in draws])

        def entropy(n_bytes: int, /) -> bytes:
            drawn = next(queue)
            assert len(drawn) == n_bytes
            return drawn

        ledger = {name: own[name] for name in ("ledger_head", "ledger_charges")}
        issued = make_ready(
            self.party, self.plan, entropy=entropy, **ledger, **self.step, **self.state
        )
        assert next(queue, None) is None
        return issued

    def parsed(self, texts: list[str]) -> tuple[SignedReady, ...]:
        """Read READYs as they arrive: within a COHORT (SECAGG-19)."""
        call = decode(cohort_of(self.vector, texts), allowed=get_args(Request)).header
        assert isinstance(call, CohortCall)
        return call.readies

    def keys(self, texts: list[str] | None = None, approved: Any = None) -> CohortKeys:
        texts = list(self.vector["readies"].values()) if texts is None else texts
        known = self.approved if approved is None else frozenset(approved)
        if self.site not in self.vector["readies"]:
            return observe_cohort(
                self.party,
                self.plan,
                self.parsed(texts),
                new_model_hash=self.new_model,
                approved=known,
                **self.step,
            )
        return join_cohort(
            self.party,
            self.plan,
            self.ready()[1],
            self.parsed(texts),
            new_model_hash=self.new_model,
            approved=known,
            **self.step,
            **self.state,
        )

    def upload(self, keys: CohortKeys) -> MaskedUpdate:
        values = np.array(self.vector["sites"][self.site]["vector"], dtype=np.int64)
        return mask(keys, values, blind=self.step["kind"] == "evaluate")

    def open(self, keys: CohortKeys, summed: MaskedSum, survivors: list[str]) -> list[int]:
        contributors = contributors_of(keys, survivors)
        opened: list[int] = check_sum(keys, summed, contributors=contributors).tolist()
        return opened


def words_of(text: str) -> Any:
    raw = bytes.fromhex(text)
    return words_from_bytes(raw, len(raw) // 4)


def summed_of(vector: Vector) -> MaskedSum:
    return MaskedSum(words_of(vector["words"]), int(vector["tag"], 16))


def revealed_of(answers: Mapping[str, Any]) -> dict[str, Revealed]:
    return {site: Revealed(one["shares"], one["seeds"]) for site, one in answers.items()}


def texts_of(base: Vector, bad: Vector) -> list[str]:
    """The READYs that a bad vector's cohort is made of."""
    readies = base["readies"] | bad.get("replace", {})
    chosen = [readies[site] for site in bad.get("readies", base["readies"])]
    return [*chosen, *bad.get("extra", [])]


def by_product(base: Vector, bad: Vector) -> None:
    """Show a bad vector to the product."""
    replay = Replay(base, bad.get("site", "site-1"), bad.get("kem_secrets"))
    if bad["stage"] == "frame":
        decode(body_of(bad), allowed=get_args(Request))
    elif bad["stage"] == "cohort":
        issued = Replay(base, bad["site"])
        replay.ready = issued.ready  # type: ignore[method-assign]
        replay.keys(texts_of(base, bad), bad.get("approved"))
    elif bad["stage"] == "sum":
        keys = replay.keys()
        if "survivors" in base and bad["site"] in base["survivors"]:
            replay.upload(keys)
            confirm_survivors(keys, replay.party, replay.plan, base["survivors"])
        replay.open(keys, summed_of(bad), bad["survivors"])
    elif bad["stage"] == "recovery":
        survivors = base["survivors"]
        uploads = {
            site: MaskedUpdate(words_of(base["uploads"][site]["words"]), tag_of(base, site))
            for site in survivors
        }
        readies = replay.parsed(list(base["readies"].values()))
        recover_sum(replay.plan, readies, uploads, revealed_of(bad["answers"]))
    else:
        keys = replay.keys()
        replay.upload(keys)
        for uploads in bad["lists"]:
            confirm_survivors(keys, replay.party, replay.plan, uploads)
        for confirmations in bad.get("requests", []):
            reveal(keys, replay.plan, confirmations)


def body_of(bad: Vector) -> bytes:
    """The body that a bad vector of the stage ``frame`` shows."""
    return bytes.fromhex(bad["body"]) + bytes(bad.get("zeros", 0))


def tag_of(base: Vector, site: str) -> int:
    return int(base["uploads"][site]["tag"], 16)


def reference_of(base: Vector, site: str, kem_secrets: Mapping[str, str] | None) -> ReferenceSite:
    """The reference site with the secrets of a vector, its READY issued."""
    own = base["sites"][site]
    identity, study = (bytes.fromhex(own[f"{kind}_private"]) for kind in KEYS)
    kem = {peer: bytes.fromhex(secret) for peer, secret in own.get("kem_secrets", {}).items()}
    made = ReferenceSite(base["plan"].encode(), site, identity, study, kem)
    told = {k: v for k, v in base["attempt"].items() if k != "new_model_hash"}
    coefficients = tuple(
        int.from_bytes(bytes.fromhex(text), "little") for text in own.get("coefficients", [])
    )
    fresh = Fresh(
        bytes.fromhex(own["ephemeral_private"]), bytes.fromhex(own["contribution"]), coefficients
    )
    ledger = own["ledger_head"], own["ledger_charges"]
    assert made.ready(Attempt(**told), ledger, fresh).decode() == base["readies"][site]
    if kem_secrets is not None:
        made.kem_secrets = {p: bytes.fromhex(secret) for p, secret in kem_secrets.items()}
    return made


def by_reference(base: Vector, bad: Vector) -> None:
    """Show a bad vector to the second implementer."""
    if bad["stage"] == "frame":
        read_body(body_of(bad), TO_SITE)
        return
    if bad["stage"] == "recovery":
        plan = Plan.of(base["plan"].encode())
        readies = {site: json.loads(text)["ready"] for site, text in base["readies"].items()}
        uploads = {
            site: (
                [int(word) for word in words_of(base["uploads"][site]["words"])],
                tag_of(base, site),
            )
            for site in base["survivors"]
        }
        answers = {site: (one["shares"], one["seeds"]) for site, one in bad["answers"].items()}
        recovered(plan, readies, uploads, answers)
        return
    site = reference_of(base, bad["site"], bad.get("kem_secrets"))
    everybody = list(Plan.of(base["plan"].encode()).sites)
    call, _ = read_body(cohort_of(base, texts_of(base, bad)), TO_SITE)
    documents = [canonical(signed) for signed in call["readies"]]
    site.join(documents, base["attempt"]["new_model_hash"], bad.get("approved", everybody))
    if bad["stage"] == "sum":
        if "survivors" in base and bad["site"] in base["survivors"]:
            site.upload(base["sites"][bad["site"]]["vector"])
            site.confirm(base["survivors"])
        words = [int(word) for word in words_of(bad["words"])]
        site.open(words, int(bad["tag"], 16), bad["survivors"])
    else:
        site.upload(base["sites"][bad["site"]]["vector"])
        for uploads in bad.get("lists", []):
            site.confirm(uploads)
        for confirmations in bad.get("requests", []):
            site.unmask(confirmations)
