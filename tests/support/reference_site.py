"""Could a second implementer write a site from SECAGG.md alone? This is one who did.

Clause by clause in plain Python, lists of integers for vectors; nothing of ours is imported. It is
slow, and it keeps its secrets for longer than SECAGG-20 allows a product to.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.support.reference_bytes import (
    SHAMIR_PRIME,
    TAG_PRIME,
    ZEROS,
    Refused,
    added,
    affine_tag,
    agree,
    canonical,
    commitment,
    frame,
    hashed,
    header_of,
    is_signed,
    kdf,
    polynomial,
    read_ready,
    residue,
    self_mask_seed,
    sign,
    stream,
    upload_hash,
    x25519_public,
)


@dataclass(frozen=True)
class Plan:
    """Keys and numbers of one plan."""

    digest: bytes
    sites: dict[str, dict[str, str]]
    minimum: int
    tau: int
    dropouts: int
    is_hybrid: bool

    @classmethod
    def of(cls, raw: bytes) -> Plan:
        """Read a canonical plan; whether it is signed and approved is not a sum's question."""
        plan = json.loads(raw)
        sites = {site["site_id"]: site for site in plan["sites"]}
        return cls(
            digest=hashlib.sha256(raw).digest(),
            sites=dict(sorted(sites.items())),
            minimum=plan["cohort_minimum"],
            tau=(len(sites) + plan["collusion_bound"]) // 2 + 1,
            dropouts=plan["aggregation"]["maximum_dropouts"],
            is_hybrid=plan["aggregation"]["pair_root"] != "x25519",
        )

    @property
    def fewest_summed(self) -> int:
        """Fewest hospitals in a training sum."""
        return max(self.minimum, self.tau) if self.dropouts else self.minimum

    def fewest_of(self, cohort: int) -> int:
        """Fewest survivors of a recoverable cohort of this size."""
        return cohort - max(0, min(self.dropouts, cohort - self.fewest_summed))

    def place(self, site: str) -> int:
        """The site's point on every polynomial."""
        return 1 + list(self.sites).index(site)


@dataclass(frozen=True)
class Attempt:
    """What every READY of one cohort says."""

    kind: str
    round: int
    attempt: int
    model_hash: str
    last_sum_hash: str


@dataclass(frozen=True)
class Fresh:
    """Entropy of one READY: all of it uniform, all of it used once."""

    ephemeral: bytes  # 32 bytes
    contribution: bytes  # 32 bytes
    coefficients: tuple[int, ...] = ()  # tau elements of the Shamir field; the first is the secret


@dataclass
class Joined:
    """Secrets of one attempt between COHORT and the opened sum."""

    roster: list[str]
    transcript: str
    bound: bytes
    group: bytes = b""
    masks: list[tuple[int, bytes]] = field(default_factory=list)  # sign, 48-byte seed
    seeds: dict[str, bytes] = field(default_factory=dict)
    shares: dict[str, bytes] = field(default_factory=dict)
    upload_hash: str = ""
    survivors: dict[str, Any] | None = None
    has_answered: bool = False


# --- the site ---------------------------------------------------------------------------------


