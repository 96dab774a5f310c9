"""Flipped bits: is each of them refused, or is there a reason why it does no harm?

What is not refused, and why:

- COHORT, RESULT: nothing.
- SURVIVORS, the hash of another's upload: signed in vain, for nobody else signs that list.
- UNMASK, a signature or its name where tau others are good: the answer is about the list this site
  has signed before, and the same to the last bit.
- Confirmation: nothing. With nobody lost tau others are enough; else the attempt is void.
- Unmasking, a share: the commitment finds it, and another site's takes its place; else void.
- Unmasking, a seed with a lost site: the sum is wrong, and every site refuses it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pytest

from coordinator import recovery as desk
from coordinator.asking import Answer, Asker, Patience
from coordinator.sums import RoundSum, Uploads
from schemas.errors import ErrorCode, TrustError
from schemas.secagg import add_masked, cohort, coordinator, recovery
from schemas.secagg.coordinator import check_confirmation
from schemas.secagg.keys import Attempt
from schemas.secagg.messages import SignedReady, SurvivorList
from schemas.wire import Confirmation, Refusal, ReleaseReply, SurvivorsCall, UnmaskCall, decode
from site_node.egress import rules
from tests.support.attacks import VICTIM, Attack
from tests.support.by_hand import REPLIES, unharmed
from tests.support.consortium import memory_consortium
from tests.support.mutants import without
from tests.support.sent import ALL, Sent


def flips(raw: bytes, every: int) -> Iterator[bytes]:
    """Flip one bit at a time: the first of every so many; odd, so that all eight take turns."""
    for bit in range(0, 8 * len(raw), every):
        bent = bytearray(raw)
        bent[bit // 8] ^= 1 << bit % 8
        yield bytes(bent)


# -- COHORT ----------------------------------------------------------------------------------


@pytest.fixture
def armed(attack) -> tuple[bytes, Callable[[], None]]:
    """A good COHORT, and what makes the victim's READY outstanding again after a refusal."""
    attempt = attack.fresh()
    readies = attack.readies(0, attempt)
    session = attack.consortium.rounds[VICTIM]._sessions[attack.consortium.digest]
    signed, secrets = session.issued["train"]
    private = secrets.ephemeral()

    def rearm() -> None:
        secrets._ephemeral = private
        session.issued["train"] = (signed, secrets)

    return attack.cohort(readies.values(), 0, attempt), rearm


def test_no_flipped_bit_is_overlooked(attack, armed) -> None:
    """Every 211th bit of a COHORT, and so every part of it."""
    call, rearm = armed
    before = attack.charged_uploads(VICTIM)
    codes = set()
    for bent in flips(call, 211):
        rearm()
        codes.add(attack.refusal(VICTIM, bent))
    assert attack.charged_uploads(VICTIM) == before
    assert "internal.unexpected" not in codes
    assert {"signature.invalid", "document.field_invalid"} <= codes
    rearm()
    attack.upload(VICTIM, call)  # and it was good without the flip


def with_a_flip_for_the_victim(attack: Attack) -> tuple[int, dict[str, SignedReady], SignedReady]:
    """One bit of what site-2 sealed for site-3 is other in what the victim is shown."""
    attempt = attack.fresh()
    readies = attack.readies(0, attempt)
    ready = readies["site-2"].ready
    share = ready.group_shares["site-3"]
    other = f"{int(share[0], 16) ^ 1:x}{share[1:]}"
    shares = {**ready.group_shares, "site-3": other}
    bent = ready.model_copy(update={"group_shares": shares})
    return attempt, readies, SignedReady(ready=bent, signature=readies["site-2"].signature)


def test_a_flip_in_what_concerns_others_is_refused(attack) -> None:
    attempt, readies, bent = with_a_flip_for_the_victim(attack)
    call = attack.cohort({**readies, "site-2": bent}.values(), 0, attempt)
    assert attack.refused(VICTIM, call) == "signature.invalid"


