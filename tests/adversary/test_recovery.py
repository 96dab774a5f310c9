"""Recoverable mode: can what takes the masks off one sum be made to take them off one vector?

Four hospitals, tau = 3. Site-1 is the victim, site-4 colludes where an attack needs a colluder.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pytest

from schemas.errors import ErrorCode, ProtocolError
from schemas.secagg import cohort, coordinator, mask, recovery, shamir, shares
from schemas.secagg import site as secagg_site
from schemas.secagg.cohort import share_points
from schemas.secagg.cohort_keys import RecoverySecrets
from schemas.secagg.coordinator import recover_sum
from schemas.secagg.keys import PairMask, pair_sign, self_mask_seed
from schemas.secagg.messages import SignedReady
from schemas.secagg.recovery import Revealed, confirm_survivors
from schemas.secagg.site import ReadySecrets
from schemas.secagg.streams import MaskStreams
from schemas.wire import Confirmation, Unmasking
from site_node.egress import rules
from site_node.training import dp_sgd
from tests.support.attacks import VICTIM, Attack
from tests.support.mutants import without
from tests.support.secure_sum import Consortium, vectors_of

ALL = ("site-1", "site-2", "site-3", "site-4")


@dataclass
class Sent:
    """One attempt in which everybody has sent, and the coordinator holds every upload."""

    hand: Attack
    attempt: int
    readies: dict[str, SignedReady]

    def __post_init__(self) -> None:
        self.hashes = self.hand.hashes(0, self.attempt)

    def listing(self, survivors: Iterable[str]) -> bytes:
        """SURVIVORS with the true hashes of these."""
        named = {site: self.hashes[site] for site in survivors}
        return self.hand.survivors(0, self.attempt, named)

    def confirm(self, site: str, survivors: Iterable[str]) -> str:
        """Let a site sign a list."""
        header = self.hand.ask(site, self.listing(survivors)).header
        assert isinstance(header, Confirmation), header
        return header.signature

    def unmask(self, confirmations: Mapping[str, str]) -> bytes:
        return self.hand.unmask(0, self.attempt, confirmations)

    def reveal(self, site: str, confirmations: Mapping[str, str]) -> Revealed:
        """Let a site answer UNMASK."""
        header = self.hand.ask(site, self.unmask(confirmations)).header
        assert isinstance(header, Unmasking), header
        return Revealed(header.shares, header.seeds)

    def honest_list(self, lost: str) -> tuple[dict[str, str], dict[str, Revealed]]:
        """Confirm and unmask one list, the same for everyone on it."""
        kept = [site for site in ALL if site != lost]
        signed = {site: self.confirm(site, kept) for site in kept}
        return signed, {site: self.reveal(site, signed) for site in kept}

    def colluding(self, site: str) -> RecoverySecrets:
        """A colluder's own secrets, all of them."""
        session = self.hand.consortium.rounds[site]._sessions[self.hand.consortium.digest]
        return session.keys["train"][2].recovery()

    def opened(self, site: str, seeds: Mapping[str, str], self_mask: PairMask | None) -> np.ndarray:
        """Take off one upload what is known of its masks: seeds by peer, and the self-mask."""
        masks = [PairMask.of(bytes.fromhex(s), pair_sign(site, p)) for p, s in seeds.items()]
        masks += [self_mask] if self_mask else []
        words = self.hand.uploads["train", 0, self.attempt][site].words.copy()
        MaskStreams((-each.sign, each.stream_key) for each in masks).apply(words)
        return words.view(np.int32).astype(np.int64)

    def self_mask(self, site: str, given: Mapping[str, str]) -> PairMask:
        """Combine a site's self-mask from shares by holder."""
        points = share_points(self.hand.consortium.plan)
        weights = shamir.weights_at_zero([points[holder] for holder in given])
        numbers = [shamir.read_element(bytes.fromhex(share)) for share in given.values()]
        header = self.readies[site].ready.header().canonical()
        return PairMask.of(self_mask_seed(shamir.combine(weights, numbers), header), 1)


@pytest.fixture
def sent(recovering, drawn) -> Sent:
    attempt = recovering.fresh()
    readies = recovering.readies(0, attempt)
    call = recovering.cohort(readies.values(), 0, attempt)
    for site in ALL:
        recovering.upload(site, call)
    return Sent(recovering, attempt, readies)