class ReferenceSite:
    """One site in one attempt at a time: ready, join, upload, then confirm, unmask, open."""

    def __init__(
        self,
        plan: bytes,
        site_id: str,
        identity: bytes,
        study: bytes,
        kem_secrets: Mapping[str, bytes] | None = None,
    ) -> None:
        self.plan, self.name = Plan.of(plan), site_id
        self.identity, self.study = identity, study
        self.kem_secrets = dict(kem_secrets or {})
        self.fresh: Fresh | None = None
        self.issued = b""
        self.attempt: Attempt | None = None
        self.joined: Joined | None = None

    # SECAGG-2, -16
    def root(self, peer: str) -> bytes:
        """R with a peer, or with oneself."""
        secret = agree(self.study, self.plan.sites[peer]["study_key"])
        if self.plan.is_hybrid:
            if peer not in self.kem_secrets:
                raise Refused("identity.kem_secret_missing")
            secret += self.kem_secrets[peer]
        low, high = sorted((self.name, peer))
        names = low.encode(), high.encode()
        return kdf(secret, "pair-root", *names, salt=self.plan.digest, length=32)

    def is_recoverable(self, kind: str) -> bool:
        """Whether attempts of this kind survive the loss of a member."""
        return kind == "train" and self.plan.dropouts > 0

    # SECAGG-3, -12
    def ready(
        self,
        attempt: Attempt,
        ledger: tuple[str, int],
        fresh: Fresh,
        recipients: Sequence[str] = (),
    ) -> bytes:
        """Issue the signed READY of one attempt; ``ledger`` is its head and its charges."""
        recoverable = self.is_recoverable(attempt.kind)
        header = {
            "version": 2,
            "plan_digest": self.plan.digest.hex(),
            "kind": attempt.kind,
            "round": attempt.round,
            "attempt": attempt.attempt,
            "site_id": self.name,
            "model_hash": attempt.model_hash,
            "last_sum_hash": attempt.last_sum_hash,
            "ledger_head": ledger[0],
            "ledger_charges": ledger[1],
            "ephemeral_key": x25519_public(fresh.ephemeral),
            "self_mask_commitment": self._commitment(fresh) if recoverable else ZEROS,
        }
        bound = canonical(header)
        group, mask = {}, {}
        for peer in recipients or self.plan.sites:
            group[peer] = self.sealed("group-share", peer, bound, fresh.contribution)
            if recoverable:
                share = polynomial(fresh.coefficients, self.plan.place(peer))
                mask[peer] = self.sealed("mask-share", peer, bound, share.to_bytes(32, "little"))
        ready = {**header, "group_shares": group, "mask_shares": mask}
        signature = sign(self.identity, "ready", canonical(ready))
        self.issued = canonical({"ready": ready, "signature": signature})
        self.attempt, self.fresh = attempt, fresh
        return self.issued

    def _commitment(self, fresh: Fresh) -> str:
        public = bytes.fromhex(x25519_public(fresh.ephemeral))
        return commitment(self.plan.digest, self.name, public, fresh.coefficients[0])

    def sealed(self, purpose: str, peer: str, header: bytes, plain: bytes) -> str:
        bound = frame(self.name.encode(), peer.encode(), header)
        key = kdf(self.root(peer), purpose, bound, length=32)
        return AESGCM(key).encrypt(bytes(12), plain, bound).hex()

    def _opened(self, purpose: str, ready: Mapping[str, Any], sealed: Mapping[str, str]) -> bytes:
        sender = ready["site_id"]
        if self.name not in sealed:
            raise Refused("cohort.share_missing")
        bound = frame(sender.encode(), self.name.encode(), header_of(ready))
        key = kdf(self.root(sender), purpose, bound, length=32)
        try:
            return AESGCM(key).decrypt(bytes(12), bytes.fromhex(sealed[self.name]), bound)
        except InvalidTag:
            raise Refused("cohort.share_invalid") from None

    # SECAGG-4
    def checked(self, documents: Sequence[bytes], approved: Sequence[str]) -> dict[str, Any]:
        """Check a cohort against this site's own attempt; return READYs by name, sorted."""
        expected = self.attempt
        assert expected is not None
        cohort: dict[str, Any] = {}
        for raw in documents:
            signed = read_ready(raw)
            ready = signed["ready"]
            site = ready["site_id"]
            if site not in self.plan.sites:
                raise Refused("cohort.member_unknown")
            if site in cohort:
                raise Refused("cohort.duplicate_member")
            if site not in approved:
                raise Refused("cohort.member_unapproved")
            pinned = self.plan.sites[site]["identity_key"]
            if not is_signed(pinned, "ready", canonical(ready), signed["signature"]):
                raise Refused("signature.invalid")
            if ready["plan_digest"] != self.plan.digest.hex():
                raise Refused("cohort.plan_mismatch")
            if ready["kind"] != expected.kind:
                raise Refused("cohort.kind_mismatch")
            if (ready["round"], ready["attempt"]) != (expected.round, expected.attempt):
                raise Refused("cohort.round_mismatch")
            if ready["model_hash"] != expected.model_hash:
                raise Refused("cohort.model_mismatch")
            if ready["last_sum_hash"] != expected.last_sum_hash:
                raise Refused("cohort.last_sum_mismatch")
            has_self_mask = ready["self_mask_commitment"] != ZEROS, bool(ready["mask_shares"])
            if has_self_mask != (self.is_recoverable(expected.kind),) * 2:
                raise Refused("cohort.mode_mismatch")
            if ready["ephemeral_key"] in (r["ready"]["ephemeral_key"] for r in cohort.values()):
                raise Refused("cohort.key_invalid")
            cohort[site] = signed
        recoverable = self.is_recoverable(expected.kind)
        if len(cohort) < (self.plan.fewest_summed if recoverable else self.plan.minimum):
            raise Refused("cohort.too_small")
        return dict(sorted(cohort.items()))

    # SECAGG-4, -5, -7, -12
    def join(
        self, documents: Sequence[bytes], new_model_hash: str, approved: Sequence[str]
    ) -> Joined:
        """Check a cohort and derive every secret of the attempt."""
        if self.fresh is None or self.attempt is None:
            raise Refused("cohort.ready_stale")
        cohort = self.checked(documents, approved)
        if self.name not in cohort:
            raise Refused("cohort.own_ready_missing")
        if canonical(cohort[self.name]) != self.issued:
            raise Refused("cohort.own_ready_altered")
        joined = Joined(list(cohort), *self._bound(cohort, new_model_hash))
        for peer, signed in cohort.items():
            if peer == self.name:
                continue
            low, high = sorted((self.name, peer))
            shared = agree(self.fresh.ephemeral, signed["ready"]["ephemeral_key"])
            names, root = (low.encode(), high.encode()), self.root(peer)
            seed = kdf(shared, "pair-mask", joined.bound, *names, salt=root, length=48)
            joined.masks.append((1 if self.name == low else -1, seed))
            joined.seeds[peer] = seed
        self._gather(joined, cohort)
        if self.is_recoverable(self.attempt.kind):
            for peer, signed in cohort.items():
                ready = signed["ready"]
                joined.shares[peer] = self._opened("mask-share", ready, ready["mask_shares"])
                if int.from_bytes(joined.shares[peer], "little") >= SHAMIR_PRIME:
                    raise Refused("cohort.share_invalid")
            own = cohort[self.name]["ready"]
            joined.masks.append((1, self_mask_seed(self.fresh.coefficients[0], own)))
        self.joined, self.fresh = joined, None
        return joined

    # SECAGG-10
    def observe(
        self,
        documents: Sequence[bytes],
        attempt: tuple[int, int],
        new_model_hash: str,
        approved: Sequence[str],
    ) -> Joined:
        """Derive what checks a training sum to which this site did not contribute."""
        said = read_ready(documents[0])["ready"]
        self.attempt = Attempt("train", *attempt, said["model_hash"], said["last_sum_hash"])
        cohort = self.checked(documents, approved)
        self.joined = Joined(list(cohort), *self._bound(cohort, new_model_hash))
        self._gather(self.joined, cohort)
        return self.joined

    def _bound(self, cohort: Mapping[str, Any], new_model_hash: str) -> tuple[str, bytes]:
        """The transcript, and A: what every secret of the attempt is bound to."""
        assert self.attempt is not None
        transcript = hashed("transcript", *(canonical(signed) for signed in cohort.values()))
        return transcript, frame(
            self.plan.digest,
            self.attempt.kind.encode(),
            self.attempt.round.to_bytes(8, "big"),
            self.attempt.attempt.to_bytes(8, "big"),
            bytes.fromhex(new_model_hash),
            bytes.fromhex(transcript),
        )

    def _gather(self, joined: Joined, cohort: Mapping[str, Any]) -> None:
        """Open every contribution and make the group secret."""
        gathered = []
        for peer, signed in cohort.items():
            ready = signed["ready"]
            gathered += [peer.encode(), self._opened("group-share", ready, ready["group_shares"])]
        salt = bytes.fromhex(joined.transcript)
        joined.group = kdf(frame(*gathered), "group", joined.bound, salt=salt, length=32)

    # SECAGG-6, -8, -9
    def upload(self, vector: Sequence[int]) -> tuple[list[int], int]:
        """Mask one vector; return words and tag."""
        joined = self._at_hand()
        if not joined.masks:
            raise Refused("sum.secrets_spent")
        if not all(-(2**31) <= value < 2**31 for value in vector):
            raise Refused("sum.vector_out_of_range")
        tag = self._tag(vector, [self.name])
        words = [value % 2**32 for value in vector]
        for sign_, seed in joined.masks:
            words = added(words, sign_, stream(seed[:32], 4, len(words)))
            tag += sign_ * residue(seed[32:])
        if self._is_blind():
            words = added(words, 1, self._blinding(self.name, len(words)))
        joined.masks = []
        joined.upload_hash = upload_hash(words, tag % TAG_PRIME)
        return words, tag % TAG_PRIME

    def _tag(self, vector: Sequence[int], contributors: Sequence[str]) -> int:
        return affine_tag(self._at_hand().group, vector, contributors)

    def _blinding(self, site: str, length: int) -> list[int]:
        key = kdf(self._at_hand().group, "blind", site.encode(), length=32)
        return stream(key, 4, length)

    def _is_blind(self) -> bool:
        return self.attempt is not None and self.attempt.kind == "evaluate"

    def _at_hand(self) -> Joined:
        if self.joined is None:
            raise Refused("attempt.unknown")
        return self.joined

    # SECAGG-13
    def confirm(self, uploads: Mapping[str, str]) -> str:
        """Sign one list of survivors."""
        joined = self._at_hand()
        assert self.attempt is not None
        if not self.is_recoverable(self.attempt.kind):
            raise Refused("recovery.not_offered")
        if not joined.upload_hash:
            raise Refused("message.out_of_order")
        wanted = {
            "version": 2,
            "plan_digest": self.plan.digest.hex(),
            "round": self.attempt.round,
            "attempt": self.attempt.attempt,
            "transcript_hash": joined.transcript,
            "uploads": dict(uploads),
        }
        if joined.survivors is not None:
            if joined.survivors != wanted:
                raise Refused("recovery.survivors_changed")
            return sign(self.identity, "survivors", canonical(wanted))
        if set(uploads) - set(joined.roster):
            raise Refused("recovery.stranger")
        if uploads.get(self.name) != joined.upload_hash:
            raise Refused("recovery.own_upload")
        if len(uploads) < self.plan.fewest_of(len(joined.roster)):
            raise Refused("recovery.too_few")
        joined.survivors = wanted
        return sign(self.identity, "survivors", canonical(wanted))

    # SECAGG-14
    def unmask(self, confirmations: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
        """Give shares of survivors' self-masks and seeds with the lost, once."""
        joined = self._at_hand()
        if joined.survivors is None:
            raise Refused("message.out_of_order")
        listed, uploads = canonical(joined.survivors), joined.survivors["uploads"]
        valid = [
            site
            for site, signature in confirmations.items()
            if site in uploads
            and is_signed(self.plan.sites[site]["identity_key"], "survivors", listed, signature)
        ]
        if len(valid) < self.plan.tau:
            raise Refused("recovery.confirmations_too_few")
        if joined.has_answered:
            raise Refused("recovery.done")
        joined.has_answered = True
        shares = {site: share.hex() for site, share in joined.shares.items() if site in uploads}
        seeds = {site: seed.hex() for site, seed in joined.seeds.items() if site not in uploads}
        return shares, seeds

    # SECAGG-8, -9, -10
    def open(self, words: Sequence[int], tag: int, survivors: Sequence[str] = ()) -> list[int]:
        """Check a sum and give its integers."""
        joined = self._at_hand()
        assert self.attempt is not None
        named = sorted(survivors) or joined.roster
        if joined.survivors is not None and named != sorted(joined.survivors["uploads"]):
            raise Refused("recovery.survivors_changed")
        if set(named) - set(joined.roster) or len(set(named)) != len(named):
            raise Refused("recovery.stranger")
        fewest = len(joined.roster)
        if self.is_recoverable(self.attempt.kind):
            fewest = self.plan.fewest_of(fewest)
        if len(named) < fewest:
            raise Refused("recovery.too_few")
        if not 0 <= tag < TAG_PRIME:
            raise Refused("sum.malformed")
        opened = list(words)
        if self._is_blind():
            for site in joined.roster:
                opened = added(opened, -1, self._blinding(site, len(opened)))
        values = [word - 2**32 if word >= 2**31 else word for word in opened]
        if self._tag(values, named) != tag:
            raise Refused("sum.altered")
        return values
