"""Do product and second implementer do the same, byte for byte, good and bad?

The vectors are made by the reference site, which is written from SECAGG.md and shares no code with
the product. SECAGG-2 to -10, -12 to -16 and -19 are carried here: every value that leaves a site in
a whole attempt, and every refusal with its code.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from schemas.canonical import parse
from schemas.errors import CohortiumError
from schemas.governance.study import StudyPlan
from schemas.limits import MAX_PLAN_BYTES, MAX_READY_BYTES
from schemas.secagg import (
    CohortKeys,
    MaskedSum,
    MaskedUpdate,
    Party,
    ReadySecrets,
    Revealed,
    SignedReady,
    add_masked,
    check_sum,
    confirm_survivors,
    contributors_of,
    join_cohort,
    make_ready,
    mask,
    observe_cohort,
    recover_sum,
    reveal,
    sum_hash,
    upload_hash,
    words_from_bytes,
    words_to_bytes,
)
from schemas.secagg.kem import kem_secret, own_kem_secret
from schemas.secagg.keys import tag_offset, tag_secret
from schemas.secagg.tag import AffineTag
from schemas.wire import (
    CohortCall,
    Confirmation,
    ReadyReply,
    SurvivorsCall,
    UnmaskCall,
    Unmasking,
    Upload,
    encode,
)
from scripts import make_vectors
from tests.support.reference_bytes import Refused
from tests.support.reference_coordinator import recovered
from tests.support.reference_site import Attempt, Fresh, Plan, ReferenceSite

FOLDER = Path(__file__).resolve().parents[3] / "vectors"
GOOD = sorted(path.stem for path in (FOLDER / "good").glob("*.json"))
BAD = sorted(path.stem for path in (FOLDER / "bad").glob("*.json"))
Vector = dict[str, Any]


def load(part: str, name: str) -> Vector:
    vector: Vector = json.loads((FOLDER / part / f"{name}.json").read_text())
    return vector


@pytest.fixture(scope="module")
def good() -> dict[str, Vector]:
    return {name: load("good", name) for name in GOOD}


# --- the files ------------------------------------------------------------------------------


def test_the_vectors_on_disk_are_those_the_script_makes() -> None:
    assert make_vectors.differences() == []
    assert len(GOOD) == 5
    assert len(BAD) > 60


def test_a_changed_a_missing_and_a_foreign_vector_are_found(tmp_path: Path) -> None:
    assert make_vectors.write(tmp_path) == len(GOOD) + len(BAD) + 1
    assert make_vectors.differences(tmp_path) == []
    changed = tmp_path / "good" / "atomic-training.json"
    changed.write_text(changed.read_text().replace('"round": 3', '"round": 4'))
    (tmp_path / "bad" / "ready-cut-off.json").unlink()
    (tmp_path / "bad" / "foreign.json").write_text("{}\n")
    assert make_vectors.differences(tmp_path) == [
        "bad/foreign.json",
        "bad/ready-cut-off.json",
        "good/atomic-training.json",
    ]
    make_vectors.write(tmp_path)
    assert make_vectors.differences(tmp_path) == []


# --- the product, replaying a vector ----------------------------------------------------------


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
        return tuple(parse(SignedReady, t.encode(), max_bytes=MAX_READY_BYTES) for t in texts)

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


@pytest.mark.parametrize("name", GOOD)
def test_a_good_attempt_comes_out_the_same(good: dict[str, Vector], name: str) -> None:
    vector = good[name]
    assert hashlib.sha256(vector["plan"].encode()).hexdigest() == vector["plan_digest"]
    sites = {site: Replay(vector, site) for site in vector["readies"]}
    keys, uploads = {}, {}
    for site, replay in sites.items():
        assert replay.ready()[0].canonical().decode() == vector["readies"][site]
        keys[site] = replay.keys()
        uploads[site] = replay.upload(keys[site])
        wanted = vector["uploads"][site]
        assert words_to_bytes(uploads[site].words).hex() == wanted["words"]
        assert f"{uploads[site].tag:016x}" == wanted["tag"]
    assert keys[site].transcript_hash == vector["derived"]["transcript_hash"]
    assert keys[site].group().hex() == vector["derived"]["group_secret"]
    survivors = vector["sum"]["survivors"]
    plan = next(iter(sites.values())).plan
    if survivors:
        listed, signatures, answers = vector["survivors"], vector["confirmations"], {}
        assert listed == {site: upload_hash(uploads[site]) for site in survivors}
        for site in survivors:
            signature = confirm_survivors(keys[site], sites[site].party, plan, listed)
            assert signature == signatures[site]
        for site in survivors:
            answers[site] = reveal(keys[site], plan, signatures)
        assert answers == revealed_of(vector["answers"])
        kept = {site: uploads[site] for site in survivors}
        readies = sites[survivors[0]].parsed(list(vector["readies"].values()))
        total = recover_sum(plan, readies, kept, answers)
    else:
        total = add_masked(uploads, tuple(uploads))
    assert words_to_bytes(total.words).hex() == vector["sum"]["words"]
    assert f"{total.tag:016x}" == vector["sum"]["tag"]
    assert sum_hash(total) == vector["sum"]["hash"]
    for site, replay in sites.items():
        assert replay.open(keys[site], total, survivors) == vector["opened"]


def test_a_site_that_was_away_opens_the_sum(good: dict[str, Vector]) -> None:
    vector = good["atomic-training"]
    away = Replay(vector, "site-3")
    assert away.open(away.keys(), summed_of(vector["sum"]), []) == vector["opened"]
    identity, study = (bytes.fromhex(vector["sites"]["site-3"][f"{k}_private"]) for k in KEYS)
    reference = ReferenceSite(vector["plan"].encode(), "site-3", identity, study)
    documents = [text.encode() for text in vector["readies"].values()]
    told = vector["attempt"]
    step = told["round"], told["attempt"]
    reference.observe(documents, step, told["new_model_hash"], away.plan.site_ids)
    words = [int(word) for word in words_of(vector["sum"]["words"])]
    assert reference.open(words, int(vector["sum"]["tag"], 16)) == vector["opened"]


KEYS = ("identity", "study")


def test_tags_of_longer_vectors_are_the_same() -> None:
    """SECAGG-8: one row, exactly one, a few, and more than the product keeps at a time."""
    told = json.loads((FOLDER / "tags.json").read_text())
    for row in told["tags"]:
        words = np.arange(1, row["words"] + 1, dtype=np.uint64) * np.uint64(told["factor"])
        values = words.astype(np.uint32).view(np.int32).astype(np.int64)
        group, named = bytes.fromhex(told["group_secret"]), row["contributors"]
        offset = sum(tag_offset(group, row["words"], site) for site in named)
        found = AffineTag(tag_secret(group, row["words"])).evaluate(values, offset=offset)
        assert f"{found:016x}" == row["tag"], row


def test_kem_secrets_follow_from_seeds_and_ciphertexts(good: dict[str, Vector]) -> None:
    """SECAGG-16: both ends of a pair, and each site with itself."""
    vector = good["hybrid-training"]
    plan = vector["plan_digest"]
    for low, row in vector["encapsulations"].items():
        for high, text in row.items():
            ciphertext, seed = bytes.fromhex(text), vector["sites"][high]["kem_seed"]
            private = MLKEM768PrivateKey.from_seed_bytes(bytes.fromhex(seed))
            shared = private.decapsulate(ciphertext)
            secret = kem_secret(shared, ciphertext, plan_digest=plan, sender=low, receiver=high)
            for one, other in ((low, high), (high, low)):
                assert vector["sites"][one]["kem_secrets"][other] == secret.hex()
    for site, own in vector["sites"].items():
        seed = bytes.fromhex(own["kem_seed"])
        alone = own_kem_secret(seed, plan_digest=plan, site_id=site)
        assert own["kem_secrets"][site] == alone.hex()


@pytest.mark.parametrize("name", GOOD)
def test_messages_have_the_same_bytes(good: dict[str, Vector], name: str) -> None:
    """SECAGG-19: header, blobs and their lengths, as the product's own encoder writes them."""
    vector = good[name]
    told = vector["attempt"]
    site = (vector["sum"]["survivors"] or list(vector["readies"]))[0]
    where = {"plan_digest": vector["plan_digest"], "round": told["round"]}
    where["attempt"] = told["attempt"]
    readies = Replay(vector, site).parsed(list(vector["readies"].values()))
    own = next(signed for signed in readies if signed.ready.site_id == site)
    upload = vector["uploads"][site]
    made = {
        "ready": encode(ReadyReply(ready=own)),
        "cohort": encode(CohortCall(**where, kind=told["kind"], readies=readies)),
        "upload": encode(
            Upload(**where, kind=told["kind"], tag=upload["tag"]), bytes.fromhex(upload["words"])
        ),
    }
    if "answers" in vector:
        signature, answer = vector["confirmations"][site], vector["answers"][site]
        made |= {
            "survivors": encode(SurvivorsCall(**where, uploads=vector["survivors"])),
            "confirmation": encode(Confirmation(**where, site_id=site, signature=signature)),
            "unmask": encode(UnmaskCall(**where, confirmations=vector["confirmations"])),
            "unmasking": encode(Unmasking(**where, site_id=site, **answer)),
        }
    assert made.keys() == vector["messages"].keys()
    for message, raw in made.items():
        wanted = vector["messages"][message]
        assert (len(raw), hashlib.sha256(raw).hexdigest()) == (wanted["bytes"], wanted["sha256"])