# -- both kinds of share ---------------------------------------------------------------------


def test_an_answer_holds_one_secret_about_each_hospital(sent) -> None:
    """Inert: asked twice, by two lists or by two requests, a site has nothing more to say."""
    signed, revealed = sent.honest_list(lost=VICTIM)
    for site, answer in revealed.items():
        assert (set(answer.shares), set(answer.seeds)) == ({"site-2", "site-3", "site-4"}, {VICTIM})
        assert sent.hand.refused(site, sent.unmask(signed)) == "recovery.done"
        assert sent.hand.refused(site, sent.listing(ALL)) == "recovery.survivors_changed"


def keep_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remember what was signed, and forget nothing."""

    def settle(self, survivors, signature) -> None:
        self.signed = (survivors, signature)

    monkeypatch.setattr(RecoverySecrets, "settle", settle)


def let_through(monkeypatch: pytest.MonkeyPatch, *codes: ErrorCode) -> None:
    """Take rules out of the gate."""
    places = {
        ErrorCode.EGRESS_SIZE_WRONG: rules.size_exact,
        ErrorCode.EGRESS_UNMASKS_MORE: rules.never_both,
        ErrorCode.EGRESS_ALREADY_RELEASED: rules.only_once,
    }
    for code in codes:
        without(monkeypatch, places[code], code)


@pytest.mark.parametrize(
    ("taken_out", "code"),
    [
        ((), "egress.unmasks_more"),
        ((ErrorCode.EGRESS_UNMASKS_MORE,), "egress.size_wrong"),
    ],
    ids=["both about one hospital", "larger than the plan promised"],
)
def test_behind_the_either_or_rule_stands_the_gate(sent, monkeypatch, taken_out, code) -> None:
    keep_everything(monkeypatch)
    let_through(monkeypatch, *taken_out)
    kept = ALL[1:]
    signed = {site: sent.confirm(site, kept) for site in kept}
    assert sent.hand.refused("site-2", sent.unmask(signed)) == code


def test_without_either_or_a_site_hands_out_all_of_it_and_the_victim_lies_open(
    sent, monkeypatch, drawn
) -> None:
    """As flwr's clients do: one peer named in both lists is answered in both."""
    keep_everything(monkeypatch)
    let_through(monkeypatch, ErrorCode.EGRESS_SIZE_WRONG, ErrorCode.EGRESS_UNMASKS_MORE)
    _, revealed = sent.honest_list(lost=VICTIM)
    both = {site: answer.shares[VICTIM] for site, answer in revealed.items()}
    seeds = {site: answer.seeds[VICTIM] for site, answer in revealed.items()}
    found = sent.opened(VICTIM, seeds, sent.self_mask(VICTIM, both))
    assert np.array_equal(found, drawn[VICTIM])


# -- two lists -------------------------------------------------------------------------------


