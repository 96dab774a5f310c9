"""How do honest hospitals run here: the product's own `SiteRounds` on as little as possible?

Real: dispatch of messages, session, READY and cohort, journal (SQLite in memory), masking,
confirming, unmasking, checking and applying sums, the optimiser state. Replaced: patients (a
drawn vector), the egress gate (lets everything go), frames (documents are passed as objects) and
the ledger (a counter whose head moves on). What is left out cannot hide a hole: it only refuses.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray

import schemas.evaluation
import schemas.governance.approval
import schemas.wire
import site_node.logs
import site_node.outgoing
import site_node.round
from schemas.canonical import Document
from schemas.errors import ErrorCode, ProtocolError
from schemas.evaluation import evaluation_length
from schemas.governance.study import StudyPlan, SumTerms
from schemas.secagg.cohort_keys import CohortKeys
from schemas.secagg.coordinator import words_to_bytes
from schemas.secagg.keys import PairMask
from schemas.secagg.masking import mask
from schemas.secagg.quantise import NoisedUpdate
from schemas.wire import Frame, Upload
from site_node.db import Database
from site_node.governance.journal import Journal
from site_node.session import StudySession
from site_node.standing import Standing
from tests.search.ideal import Entropy, IdealEd25519, IdealX25519, ideal_primitives, replaced
from tests.support.consortium import hurried

_JOURNAL = ("journal_rounds", "journal_states", "journal_heads", "evaluation_rosters")
_BOUND = 1 << 20
_DIVISIBLE = 60  # so that sums can be scaled by fractions of small numbers: no luck needed


@dataclass(slots=True)
class Watch:
    """What one honest site did while it answered one message; its own memory, not the wire.

    Attributes:
        spent: secrets whose masks were handed out, with the masks.
        drawn: the training vector, with the size of the cohort its noise was made for.
        counted: the evaluation vector, with what it depends on.
        applied: each training sum that was applied: the round and the sum.
        opened: each evaluation sum that was opened: the roster and the sum.
    """

    site: str = ""
    spent: list[tuple[CohortKeys, tuple[PairMask, ...]]] = field(default_factory=list)
    drawn: tuple[NDArray[np.int64], int] | None = None
    counted: tuple[NDArray[np.int64], str] | None = None
    applied: list[tuple[int, NDArray[np.int64]]] = field(default_factory=list)
    opened: list[tuple[tuple[str, ...], NDArray[np.int64]]] = field(default_factory=list)

    def begin(self, site: str) -> None:
        """Watch the next message."""
        self.site = site
        self.spent, self.applied, self.opened = [], [], []
        self.drawn = self.counted = None


WATCH = Watch()


class _InMemory(PurePosixPath):
    """SQLite's name for a database in memory; there is no file to protect."""

    def chmod(self, _mode: int) -> None:
        """Do nothing."""


_DATABASES: dict[str, Database] = {}


def journal_of(site_id: str) -> Journal:
    """Return an empty journal; the database is reused, because its schema is slow to make."""
    if site_id not in _DATABASES:
        _DATABASES[site_id] = Database(_InMemory(":memory:"), create=True)  # type: ignore[arg-type]
    database = _DATABASES[site_id]
    with database.write() as connection:
        for table in _JOURNAL:
            connection.execute(f"DELETE FROM {table}")
    return _Journal(database)


class _Journal(Journal):
    """The real journal, but for peers' ledger heads, which only ever move on here."""

    def remember_head(self, _plan_digest: str, _peer: str, _head: str, _charges: int) -> bool:
        """Accept."""
        return True


class Hospital:
    """One honest hospital: what `SiteContext` is to `SiteRounds`, and the rounds themselves."""

    def __init__(
        self,
        plan: StudyPlan,
        site_id: str,
        identity: IdealEd25519,
        study: IdealX25519,
        weights: bytes,
        entropy: Entropy,
    ) -> None:
        self.plan = plan
        self._charges = 0
        self.config = SimpleNamespace(site_id=site_id)
        self.keys = SimpleNamespace(identity=identity, study=study)
        self.journal = journal_of(site_id)
        self.ledger = SimpleNamespace(head=self._head, charges=lambda _digest: self._charges)
        self.approvals = SimpleNamespace(approved_plan=self._approved)
        self.gate = SimpleNamespace(release=self._release, refuse=self._refuse)
        self.refusals: list[ErrorCode] = []
        self._weights = weights
        self._entropy = entropy
        self.restart()

    def restart(self) -> None:
        """Lose everything that is not on disk."""
        self.rounds = site_node.round.SiteRounds(self, self._entropy, hurried())  # type: ignore[arg-type]

    def answer(self, message: Document, *blobs: bytes) -> Frame:
        """Answer one message of the coordinator."""
        WATCH.begin(self.config.site_id)
        released: Any = self.rounds.answer(Frame(message, blobs))  # type: ignore[arg-type]
        return released.body  # type: ignore[no-any-return]

    @property
    def session(self) -> StudySession | None:
        """The study in memory, once a message has come for it."""
        return self.rounds._sessions.get(self.plan.digest())

    @property
    def step(self) -> int:
        """How many sums it has applied."""
        return self.session.standing.rounds if self.session else 0

    # -- what SiteRounds asks of a SiteContext ---------------------------------------------

    def weights(self, _sha256: str) -> bytes:
        """Give the initial weights."""
        return self._weights

    def charge(self, plan: StudyPlan, kind: Any, round: int, attempt: int, roster: Any) -> object:
        """Advance the journal and move the ledger's head, as the real charge does."""
        self.journal.advance(plan.digest(), kind, round, attempt)
        self._charges += 1
        return (kind, round, attempt, tuple(roster))

    def _head(self) -> str:
        return hashlib.sha256(f"{self.config.site_id}/{self._charges}".encode()).hexdigest()

    def _approved(self, digest: str) -> StudyPlan:
        if digest != self.plan.digest():
            raise ProtocolError(ErrorCode.PLAN_UNKNOWN, "Another plan.")
        return self.plan

    def _release(self, _kind: str, body: Frame, **_more: object) -> object:
        return SimpleNamespace(body=body)

    def _refuse(self, body: Frame, *, code: ErrorCode, plan_digest: str | None = None) -> object:
        self.refusals.append(code)
        return SimpleNamespace(body=body)