# --- bad vectors ------------------------------------------------------------------------------


def texts_of(base: Vector, bad: Vector) -> list[str]:
    """The READYs that a bad vector's cohort is made of."""
    readies = base["readies"] | bad.get("replace", {})
    chosen = [readies[site] for site in bad.get("readies", base["readies"])]
    return [*chosen, *bad.get("extra", [])]


def by_product(base: Vector, bad: Vector) -> None:
    """Show a bad vector to the product."""
    replay = Replay(base, bad.get("site", "site-1"), bad.get("kem_secrets"))
    if bad["stage"] == "cohort":
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
    documents = [text.encode() for text in texts_of(base, bad)]
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


@pytest.mark.parametrize("name", BAD)
def test_a_bad_message_is_refused_with_its_code(good: dict[str, Vector], name: str) -> None:
    bad = load("bad", name)
    base = good[bad["base"]]
    with pytest.raises(CohortiumError) as refused:
        by_product(base, bad)
    assert refused.value.code.value == bad["code"]
    with pytest.raises(Refused) as refused_too:
        by_reference(base, bad)
    assert refused_too.value.code == bad["code"]


@pytest.mark.parametrize("show", [by_product, by_reference], ids=["product", "reference"])
def test_without_its_defect_a_bad_vector_is_accepted(
    good: dict[str, Vector], show: Callable[[Vector, Vector], None]
) -> None:
    """Or a refusal would prove nothing: the harness itself refuses no good message."""
    atomic, lost = good["atomic-training"], good["recoverable-one-lost"]
    once = {"site": "site-1", "lists": [lost["survivors"]]}
    show(atomic, {"stage": "cohort", "site": "site-1"})
    show(atomic, {"stage": "sum", "site": "site-1", **atomic["sum"]})
    show(lost, {"stage": "sum", "site": "site-1", **lost["sum"]})
    show(lost, {"stage": "sum", "site": "site-3", **lost["sum"]})
    show(lost, {"stage": "survivors", **once})
    show(lost, {"stage": "unmask", **once, "requests": [lost["confirmations"]]})
    show(lost, {"stage": "recovery", "answers": lost["answers"]})


def test_every_refusal_of_the_specification_has_a_vector() -> None:
    """The codes in SECAGG.md's tables of checks, as far as a message can provoke them."""
    text = (FOLDER.parents[1] / "schemas" / "spec" / "SECAGG.md").read_text()
    tables = "\n".join(line for line in text.splitlines() if line.startswith("|"))
    named = set(re.findall(r"`([a-z]+\.[a-z0-9_]+)`", tables))
    elsewhere = {
        "attempt.unknown",  # a restarted site: tests of the session
        "document.not_utf8",  # bytes that a vector in JSON cannot hold, or would not be small with
        "document.too_large",
        "ledger.rollback",  # a peer's history: tests of the journal
    }
    assert named - {load("bad", name)["code"] for name in BAD} == elsewhere
