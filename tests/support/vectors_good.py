"""What do the good vectors of the secure sum hold? Whole attempts, made by the reference site.

Everything follows from labels and, for ML-KEM, from recorded ciphertexts (encapsulation takes no
seed in the library used), so the files come out the same every time.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from schemas.canonical import build
from schemas.governance.study import StudyPlan
from schemas.signing import public_hex
from tests.support.factories import HYBRID, SiteKeys, make_keys, plan_values
from tests.support.reference_bytes import (
    SHAMIR_PRIME,
    ZEROS,
    affine_tag,
    canonical,
    kdf,
    sign,
)
from tests.support.reference_coordinator import recovered, total
from tests.support.reference_site import Attempt, Fresh, Joined, Plan, ReferenceSite

KEM_FILE: Final = Path(__file__).resolve().parents[1] / "vectors" / "kem-ciphertexts.json"
LENGTH: Final = 21  # not a multiple of a cipher block, of a word pair, or of anything
TAG_FACTOR: Final = 2_654_435_761
TAG_LENGTHS: Final = (1, 1023, 1024, 1025, 2049, 3000, 1_049_601)  # the last has 1026 rows
MODEL, NEW_MODEL, LAST_SUM = (hashlib.sha256(x).hexdigest() for x in (b"model", b"new", b"sum"))
TRAIN: Final = Attempt("train", 3, 1, MODEL, LAST_SUM)
EVALUATE: Final = Attempt("evaluate", 0, 0, MODEL, LAST_SUM)
RECOVERABLE: Final[dict[str, Any]] = {
    "aggregation": {"mode": "recoverable", "maximum_dropouts": 1},
    "outputs": [
        "masked-update",
        "masked-evaluation",
        "survivor-confirmation",
        "unmasking",
        "model-hash",
        "release",
        "refusal",
    ],
}


def seed(*labels: str, size: int = 32) -> bytes:
    """Bytes that stand for entropy in a vector; nothing outside tests may use them."""
    out, counter = b"", 0
    while len(out) < size:
        out += hashlib.sha256("/".join(("vectors", *labels, str(counter))).encode()).digest()
        counter += 1
    return out[:size]


def ledger_of(site: str) -> tuple[str, int]:
    """Head and charges of a site's ledger; every site was in as many attempts as its number."""
    return seed(site, "ledger").hex(), int(site.removeprefix("site-"))


def keys_of(site: str) -> SiteKeys:
    """Long-lived private keys of one site, the same in every vector."""
    return SiteKeys(
        identity=Ed25519PrivateKey.from_private_bytes(seed(site, "identity")),
        approval=Ed25519PrivateKey.from_private_bytes(seed(site, "approval")),
        study=X25519PrivateKey.from_private_bytes(seed(site, "study")),
        node=make_keys().node,  # no part of a plan
        kem=MLKEM768PrivateKey.from_seed_bytes(seed(site, "kem", size=64)),
    )


def plan_of(n_sites: int, **changes: Any) -> bytes:
    """A canonical plan of ``site-1`` ... ``site-n``."""
    keys = {f"site-{i}": keys_of(f"site-{i}") for i in range(1, n_sites + 1)}
    values = plan_values(keys) | changes
    values["vendor_key"] = public_hex(Ed25519PrivateKey.from_private_bytes(seed("vendor")))
    values["model"] |= {"parameters": LENGTH}
    if values.get("aggregation", {}).get("pair_root") == HYBRID:
        for site in values["sites"]:
            site["kem_key"] = keys[site["site_id"]].kem.public_key().public_bytes_raw().hex()
    return build(StudyPlan, values).canonical()


@dataclass
class Case:
    """One attempt, as far as it has been played."""

    name: str
    says: str
    plan: bytes
    attempt: Attempt
    members: Sequence[str]
    lost: Sequence[str] = ()
    kem: dict[str, dict[str, bytes]] = field(default_factory=dict)
    sites: dict[str, ReferenceSite] = field(default_factory=dict)
    fresh: dict[str, Fresh] = field(default_factory=dict)
    vectors: dict[str, list[int]] = field(default_factory=dict)
    readies: dict[str, bytes] = field(default_factory=dict)
    uploads: dict[str, tuple[list[int], int]] = field(default_factory=dict)
    confirmations: dict[str, str] = field(default_factory=dict)
    answers: dict[str, tuple[dict[str, str], dict[str, str]]] = field(default_factory=dict)

    @property
    def everybody(self) -> list[str]:
        """Every site of the plan."""
        return list(Plan.of(self.plan).sites)

    @property
    def is_recoverable(self) -> bool:
        """Whether this attempt has self-masks."""
        return self.attempt.kind == "train" and Plan.of(self.plan).dropouts > 0

    def reference(self, site: str) -> ReferenceSite:
        """The reference site of that name, with its own keys."""
        identity, study = seed(site, "identity"), seed(site, "study")
        return ReferenceSite(self.plan, site, identity, study, self.kem.get(site))

    def begin(self, site: str) -> ReferenceSite:
        """A site that has issued its READY."""
        own = self.reference(site)
        own.ready(self.attempt, ledger_of(site), self.fresh_of(site))
        return own

    def fresh_of(self, site: str, label: str = "") -> Fresh:
        """The entropy of one READY."""
        labels = (self.name, site) + ((label,) if label else ())
        tau = Plan.of(self.plan).tau if self.is_recoverable else 0
        return Fresh(
            seed(*labels, "ephemeral"),
            seed(*labels, "contribution"),
            tuple(
                int.from_bytes(seed(*labels, "coefficient", str(i), size=64), "little")
                % SHAMIR_PRIME
                for i in range(tau)
            ),
        )

    def play(self) -> None:
        """READY, COHORT, UPLOAD and, where the plan has it, SURVIVORS and UNMASK."""
        for site in self.members:
            self.sites[site] = self.begin(site)
            self.fresh[site] = self.fresh_of(site)
            self.readies[site] = self.sites[site].issued
        for place, site in enumerate(self.members):
            self.sites[site].join([*self.readies.values()], NEW_MODEL, self.everybody)
            self.vectors[site] = vector_of(self.name, site, place)
            self.uploads[site] = self.sites[site].upload(self.vectors[site])
        if self.is_recoverable:
            self.confirmations = {s: self.sites[s].confirm(self.listed()) for s in self.survivors}
            self.answers = {s: self.sites[s].unmask(self.confirmations) for s in self.survivors}

    @property
    def survivors(self) -> list[str]:
        """Members whose uploads are summed."""
        return [site for site in self.members if site not in self.lost]

    def listed(self) -> dict[str, str]:
        """The list of survivors."""
        return {site: joined_of(self, site).upload_hash for site in self.survivors}

    def summed(self) -> tuple[list[int], int]:
        """What the coordinator makes of it."""
        uploads = {site: self.uploads[site] for site in self.survivors}
        if not self.is_recoverable:
            return total(uploads)
        readies = {site: json.loads(raw)["ready"] for site, raw in self.readies.items()}
        return recovered(Plan.of(self.plan), readies, uploads, self.answers)


