"""Recoverable mode: can what takes the masks off one sum be made to take them off one vector?

Four hospitals, tau = 3. Site-1 is the victim, site-4 colludes where an attack needs a colluder.
"""

from __future__ import annotations

import numpy as np
import pytest

from schemas.errors import ErrorCode
from schemas.secagg import recovery
from schemas.secagg.cohort_keys import RecoverySecrets
from schemas.secagg.coordinator import recover_sum
from schemas.secagg.keys import MASK_SHARE, open_share, pair_root
from schemas.secagg.recovery import confirm_survivors
from schemas.signing import Context, sign
from schemas.wire import Confirmation
from site_node.egress import rules
from tests.support.attacks import VICTIM
from tests.support.mutants import without
from tests.support.sent import ALL, Sent

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
        ErrorCode.EGRESS_TOO_FEW: rules.enough_contributors,
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


# -- names and uploads that do not belong on a list --------------------------------------------


def wrong_lists(sent: Sent) -> dict[str, dict[str, str]]:
    """Lists that the victim must not sign, by what is wrong with them."""
    return {
        "a stranger": {**sent.hashes, "north-clinic": "ab" * 32},
        "another upload": {**sent.hashes, VICTIM: "ab" * 32},
        "itself left out": {site: h for site, h in sent.hashes.items() if site != VICTIM},
        "itself alone": {VICTIM: sent.hashes[VICTIM]},
    }


def test_a_stranger_or_anothers_upload_on_the_list_is_refused(sent) -> None:
    lists = wrong_lists(sent)
    for what, code in (
        ("a stranger", "recovery.stranger"),
        ("another upload", "recovery.own_upload"),
        ("itself left out", "recovery.own_upload"),
        ("itself alone", "recovery.too_few"),
    ):
        request = sent.hand.survivors(0, sent.attempt, lists[what])
        assert sent.hand.refused(VICTIM, request) == code, what


@pytest.mark.parametrize("what", ["another upload", "itself left out"])
def test_without_that_check_the_victim_vouches_for_what_it_never_sent(
    sent, monkeypatch, what
) -> None:
    """It signs, and holds the list for its own from then on: the true one is refused."""
    without(monkeypatch, recovery.confirm_survivors, ErrorCode.SURVIVORS_OWN_UPLOAD)
    named = wrong_lists(sent)[what]
    header = sent.hand.ask(VICTIM, sent.hand.survivors(0, sent.attempt, named)).header
    assert isinstance(header, Confirmation)
    assert sent.keys(VICTIM).signed_survivors == tuple(sorted(named))
    assert sent.hand.refused(VICTIM, sent.listing(ALL)) == "recovery.survivors_changed"


@pytest.fixture
def three(recovering, drawn) -> Sent:
    """One attempt of three, the fewest that may be summed; site-4, who colludes, is not in it.

    It approved the plan all the same: every READY holds shares sealed for it.
    """
    return Sent.by_all(recovering, ALL[:3])


PADDED = ("site-1", "site-2", "site-4")
"""Two of the cohort and the colluder: long enough, and tau = 3 sign it; site-3 is left out."""


def padded(sent: Sent) -> bytes:
    """SURVIVORS with a hospital that is not in the cohort."""
    named = {**{site: sent.hashes[site] for site in PADDED[:2]}, "site-4": "ab" * 32}
    return sent.hand.survivors(0, sent.attempt, named)


def sign_padded(sent: Sent) -> dict[str, str]:
    """Let both honest sites sign the padded list, and the colluder with them."""
    signed = {}
    for site in PADDED[:2]:
        header = sent.hand.ask(site, padded(sent)).header
        assert isinstance(header, Confirmation), header
        signed[site] = header.signature
    listed, _ = sent.keys(VICTIM).recovery().signed
    identity = sent.hand.consortium.sites["site-4"].keys.identity
    return {**signed, "site-4": sign(identity, Context.SURVIVORS, listed.canonical())}


def share_of_the_colluder(sent: Sent, dealer: str) -> str:
    """The share of a site's self-mask that its READY holds for site-4."""
    plan, ready = sent.hand.consortium.plan, sent.readies[dealer].ready
    keys = sent.hand.consortium.sites["site-4"].keys
    root = pair_root(keys.study, plan.site(dealer).study_key, plan.digest(), "site-4", dealer)
    return open_share(
        root,
        ready.mask_shares["site-4"],
        header=ready.header().canonical(),
        sender=dealer,
        to="site-4",
        purpose=MASK_SHARE,
    ).hex()


def test_a_list_padded_by_a_colluder_outside_the_cohort_is_refused(three) -> None:
    assert three.hand.refused(VICTIM, padded(three)) == "recovery.stranger"


@pytest.mark.parametrize(
    ("taken_out", "code"),
    [
        ((), "egress.unmasks_more"),
        ((ErrorCode.EGRESS_UNMASKS_MORE,), "egress.too_few"),
    ],
    ids=["more lost than allowed", "shares of two"],
)
def test_behind_the_list_stands_the_gate_which_counts(three, monkeypatch, taken_out, code) -> None:
    without(monkeypatch, recovery.confirm_survivors, ErrorCode.SURVIVORS_STRANGER)
    let_through(monkeypatch, *taken_out)
    assert three.hand.refused(VICTIM, three.unmask(sign_padded(three))) == code


def test_without_all_three_a_padded_list_opens_the_sum_of_two(three, monkeypatch, drawn) -> None:
    """Fewer than the plan's minimum of three, with two shares of the noise."""
    without(monkeypatch, recovery.confirm_survivors, ErrorCode.SURVIVORS_STRANGER)
    let_through(monkeypatch, ErrorCode.EGRESS_UNMASKS_MORE, ErrorCode.EGRESS_TOO_FEW)
    signed = sign_padded(three)
    two = PADDED[:2]
    revealed = {site: three.reveal(site, signed) for site in two}
    found = np.zeros_like(drawn[VICTIM])
    for site in two:
        given = {holder: revealed[holder].shares[site] for holder in two}
        given["site-4"] = share_of_the_colluder(three, site)
        mask = three.self_mask(site, given)
        found += three.opened(site, {"site-3": revealed[site].seeds["site-3"]}, mask)
    # What the two added for each other cancels by itself.
    total = found.astype(np.uint32).view(np.int32)
    assert np.array_equal(total, drawn["site-1"] + drawn["site-2"])