def flipped_sum(attack: Attack) -> np.ndarray:
    attempt, readies, bent = with_a_flip_for_the_victim(attack)
    true = attack.cohort(readies.values(), 0, attempt)
    other = attack.cohort({**readies, "site-2": bent}.values(), 0, attempt)
    uploads = {site: attack.upload(site, other if site == VICTIM else true) for site in ALL}
    return add_masked(uploads, ALL).words.view(np.int32).astype(np.int64)


def test_without_signatures_the_flip_is_taken_and_masks_do_not_cancel(
    attack, monkeypatch, drawn
) -> None:
    without(monkeypatch, cohort.checked_cohort, ErrorCode.SIGNATURE_INVALID)
    assert not np.any(flipped_sum(attack) == sum(drawn[site] for site in ALL))


def test_without_the_transcript_in_the_masks_nobody_ever_notices(
    attack, monkeypatch, drawn
) -> None:
    without(monkeypatch, cohort.checked_cohort, ErrorCode.SIGNATURE_INVALID)
    honest = Attempt.info
    unbound = {"transcript_hash": "00" * 32}
    monkeypatch.setattr(Attempt, "info", lambda self: honest(replace(self, **unbound)))
    assert np.array_equal(flipped_sum(attack), sum(drawn[site] for site in ALL))


# -- SURVIVORS and UNMASK --------------------------------------------------------------------


def rewinding(sent: Sent) -> Callable[[], None]:
    """What makes the victim as it is now, memory and gate: each flip is seen on its own."""
    secrets, site = sent.keys(VICTIM).recovery(), sent.hand.consortium.sites[VICTIM]
    held = secrets._shares, secrets._seeds, secrets.signed
    (last,) = site.db.row("SELECT max(id) AS last FROM released")

    def rewind() -> None:
        secrets._shares, secrets._seeds, secrets.signed = held
        with site.db.write() as connection:
            connection.execute(
                "DELETE FROM released WHERE id > ? AND kind IN (?, ?)",
                (last, rules.CONFIRMATION, rules.UNMASKING),
            )

    return rewind


def statement(sent: Sent, uploads: Mapping[str, str]) -> SurvivorList:
    """What a site signs when it is shown these hashes."""
    own = sent.keys(VICTIM).attempt
    return SurvivorList(
        plan_digest=own.plan_digest,
        round=own.round,
        attempt=own.attempt,
        transcript_hash=own.transcript_hash,
        uploads=dict(uploads),
    )


def test_a_flipped_bit_in_a_list_is_refused_or_signed_in_vain(sent) -> None:
    """What is signed in vain voids the attempt at worst, as losing the message would."""
    hand, call, rewind = sent.hand, sent.listing(ALL), rewinding(sent)
    others = {site: sent.confirm(site, ALL) for site in ALL if site != VICTIM}
    before = hand.charged_uploads(VICTIM)
    codes, in_vain = set(), 0
    for bent in flips(call, 7):
        rewind()
        header = hand.ask(VICTIM, bent).header
        if isinstance(header, Refusal):
            codes.add(header.code)
            continue
        named = decode(bent, allowed=(SurvivorsCall,)).header.uploads
        (other,) = (site for site in ALL if named[site] != sent.hashes[site])
        assert other != VICTIM
        in_vain += 1
        with pytest.raises(TrustError):  # the coordinator asked for a signature under its list
            check_confirmation(
                hand.consortium.plan, statement(sent, sent.hashes), VICTIM, header.signature
            )
        shown = sent.unmask({**others, VICTIM: header.signature})
        assert hand.refusal(VICTIM, shown) == "recovery.confirmations_too_few"
    assert in_vain
    assert "internal.unexpected" not in codes
    assert {"recovery.own_upload", "recovery.stranger", "plan.unknown"} <= codes, codes
    assert {"document.field_invalid", "message.malformed"} <= codes
    assert hand.charged_uploads(VICTIM) == before
    rewind()
    assert isinstance(hand.ask(VICTIM, call).header, Confirmation)  # good without the flip