def joined_of(case: Case, site: str) -> Joined:
    """One site's secrets of the attempt."""
    joined = case.sites[site].joined
    assert joined is not None
    return joined


def vector_of(case: str, site: str, place: int) -> list[int]:
    """Signed integers of 21 bits; the first two words at the ends of the range."""
    raw = seed(case, site, "vector", size=4 * LENGTH)
    values = [
        int.from_bytes(raw[4 * i : 4 * i + 4], "little") % 2**21 - 2**20 for i in range(LENGTH)
    ]
    ends = ((2**31 - 1, -(2**31)), (-1, 0))
    values[:2] = ends[place] if place < 2 else (0, 0)
    return values


def cases() -> dict[str, Case]:
    """Every good attempt, played."""
    four, five = plan_of(4), plan_of(5, **RECOVERABLE)
    hybrid = plan_of(3, aggregation={"pair_root": HYBRID})
    all_five = [f"site-{i}" for i in range(1, 6)]
    made = [
        Case(
            "atomic-training",
            "Three of four sites sum a training step; the fourth was away and checks the sum.",
            four,
            TRAIN,
            ["site-1", "site-2", "site-4"],
        ),
        Case(
            "blind-evaluation",
            "Four sites sum counts that the coordinator cannot read.",
            four,
            EVALUATE,
            ["site-1", "site-2", "site-3", "site-4"],
        ),
        Case(
            "recoverable-complete",
            "Recoverable mode, nobody lost: the self-masks of all five are taken off.",
            five,
            TRAIN,
            all_five,
        ),
        Case(
            "recoverable-one-lost",
            "Recoverable mode: site-3 is lost after COHORT, although its upload was made.",
            five,
            TRAIN,
            all_five,
            lost=["site-3"],
        ),
        Case(
            "hybrid-training",
            "Pair roots from X25519 and ML-KEM-768 together.",
            hybrid,
            TRAIN,
            ["site-1", "site-2", "site-3"],
            kem=kem_secrets(hybrid),
        ),
    ]
    for case in made:
        case.play()
    return {case.name: case for case in made}


def kem_secrets(plan: bytes) -> dict[str, dict[str, bytes]]:
    """Each site's ML-KEM secrets from the recorded ciphertexts (SECAGG-16)."""
    digest = Plan.of(plan).digest
    secrets: dict[str, dict[str, bytes]] = {}
    for site in Plan.of(plan).sites:
        own = kdf(seed(site, "kem", size=64), "kem-self", site.encode(), salt=digest, length=32)
        secrets[site] = {site: own}
    for low, row in json.loads(KEM_FILE.read_text()).items():
        for high, text in row.items():
            ciphertext = bytes.fromhex(text)
            shared = keys_of(high).kem.decapsulate(ciphertext)
            names = low.encode(), high.encode()
            secret = kdf(shared, "kem-secret", *names, ciphertext, salt=digest, length=32)
            secrets[low][high] = secrets[high][low] = secret
    return secrets


def tags() -> dict[str, Any]:
    """Tags of longer vectors, whose values follow from a rule (SECAGG-8)."""
    group, rows = seed("tags", "group"), []
    for length in TAG_LENGTHS:
        values = [signed_word((k + 1) * TAG_FACTOR) for k in range(length)]
        for contributors in (["site-1"], ["site-1", "site-2", "site-4"]):
            tag = affine_tag(group, values, contributors)
            rows.append({"words": length, "contributors": contributors, "tag": f"{tag:016x}"})
    return {
        "says": "Word k, from 0, is the signed word (k + 1) * factor modulo 2^32.",
        "factor": TAG_FACTOR,
        "group_secret": group.hex(),
        "tags": rows,
    }


def signed_word(value: int) -> int:
    """A value modulo 2^32 as a signed word."""
    return (value + 2**31) % 2**32 - 2**31


def resigned(site: str, ready: Mapping[str, Any], context: str = "ready") -> bytes:
    """A READY with a good signature of its site, whatever it says."""
    signature = sign(seed(site, "identity"), context, canonical(ready))
    return canonical({"ready": ready, "signature": signature})


__all__ = ["LAST_SUM", "MODEL", "NEW_MODEL", "ZEROS", "Case", "cases", "resigned"]
