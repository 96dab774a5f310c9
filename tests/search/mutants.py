"""Which defence is taken away, and which rule does the search then see broken?

Each entry removes one defence from the product by a patch and nothing else. A search that could
not tell would prove nothing about the product with all of them.

Not listed, because others stand behind them and the search stays silent when they alone are gone:
the signature of a READY and the comparison of its fields (masks are bound to every READY and to
keys pinned in the plan), and that a READY is used once (an attempt is taken up once, durably).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any
from unittest import mock

import schemas.governance.study
from schemas.governance.study import StudyPlan
from schemas.secagg import cohort, cohort_keys, keys, masking, recovery, site
from schemas.secagg.cohort_keys import RecoverySecrets
from site_node.governance.journal import Journal
from tests.search.ideal import replaced
from tests.search.scenes import ATOMIC, RECOVERABLE, Scene

Patch = Callable[[], AbstractContextManager[Any]]


@dataclass(frozen=True, slots=True)
class Mutant:
    """One defence removed.

    Attributes:
        name: the defence.
        clause: where the specification asks for it.
        rules: rules of `tests.search.oracle`, one of which is seen broken.
        patch: takes it away.
        scenes: where it matters.
    """

    name: str
    clause: str
    rules: frozenset[str]
    patch: Patch
    scenes: Sequence[Scene]


@contextmanager
def _without_cohort_minimum() -> Iterator[None]:
    """Any cohort is large enough."""
    original = cohort.checked_cohort

    def checked(plan: StudyPlan, *rest: Any) -> Any:
        return original(SimpleNamespace(cohort_minimum=1, fewest_summed=1), *rest)  # type: ignore[arg-type]

    with replaced((original, checked)):
        yield


@contextmanager
def _without_transcript() -> Iterator[None]:
    """Masks are bound to plan, round and attempt, and not to who takes part."""

    def info(attempt: keys.Attempt) -> bytes:
        return keys.frame(
            (attempt.plan_digest.encode(), b"%d.%d" % (attempt.round, attempt.attempt))
        )

    with mock.patch.object(keys.Attempt, "info", info):
        yield


@contextmanager
def _without_journal() -> Iterator[None]:
    """Nothing durable says which attempt was taken up."""
    with (
        mock.patch.object(Journal, "advance", lambda *_: None),
        mock.patch.object(Journal, "highest", lambda *_: None),
    ):
        yield


def _without_evaluation_roster() -> AbstractContextManager[Any]:
    """An evaluation may be repeated with other hospitals."""
    return mock.patch.object(Journal, "fix_evaluation_roster", lambda *_: None)


def _without_blinding() -> AbstractContextManager[Any]:
    """The extra stream of an evaluation is one that anybody can make."""
    return mock.patch.object(
        masking, "blind_key", lambda _group, site_id: site_id.encode().ljust(32)
    )


def _without_offset() -> AbstractContextManager[Any]:
    """The tag is linear instead of affine."""
    return mock.patch.object(masking, "tag_offset", lambda *_: 0)


def _with_one_offset_for_all() -> AbstractContextManager[Any]:
    """The tag counts the contributors and does not know them: c S passes as the sum of c times as
    many, with a site that has not signed their list.
    """
    original = keys.tag_offset
    return mock.patch.object(
        masking, "tag_offset", lambda group, length, _site: original(group, length, "any")
    )


@contextmanager
def _without_self_mask() -> Iterator[None]:
    """In recoverable mode a site's upload is masked by pair masks only."""
    with mock.patch.object(site.ReadySecrets, "self_mask", lambda _: ()):
        yield


def _without_confirmations() -> AbstractContextManager[Any]:
    """What is shown for a signature under the list of survivors counts as one."""
    return mock.patch.object(recovery, "is_valid", lambda *_: True)


def _with_half_for_threshold() -> AbstractContextManager[Any]:
    """tau is more than half of the sites, as if none of them colluded."""
    return mock.patch.object(
        schemas.governance.study, "survivor_threshold", lambda n, _t: n // 2 + 1
    )


def _without_fewest() -> AbstractContextManager[Any]:
    """Any number of hospitals may be lost."""
    return mock.patch.object(StudyPlan, "fewest_contributors", lambda *_: 1)


@contextmanager
def _without_either_or() -> Iterator[None]:
    """Whoever answers UNMASK gives everything it has."""

    def settle(self: RecoverySecrets, survivors: Any, signature: str) -> None:
        self.signed = (survivors, signature)

    with mock.patch.object(RecoverySecrets, "settle", settle):
        yield


@contextmanager
def _with_many_lists() -> Iterator[None]:
    """A site signs every list it is shown, and answers for the last."""
    original = recovery.confirm_survivors
    spend = RecoverySecrets.spend

    def settle(self: RecoverySecrets, survivors: Any, signature: str) -> None:
        self.signed = (survivors, signature)

    def spend_last(self: RecoverySecrets) -> Any:
        assert self.signed is not None
        named = self.signed[0].uploads
        shares, seeds = spend(self)
        return (
            {name: share for name, share in shares.items() if name in named},
            {name: seed for name, seed in seeds.items() if name not in named},
        )

    def confirm(held: cohort_keys.CohortKeys, *rest: Any) -> str:
        held.recovery().signed = None
        return original(held, *rest)

    with (
        mock.patch.object(RecoverySecrets, "settle", settle),
        mock.patch.object(RecoverySecrets, "spend", spend_last),
        replaced((original, confirm)),
    ):
        yield


def _mutant(name: str, clause: str, rules: str, patch: Patch, scenes: Sequence[Scene]) -> Mutant:
    return Mutant(name, clause, frozenset(rules.split()), patch, scenes)


_COLLUDING = tuple(scene for scene in ATOMIC if scene.colluders)
_ALONE = tuple(scene for scene in ATOMIC if not scene.colluders)
_LOSSY = tuple(scene for scene in RECOVERABLE if scene.n_sites > 4)
_HONEST = tuple(scene for scene in _LOSSY if not scene.colluders and scene.steps == 1)
_TRAITORS = tuple(scene for scene in RECOVERABLE if scene.n_sites == 5 and scene.colluders)

MUTANTS = (
    _mutant("cohort minimum", "SECAGG-4", "few", _without_cohort_minimum, ATOMIC),
    _mutant("transcript in the masks", "SECAGG-5", "agreement", _without_transcript, _ALONE),
    _mutant("durable attempts", "SECAGG-4", "repeat", _without_journal, ATOMIC),
    _mutant("offset of the tag", "SECAGG-8", "forged", _without_offset, _ALONE),
    _mutant("offset of each site", "SECAGG-8", "forged", _with_one_offset_for_all, _HONEST),
    _mutant("blinding", "SECAGG-9", "blind", _without_blinding, _ALONE),
    _mutant("one roster", "SECAGG-9", "few overlap", _without_evaluation_roster, _COLLUDING),
    _mutant("self-mask", "SECAGG-12", "few agreement", _without_self_mask, RECOVERABLE),
    _mutant("fewest survivors", "SECAGG-13", "list few", _without_fewest, RECOVERABLE),
    _mutant("one list", "SECAGG-13", "list", _with_many_lists, RECOVERABLE),
    _mutant("confirmations", "SECAGG-14", "either-or few", _without_confirmations, _LOSSY),
    _mutant("tau over n and t", "SECAGG-13", "either-or few", _with_half_for_threshold, _TRAITORS),
    _mutant("share or seed", "SECAGG-14", "either-or", _without_either_or, RECOVERABLE),
)