# -- what stands in for patients, frames and the log -------------------------------------------


def _decode(raw: Frame, *, allowed: tuple[type[Document], ...]) -> Frame:
    if type(raw.header) not in allowed:
        raise ProtocolError(ErrorCode.MESSAGE_OUT_OF_ORDER, "No place here.")
    return raw


def _encode(header: Document, *blobs: bytes) -> Frame:
    return Frame(header, blobs)


def _masked_upload(keys: CohortKeys, vector: Any, *, header: Upload, blind: bool = False) -> Frame:
    update = mask(keys, vector, blind=blind)
    tagged = header.model_copy(update={"tag": f"{update.tag:016x}"})
    return Frame(tagged, (words_to_bytes(update.words),))


def _integers(seed: str, length: int, low: int) -> NDArray[np.int64]:
    raw = hashlib.shake_256(seed.encode()).digest(8 * length)
    return np.frombuffer(raw, dtype="<u8").astype(np.int64) % _BOUND + low


def _noised_update(
    _plan: StudyPlan, terms: SumTerms, _sum: object, n_sites: int, entropy: Entropy
) -> NoisedUpdate:
    """Draw a fresh vector: every attempt has its own sample and noise."""
    values = _DIVISIBLE * _integers(entropy(16).hex(), terms.words, -_BOUND // 2)
    WATCH.drawn = (values, n_sites)
    return NoisedUpdate(values)


def _evaluation_vector(
    plan: StudyPlan, parameters: NDArray[np.float64], _features: object
) -> NDArray[np.int64]:
    """Count: the same model and site give the same counts in every attempt."""
    basis = f"{WATCH.site}/{parameters.tobytes().hex()}"
    values = _integers(basis, evaluation_length(plan.evaluation.bins), 0)
    WATCH.counted = (values, basis)
    return values


def _derive_release(
    _plan: StudyPlan, _model: str, roster: tuple[str, ...], values: NDArray[np.int64]
) -> Document:
    WATCH.opened.append((roster, values))
    return schemas.wire.Refusal(code="stands.for_a_release")


def _fakes() -> dict[str, ModuleType]:
    """Modules that load torch, and would look at patients."""
    sgd = ModuleType("site_node.training.dp_sgd")
    sgd.clipped_integer_sum = lambda *_: None  # type: ignore[attr-defined]
    sgd.noised_update = _noised_update  # type: ignore[attr-defined]
    sampling = ModuleType("site_node.training.sampling")
    sampling.poisson_mask = lambda *_: None  # type: ignore[attr-defined]
    evaluate = ModuleType("site_node.training.evaluate")
    evaluate.evaluation_vector = _evaluation_vector  # type: ignore[attr-defined]
    return {module.__name__: module for module in (sgd, sampling, evaluate)}


_FEATURES = SimpleNamespace(patients=1, sha256=lambda: "77" * 32)
_approvals_seen: dict[tuple[int, ...], tuple[object, object]] = {}
_check_approvals = schemas.governance.approval.check_approvals


def _remembered_approvals(plan: StudyPlan, approvals: Any) -> Any:
    """Check the same approvals once; they never change within a study."""
    objects = tuple(map(id, approvals))
    held = _approvals_seen.get(objects)
    if held is None:
        held = _approvals_seen[objects] = (approvals, _check_approvals(plan, approvals))
    return held[1]


def _watched_summed(original: Any) -> Any:
    def summed(self: Standing, values: NDArray[np.int64], *more: Any) -> Standing:
        WATCH.applied.append((self.rounds, values))
        return original(self, values, *more)  # type: ignore[no-any-return]

    return summed


def _watched_spend(original: Any) -> Any:
    def spend(self: CohortKeys) -> tuple[PairMask, ...]:
        masks: tuple[PairMask, ...] = original(self)
        WATCH.spent.append((self, masks))
        return masks

    return spend


@contextmanager
def hospitals() -> Iterator[None]:
    """Run with ideal primitives and hospitals without patients; everything is put back."""
    with ExitStack() as stack:
        stack.enter_context(
            replaced(
                (schemas.wire.encode, _encode),
                (schemas.wire.decode, _decode),
                (site_node.outgoing.masked_upload, _masked_upload),
                (site_node.logs.event, lambda *_, **__: None),
                (_check_approvals, _remembered_approvals),
                (schemas.evaluation.derive_release, _derive_release),
            )
        )
        stack.enter_context(mock.patch.dict(sys.modules, _fakes()))
        for owner, name, new in (
            (StudySession, "features", lambda *_: _FEATURES),
            (Standing, "summed", _watched_summed(Standing.summed)),
            (CohortKeys, "spend_masks", _watched_spend(CohortKeys.spend_masks)),
        ):
            stack.enter_context(mock.patch.object(owner, name, new))
        stack.enter_context(ideal_primitives())
        _approvals_seen.clear()
        yield


__all__ = ["WATCH", "Hospital", "hospitals"]