def forget_the_first_list(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sign whatever list comes."""
    honest = recovery.confirm_survivors

    def lenient(keys, *more):
        keys.recovery().signed = None
        return honest(keys, *more)

    monkeypatch.setattr("site_node.recovery.confirm_survivors", lenient)


def test_a_second_list_is_refused(sent) -> None:
    sent.confirm("site-2", ALL)
    assert sent.hand.refused("site-2", sent.listing(ALL[1:])) == "recovery.survivors_changed"


def test_behind_that_rule_stands_the_gate(sent, monkeypatch) -> None:
    forget_the_first_list(monkeypatch)
    sent.confirm("site-2", ALL)
    assert sent.hand.refused("site-2", sent.listing(ALL[1:])) == "egress.already_released"


def test_behind_the_gate_the_first_list_has_destroyed_what_the_second_needs(
    sent, monkeypatch, drawn
) -> None:
    """Both lists get enough signatures, and still no seed with the victim is left."""
    forget_the_first_list(monkeypatch)
    let_through(monkeypatch, ErrorCode.EGRESS_ALREADY_RELEASED)
    for site in ALL:
        sent.confirm(site, ALL)
    _, revealed = sent.honest_list(lost=VICTIM)
    assert all(not answer.seeds for answer in revealed.values())


def test_without_all_three_two_lists_open_the_difference_of_two_sums(
    sent, monkeypatch, drawn
) -> None:
    forget_the_first_list(monkeypatch)
    keep_everything(monkeypatch)
    let_through(monkeypatch, ErrorCode.EGRESS_ALREADY_RELEASED)
    # What is handed out for one list at a time keeps to either-or; the secrets stay.
    honest = RecoverySecrets.spend

    def spend(self):
        kept = self.signed[0].uploads
        held = dict(self._shares), dict(self._seeds)
        given, seeds = honest(self)
        self._shares, self._seeds = held
        return (
            {site: share for site, share in given.items() if site in kept},
            {site: seed for site, seed in seeds.items() if site not in kept},
        )

    monkeypatch.setattr(RecoverySecrets, "spend", spend)
    uploads = sent.hand.uploads["train", 0, sent.attempt]
    everyone = {site: sent.confirm(site, ALL) for site in ALL}
    whole = recover_sum(
        sent.hand.consortium.plan,
        sent.readies.values(),
        uploads,
        {site: sent.reveal(site, everyone) for site in ALL},
    )
    _, revealed = sent.honest_list(lost=VICTIM)
    rest = recover_sum(
        sent.hand.consortium.plan,
        sent.readies.values(),
        {site: uploads[site] for site in ALL[1:]},
        revealed,
    )
    difference = (whole.words - rest.words).view(np.int32).astype(np.int64)
    assert np.array_equal(difference, drawn[VICTIM])


# -- three views, and no confirmation --------------------------------------------------------

VIEWS = {
    "site-1": ("site-1", "site-3", "site-4"),  # the victim: site-2 is lost
    "site-2": ("site-1", "site-2", "site-3", "site-4"),  # nobody is lost
    "site-3": ("site-2", "site-3", "site-4"),  # the victim is lost
}
"""Each list passes at the site that is shown it. Site-4 signs all of them."""


def with_a_colluders_signatures(sent: Sent) -> dict[str, dict[str, str]]:
    """Let every honest site sign its own view, and the colluder each of them as well."""
    session = sent.hand.consortium.rounds["site-4"]._sessions[sent.hand.consortium.digest]
    keys = session.keys["train"][2]
    signed = {}
    for site, view in VIEWS.items():
        own = sent.confirm(site, view)
        fresh = RecoverySecrets({}, {})
        fresh.upload_hash = keys.recovery().upload_hash
        named = {name: sent.hashes[name] for name in view}
        twin = type(keys)(
            keys.site_id,
            keys.roster,
            keys.attempt,
            bytes(32),
            None,
            fewest=keys.fewest,
            recovery=fresh,
        )
        helped = confirm_survivors(twin, session.party, sent.hand.consortium.plan, named)
        signed[site] = {site: own, "site-4": helped}
    return signed


def test_three_views_find_too_few_confirmations_each(sent) -> None:
    signed = with_a_colluders_signatures(sent)
    together = {site: mine[site] for site, mine in signed.items()}
    for site, confirmations in signed.items():
        # All signatures that there are: those of other lists do not count.
        request = sent.unmask({**together, **confirmations})
        assert sent.hand.refused(site, request) == "recovery.confirmations_too_few"


def test_without_confirmations_three_views_open_the_victims_vector(
    sent, monkeypatch, drawn
) -> None:
    """Every site keeps to one kind of answer about each other, and to the size of a list."""
    without(monkeypatch, recovery.reveal, ErrorCode.CONFIRMATIONS_TOO_FEW)
    ours = sent.colluding("site-4")
    held, known = dict(ours._shares), dict(ours._seeds)
    signed = with_a_colluders_signatures(sent)
    revealed = {site: sent.reveal(site, signed[site]) for site in VIEWS}
    for site, answer in revealed.items():
        assert not answer.shares.keys() & answer.seeds.keys(), site
    given = {site: revealed[site].shares[VICTIM] for site in (VICTIM, "site-2")}
    given["site-4"] = held[VICTIM].hex()
    seeds = {
        "site-2": revealed[VICTIM].seeds["site-2"],
        "site-3": revealed["site-3"].seeds[VICTIM],
        "site-4": known[VICTIM].hex(),
    }
    found = sent.opened(VICTIM, seeds, sent.self_mask(VICTIM, given))
    assert np.array_equal(found, drawn[VICTIM])


# -- fake drop-out ---------------------------------------------------------------------------


def seeds_with(victim: str, revealed: Mapping[str, Revealed]) -> dict[str, str]:
    return {site: answer.seeds[victim] for site, answer in revealed.items()}


def test_an_upload_said_to_be_lost_stays_under_its_self_mask(sent, drawn) -> None:
    _, revealed = sent.honest_list(lost=VICTIM)
    found = sent.opened(VICTIM, seeds_with(VICTIM, revealed), None)
    assert not np.any(found == drawn[VICTIM])


def test_without_self_masks_a_fake_drop_out_opens_the_upload(
    recovering, monkeypatch, drawn
) -> None:
    monkeypatch.setattr(ReadySecrets, "self_mask", lambda _: ())
    attempt = recovering.fresh()
    readies = recovering.readies(0, attempt)
    call = recovering.cohort(readies.values(), 0, attempt)
    for site in ALL:
        recovering.upload(site, call)
    sent = Sent(recovering, attempt, readies)
    _, revealed = sent.honest_list(lost=VICTIM)
    found = sent.opened(VICTIM, seeds_with(VICTIM, revealed), None)
    assert np.array_equal(found, drawn[VICTIM])


def summed(entry) -> np.ndarray:
    return entry.summed.words.view(np.int32).astype(np.int64)


def fake_then_retry(hand: Attack) -> tuple[np.ndarray, np.ndarray]:
    """A sum without the victim, who is said to be lost, and then one of a new attempt with it."""
    first = hand.fresh()
    readies = hand.readies(0, first)
    call = hand.cohort(readies.values(), 0, first)
    for site in ALL:
        hand.upload(site, call)
    rest = hand.recover(0, first, readies, lost=[VICTIM])
    return summed(rest), summed(hand.play(0, hand.fresh()))


def test_a_fake_drop_out_and_a_retry_are_paid_for_by_all_and_show_noise(recovering, drawn) -> None:
    before = {site: recovering.charged_uploads(site) for site in ALL}
    rest, whole = fake_then_retry(recovering)
    for site, (charges, uploads) in before.items():
        assert recovering.charged_uploads(site) == (charges + 2, uploads + 2)
    assert not np.any(whole - rest == drawn[VICTIM])


def test_if_the_retry_repeated_its_noise_the_difference_would_be_the_vector(
    recovering, monkeypatch, drawn
) -> None:
    kept = {}
    honest = dp_sgd.noised_update

    def frugal(plan, quantised, *more):
        vector = quantised.values.tobytes()
        if vector not in kept:
            kept[vector] = honest(plan, quantised, *more)
        return kept[vector]

    monkeypatch.setattr(dp_sgd, "noised_update", frugal)
    rest, whole = fake_then_retry(recovering)
    assert np.array_equal(whole - rest, drawn[VICTIM])


# -- more lost than was paid for -------------------------------------------------------------


@pytest.fixture(scope="module")
def six() -> Consortium:
    """n = 6, t = 1: tau = 4, and the noise is scaled for one drop-out."""
    return Consortium.recoverable(6)


def four_of_six(six: Consortium) -> tuple:
    """Everybody sent; the coordinator names four."""
    readies, keys = six.meet()
    vectors = vectors_of(keys, 20)
    uploads = {site: mask(keys[site], vectors[site]) for site in keys}
    four = {site: uploads[site] for site in sorted(keys)[:4]}
    return readies, keys, vectors, four


def test_a_list_shorter_than_the_noise_allows_is_refused(six) -> None:
    _, keys, _, four = four_of_six(six)
    with pytest.raises(ProtocolError) as error:
        six.confirm(keys, four)
    assert error.value.code is ErrorCode.SURVIVORS_TOO_FEW


def test_without_that_check_a_sum_opens_with_less_noise_than_was_charged(six, monkeypatch) -> None:
    """Enough confirm, so nothing but the count stands in the way."""
    without(monkeypatch, recovery.confirm_survivors, "_too_few")
    without(monkeypatch, coordinator._check_survivors, ErrorCode.SURVIVORS_TOO_FEW)
    readies, keys, vectors, four = four_of_six(six)
    revealed = six.unmask(keys, six.confirm(keys, four))
    total = recover_sum(six.plan, tuple(readies), four, revealed).words.view(np.int32)
    assert np.array_equal(total, sum(vectors[site] for site in four))
    plan = six.plan  # shares of the noise in the sum, less the colluder's: fewer than counted on
    assert len(four) - plan.collusion_bound < plan.noise_sharers(6)


# -- a member without a self-mask: a version from before there were any ----------------------


@pytest.fixture(scope="module")
def four() -> Consortium:
    return Consortium.recoverable(4)


def with_an_old_version(four: Consortium, victim: str = VICTIM) -> dict:
    """READYs of one attempt; the victim runs a version that knows atomic mode only."""
    issued = four.issue_all([site for site in ALL if site != victim])
    with pytest.MonkeyPatch.context() as old:
        old.setattr(secagg_site, "has_self_masks", lambda *_: False)
        issued[victim] = four.issue(victim)
    return issued


def join_all(four: Consortium, issued: Mapping, sites: Iterable[str]) -> dict:
    readies = [signed for signed, _ in issued.values()]
    return {site: four.join(site, issued[site][1], readies) for site in sites}


def test_a_member_without_a_self_mask_is_refused(four) -> None:
    issued = with_an_old_version(four)
    with pytest.raises(ProtocolError) as error:
        join_all(four, issued, ["site-2"])
    assert error.value.code is ErrorCode.COHORT_MODE_MISMATCH


def ignoring_modes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compare everything a READY says but whether there is a self-mask."""
    honest = cohort.Expected.check

    def lenient(self, ready):
        as_if = {"self_mask_commitment": "11" * 32, "mask_shares": {"site-1": "00" * 48}}
        honest(self, ready.model_copy(update=as_if))

    monkeypatch.setattr(cohort.Expected, "check", lenient)


def test_behind_the_mode_stands_the_missing_share(four, monkeypatch) -> None:
    ignoring_modes(monkeypatch)
    issued = with_an_old_version(four)
    with pytest.raises(ProtocolError) as error:
        join_all(four, issued, ["site-2"])
    assert error.value.code is ErrorCode.COHORT_SHARE_MISSING


def test_without_both_a_fake_drop_out_opens_what_the_old_version_sent(four, monkeypatch) -> None:
    ignoring_modes(monkeypatch)
    honest = shares._addressed

    def lenient(own_id, members, kind):
        sealed = {
            site: signed
            for site, signed in members.items()
            if kind == shares.GROUP_SHARE or signed.ready.mask_shares
        }
        return honest(own_id, sealed, kind)

    monkeypatch.setattr(shares, "_addressed", lenient)
    issued = with_an_old_version(four)
    keys = join_all(four, issued, ALL)
    vectors = vectors_of(keys, 20)
    uploads = {site: mask(keys[site], vectors[site]) for site in ALL}
    kept = {site: uploads[site] for site in ALL if site != VICTIM}
    revealed = four.unmask(keys, four.confirm(keys, kept))
    words = uploads[VICTIM].words.copy()
    MaskStreams(
        (-pair_sign(VICTIM, site), bytes.fromhex(answer.seeds[VICTIM])[:32])
        for site, answer in revealed.items()
    ).apply(words)
    assert np.array_equal(words.view(np.int32), vectors[VICTIM])


# -- replay ----------------------------------------------------------------------------------


def test_another_attempts_confirmations_unmask_nothing(recovering, sent) -> None:
    """Signatures name the attempt and its READYs."""
    signed = {site: sent.confirm(site, ALL) for site in ALL}
    later = recovering.fresh()
    readies = recovering.readies(0, later)
    call = recovering.cohort(readies.values(), 0, later)
    for site in ALL:
        recovering.upload(site, call)
    assert recovering.refused(VICTIM, sent.unmask(signed)) == "attempt.unknown"
    again = Sent(recovering, later, readies)
    again.confirm(VICTIM, ALL)
    assert recovering.refused(VICTIM, again.unmask(signed)) == "recovery.confirmations_too_few"


def test_a_stranger_or_anothers_upload_on_the_list_is_refused(sent) -> None:
    hand, attempt = sent.hand, sent.attempt
    stranger = {**sent.hashes, "north-clinic": "ab" * 32}
    other = {**sent.hashes, VICTIM: "ab" * 32}
    without_me = {site: h for site, h in sent.hashes.items() if site != VICTIM}
    for named, code in (
        (stranger, "recovery.stranger"),
        (other, "recovery.own_upload"),
        (without_me, "recovery.own_upload"),
        ({VICTIM: sent.hashes[VICTIM]}, "recovery.too_few"),
    ):
        assert hand.refused(VICTIM, hand.survivors(0, attempt, named)) == code