def answers_to_flips(sent: Sent, call: bytes) -> tuple[set[str], list[tuple[bytes, bytes]]]:
    """Codes of refusals, and (request, answer) where a flip was answered."""
    rewind, codes, answered = rewinding(sent), set(), []
    for bent in flips(call, 7):
        rewind()
        body = sent.hand.consortium.call(VICTIM, bent)
        header = decode(body, allowed=REPLIES).header
        if isinstance(header, Refusal):
            codes.add(header.code)
        else:
            answered.append((bent, body))
    rewind()
    assert "internal.unexpected" not in codes
    return codes, answered


def test_a_flipped_bit_in_spare_signatures_changes_no_answer(sent) -> None:
    """Four were shown and tau = 3 are needed: the answer is about the list signed, as before."""
    signed = {site: sent.confirm(site, ALL) for site in ALL}
    call = sent.unmask(signed)
    codes, answered = answers_to_flips(sent, call)
    honest = sent.hand.consortium.call(VICTIM, call)
    assert answered
    for bent, body in answered:
        assert body == honest
        shown = decode(bent, allowed=(UnmaskCall,)).header.confirmations
        assert sum(shown.get(site) == signed[site] for site in ALL) == 3
    assert {"document.field_invalid", "message.malformed"} <= codes


def test_where_none_is_spare_every_flipped_bit_is_refused(sent) -> None:
    signed = {site: sent.confirm(site, ALL) for site in ALL}
    codes, answered = answers_to_flips(sent, sent.unmask({site: signed[site] for site in ALL[:3]}))
    assert not answered
    assert "recovery.confirmations_too_few" in codes


def test_without_the_count_a_flipped_signature_unmasks_as_a_good_one(sent, monkeypatch) -> None:
    without(monkeypatch, recovery.reveal, ErrorCode.CONFIRMATIONS_TOO_FEW)
    signed = {site: sent.confirm(site, ALL) for site in ALL}
    _, answered = answers_to_flips(sent, sent.unmask({site: signed[site] for site in ALL[:3]}))
    assert answered


# -- RESULT ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory) -> tuple[Attack, RoundSum]:
    """All sites have contributed to the evaluation, and none has seen the blind sum."""
    short = {"training": {"steps": 1, "average_from_step": 1, "retry_cap": 6}}
    attack = Attack(memory_consortium(tmp_path_factory.mktemp("evaluated"), **short))
    finals = tuple(attack.finals(attack.train()[-1]).values())
    return attack, attack.play(0, 0, "evaluate", finals=finals)


def test_every_flipped_bit_in_a_blind_sum_is_refused(evaluated) -> None:
    attack, blind = evaluated
    call = attack.result(blind)
    with unharmed(attack.consortium):
        codes = {attack.refusal(VICTIM, bent) for bent in flips(call, 7)}
    assert {"sum.altered", "document.field_invalid", "message.malformed"} <= codes, codes
    assert "internal.unexpected" not in codes
    assert isinstance(attack.ask(VICTIM, call).header, ReleaseReply)


# -- answers at the coordinator --------------------------------------------------------------


@dataclass
class Recorded:
    """The sites' honest answers of one recovery; any of them may arrive with a flipped bit."""

    sent: Sent
    kept: tuple[str, ...]
    confirmations: dict[str, bytes]
    unmaskings: dict[str, bytes]

    @classmethod
    def of(cls, sent: Sent, kept: tuple[str, ...]) -> Recorded:
        """Let these sites sign and unmask the list of them."""
        call, listing = sent.hand.consortium.call, sent.listing(kept)
        signed = {site: sent.confirm(site, kept) for site in kept}
        return cls(
            sent,
            kept,
            {site: call(site, listing) for site in kept},  # the same list, the same answer
            {site: call(site, sent.unmask(signed)) for site in kept},
        )

    def run(self, **bent: Mapping[str, bytes]) -> tuple[RoundSum | None, str, dict[str, str]]:
        """Let the coordinator recover with these answers in place of the honest ones.

        Returns:
            The sum or why there is none, and the reasons of sites that did not count.
        """
        said = {
            SurvivorsCall: {**self.confirmations, **bent.get("confirmations", {})},
            UnmaskCall: {**self.unmaskings, **bent.get("unmaskings", {})},
        }

        def exchange(requests, *, timeout_seconds, is_enough=None):
            for site, raw in requests.items():
                asked = type(decode(raw, allowed=tuple(said)).header)
                yield site, Answer(said[asked][site])

        asker = Asker(exchange, lambda: frozenset(ALL), lambda: 0.0, Patience())
        uploads = Uploads(hashes=True)
        for site in self.kept:
            uploads.add(site, self.sent.hand.uploads["train", 0, self.sent.attempt][site])
        entry, code = desk.Recovery(
            self.sent.hand.consortium.plan,
            asker,
            lambda *_: None,
            0,
            self.sent.attempt,
            self.sent.readies,
            uploads,
        ).run()
        return entry, code, asker.reasons


def values(entry: RoundSum) -> np.ndarray:
    """The sum in clear."""
    return entry.summed.words.view(np.int32).astype(np.int64)


KINDS = ["confirmations", "unmaskings"]


@pytest.mark.parametrize("kind", KINDS)
def test_with_nobody_lost_a_flipped_answer_spoils_nothing(sent, drawn, kind) -> None:
    """It does not count, or is about one share: tau = 3 others give the same sum."""
    recorded = Recorded.of(sent, ALL)
    honest, _, _ = recorded.run()
    assert np.array_equal(values(honest), sum(drawn[site] for site in ALL))
    codes, silent = set(), 0
    for bent in flips(getattr(recorded, kind)[VICTIM], 13):
        entry, _, reasons = recorded.run(**{kind: {VICTIM: bent}})
        assert np.array_equal(entry.summed.words, honest.summed.words)
        assert entry.summed.tag == honest.summed.tag
        assert reasons.keys() <= {VICTIM}
        codes |= set(reasons.values())
        silent += not reasons
    assert {"document.field_invalid", "message.malformed"} <= codes
    assert ("signature.invalid" in codes) == (kind == "confirmations")
    assert bool(silent) == (kind == "unmaskings")  # shares that are wrong, and nothing else


@pytest.mark.parametrize("kind", KINDS)
def test_with_one_lost_a_flipped_answer_voids_the_attempt_or_is_refused_by_all(sent, kind) -> None:
    """Nobody stands in for a survivor: its seed is vouched for by the tag of the sum alone."""
    recorded = Recorded.of(sent, ALL[1:])
    honest, _, _ = recorded.run()
    codes, wrong = set(), 0
    for bent in flips(getattr(recorded, kind)["site-2"], 13):
        entry, code, _ = recorded.run(**{kind: {"site-2": bent}})
        codes.add(code)
        if entry is None:
            continue
        wrong += 1
        assert entry.summed.tag != honest.summed.tag or np.any(values(entry) != values(honest))
        for site in (VICTIM, "site-3"):
            shown = sent.hand.cohort((), 1, 0, previous=entry)
            assert sent.hand.refusal(site, shown) == "sum.altered"
    assert {"document.field_invalid", "message.malformed"} <= codes
    assert {"confirmations": "signature.invalid", "unmaskings": "recovery.failed"}[kind] in codes
    assert bool(wrong) == (kind == "unmaskings")


def test_without_the_commitments_a_flipped_share_spoils_the_sum(sent, monkeypatch) -> None:
    recorded = Recorded.of(sent, ALL)
    honest, _, _ = recorded.run()
    monkeypatch.setattr(coordinator._Answers, "_fits", staticmethod(lambda *_: True))
    wrong = 0
    for bent in flips(recorded.unmaskings[VICTIM], 101):
        entry, _, _ = recorded.run(unmaskings={VICTIM: bent})
        wrong += entry is not None and entry.summed.tag != honest.summed.tag
    assert wrong
