"""How do tests get a whole consortium in memory: real sites, a coordinator, scripted faults?

Every site is a real `SiteContext` with its own folder, database, keys, ledger, gate and encrypted
store; only the transport is replaced by a function call, which tests wrap to drop, alter or replay.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import io
import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import structlog
from cryptography.hazmat.primitives import serialization

from coordinator.asking import Answer, Patience
from coordinator.model import FinalModel
from coordinator.rounds import RoundSum, StudyRun
from schemas.canonical import sha256_hex
from schemas.entropy import Entropy
from schemas.errors import CohortiumError
from schemas.governance.study import StudyPlan
from schemas.identity import fingerprint, seal_card
from schemas.signing import SignedDocument
from schemas.wire import (
    Close,
    CohortCall,
    Kind,
    Open,
    Result,
    SurvivorsCall,
    UnmaskCall,
    decode,
)
from site_node.context import SiteContext, create_site, open_site
from site_node.logs import keep_allowed_keys
from site_node.pace import Pace
from site_node.round import SiteRounds
from site_node.standing import Standing
from site_node.store.dataset import TERMS_FIELD
from tests.support.factories import SiteKeys, make_card, plan_with, seal_plan
from tests.support.starts import start_weights

BUNDLE = "22" * 32
ROWS = 60


def toy_table(site: int, rows: int = ROWS) -> pa.Table:
    """Rows of an easy problem: older patients with high cholesterol are positive."""
    index = np.arange(rows)
    wave = np.sin(index * 1.7 + site)
    age = 55 + 18 * wave
    chol = 240 + 60 * np.cos(index * 0.9 + site)
    positive = (age + 0.1 * chol + 4 * np.sin(index * 3.1)) > 79
    return pa.table(
        {
            "patient": [hashlib.sha256(f"{site}-{i}".encode()).hexdigest()[:16] for i in index],
            "split": ["train" if i % 2 else "test" for i in index],
            "label": positive.astype(np.int64),
            "age": age,
            "chol": chol,
            "cp": [str(1 + i % 4) for i in index],
            "num": positive.astype(np.int64),
        }
    )


@dataclass
class MemoryBook:
    """`coordinator.rounds.Book` in a dictionary; survives a restarted `StudyRun`."""

    initial: bytes
    signed: dict[str, SignedDocument]
    stopped: set[str] = field(default_factory=set)
    attempts: list[tuple[Kind, int, int, tuple[str, ...], str | None]] = field(default_factory=list)
    sums: list[RoundSum] = field(default_factory=list)
    signed_finals: dict[str, SignedDocument] = field(default_factory=dict)
    model: FinalModel | None = None
    release: tuple[bytes, dict[str, str]] | None = None
    waits: dict[str, str] = field(default_factory=dict)
    received: list[tuple[str, str, int]] = field(default_factory=list)

    def weights(self) -> bytes:
        return self.initial

    def approvals(self) -> Mapping[str, SignedDocument]:
        return self.signed

    def stopped_sites(self) -> frozenset[str]:
        return frozenset(self.stopped)

    def used_attempts(self) -> Mapping[tuple[Kind, int], int]:
        used: dict[tuple[Kind, int], int] = {}
        for kind, round_, attempt, _, _ in self.attempts:
            used[kind, round_] = max(used.get((kind, round_), 0), attempt + 1)
        return used

    def open_attempt(self, kind: Kind, round_: int, attempt: int, roster: Sequence[str]) -> None:
        assert (kind, round_, attempt) not in [entry[:3] for entry in self.attempts]
        self.attempts.append((kind, round_, attempt, tuple(roster), None))

    def close_attempt(
        self, kind: Kind, round_: int, attempt: int, n_bytes: Mapping[str, int], code: str
    ) -> None:
        last = self.attempts[-1]
        assert last[:3] == (kind, round_, attempt)
        self.attempts[-1] = (*last[:4], code)

    def note_bytes(self, kind: str, n_bytes: Mapping[str, int]) -> None:
        for site_id, count in n_bytes.items():
            self.received.append((kind, site_id, count))

    def store_sum(self, closed: RoundSum) -> None:
        self.sums.append(closed)

    def drop_sum(self, round_: int) -> None:
        assert self.sums.pop().round == round_

    def count_sums(self) -> int:
        return len(self.sums)

    def load_sums(self, first: int, before: int) -> Iterator[RoundSum]:
        return (entry for entry in self.sums if first <= entry.round < before)

    def finals(self) -> Mapping[str, SignedDocument]:
        return self.signed_finals

    def store_final(self, final: SignedDocument) -> None:
        self.signed_finals[json.loads(final.payload_bytes())["site_id"]] = final

    def store_model(self, model: FinalModel) -> None:
        self.model = model

    def evaluation_roster(self) -> tuple[str, ...]:
        return next((entry[3] for entry in self.attempts if entry[0] == "evaluate"), ())

    def store_release(self, body: bytes, signatures: Mapping[str, str]) -> None:
        self.release = (body, dict(signatures))

    def note_waits(self, reasons: Mapping[str, str]) -> None:
        self.waits = dict(reasons)


Fault = Callable[[str, bytes, Callable[[bytes], bytes | None]], bytes | None]
"""(site id, request, the honest site) → what the coordinator receives; None is silence."""


Stage = Literal["cohort", "upload", "survivors", "confirmation", "unmask", "unmasking"]
"""A message of a recoverable attempt, in their order: requests and answers in turn."""


def losing(
    *sites: str, stage: Stage, round_: int | None = None, attempt: int | None = None
) -> Fault:
    """Lose these sites in training attempts, from one message to the end of the attempt.

    Args:
        sites: who is lost.
        stage: the first message that is lost. Where it is an answer, the site has seen the
            request and done its work.
        round_: only in this round; likewise `attempt`. By default in every one.
    """
    requests = {"cohort": CohortCall, "survivors": SurvivorsCall, "unmask": UnmaskCall}
    answers = {"upload": "cohort", "confirmation": "survivors", "unmasking": "unmask"}
    kinds = tuple(requests.values())
    first = kinds.index(requests[answers.get(stage, stage)])

    def fault(site: str, raw: bytes, honest: Callable[[bytes], bytes | None]) -> bytes | None:
        header = decode(raw, allowed=(*kinds, Open, Close, Result)).header
        if not isinstance(header, kinds) or getattr(header, "kind", "train") != "train":
            return honest(raw)
        here = round_ in (None, header.round) and attempt in (None, header.attempt)
        place = kinds.index(type(header))
        if site not in sites or not here or place < first:
            return honest(raw)
        if place == first and stage in answers:
            honest(raw)
        return None

    return fault


@dataclass
class Calendar:
    """A clock that stands still until a test moves it."""

    now: dt.datetime = dt.datetime(2026, 11, 22, 19, 0, tzinfo=dt.UTC)

    def __call__(self) -> dt.datetime:
        return self.now


@dataclass
class Hurried:
    """Time that passes only while somebody waits: an answer is held back, and nobody notices."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def hurried_rounds(site: SiteContext, entropy: Entropy = os.urandom) -> SiteRounds:
    """The studies of a site that answers as soon as it can."""
    return SiteRounds(site, entropy, hurried())


def hurried() -> Pace:
    """A pace that holds nothing back."""
    time = Hurried()
    return Pace(0.05, clock=time, sleep=time.sleep)


@dataclass(repr=False)
class MemoryConsortium:
    """Sites, one approved plan and the coordinator's side of it."""

    plan: StudyPlan
    sites: dict[str, SiteContext]
    rounds: dict[str, SiteRounds]
    book: MemoryBook
    calendar: Calendar
    log: io.StringIO
    fault: Fault | None = None
    offline: set[str] = field(default_factory=set)
    clock: float = 0.0

    @property
    def digest(self) -> str:
        """The plan's digest."""
        return self.plan.digest()

    def restart(self, site_id: str) -> None:
        """Start all of one site anew: its memory is gone, its disk is not."""
        home = self.sites[site_id].home
        self.sites[site_id].db.close()
        self.sites[site_id] = open_site(home, self.calendar)
        self.rounds[site_id] = hurried_rounds(self.sites[site_id])

    def back_up(self, site_id: str, copy: Path) -> None:
        """Copy one site's database, and its ledger's witness, as a backup tool would."""
        shutil.copyfile(self.sites[site_id].ledger.witness.path, copy.with_suffix(".witness"))
        with sqlite3.connect(self.sites[site_id].folders.database) as source:
            target = sqlite3.connect(copy)
            source.backup(target)
            target.close()
        source.close()

    def put_back(self, site_id: str, copy: Path, *, with_witness: bool = True) -> None:
        """Restore an old copy of one site's database and start the site.

        With the ledger's witness, as a whole machine is restored, the site itself cannot tell.
        """
        if with_witness:
            shutil.copyfile(copy.with_suffix(".witness"), self.sites[site_id].ledger.witness.path)
        path = self.sites[site_id].folders.database
        self.sites[site_id].db.close()
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        shutil.copyfile(copy, path)
        self.restart(site_id)

    def call(self, site_id: str, request: bytes) -> bytes:
        """Ask one site directly."""
        return self.rounds[site_id].answer(request).body

    def standing(self, site_id: str) -> Standing:
        """What one site's journal holds of the study; only after its first step."""
        stored = self.sites[site_id].journal.load_state(self.digest)
        assert stored is not None
        return Standing.from_bytes(stored[1])

    def exchange(
        self,
        requests: Mapping[str, bytes],
        *,
        timeout_seconds: float,
        is_enough: Callable[[], bool] = lambda: False,
    ) -> Iterator[tuple[str, Answer]]:
        for site_id, request in requests.items():
            self.clock += 0.1
            if site_id in self.offline:
                yield site_id, Answer(None, "site.unreachable")
                continue
            fault = self.fault or (lambda _site, raw, honest: honest(raw))
            try:
                body = fault(site_id, request, lambda raw, s=site_id: self.call(s, raw))
            except CohortiumError:  # not even a refusal could be written down: nothing left
                body = None
            yield site_id, Answer(body, "" if body is not None else "transport.timeout")

    def study_run(self, **changes: Any) -> StudyRun:
        """A coordinator, as after a (re)start."""

        def sleep(seconds: float) -> None:
            self.clock += seconds

        values: dict[str, Any] = {
            "plan": self.plan,
            "book": self.book,
            "exchange": self.exchange,
            "online": lambda: frozenset(self.sites) - self.offline,
            "sleep": sleep,
            "monotonic": lambda: self.clock,
            "patience": Patience(rejoin_seconds=30.0, invite_seconds=2.0),
        }
        return StudyRun(**{**values, **changes})

    def charged(self, site_id: str) -> int:
        """Training attempts charged in one site's ledger."""
        return self.sites[site_id].ledger.state().accounts[self.digest].charged


def site_keys(site: SiteContext) -> SiteKeys:
    """The private keys of a site, as the factories know them."""
    node = serialization.load_ssh_private_key(site.keys.read_secret("node.key"), password=None)
    keys = site.keys
    return SiteKeys(keys.identity, keys.approval, keys.study, node, keys.kem)  # type: ignore[arg-type]


def memory_consortium(
    folder: Path,
    n_sites: int = 4,
    *,
    approve: Sequence[str] | None = None,
    table: Callable[[int], pa.Table] = toy_table,
    **overrides: Any,
) -> MemoryConsortium:
    """Build sites, store rows, confirm peers, approve one plan (`approve`: at these sites)."""
    calendar, log = Calendar(), io.StringIO()
    structlog.configure(
        processors=[keep_allowed_keys, structlog.processors.JSONRenderer()],
        logger_factory=structlog.PrintLoggerFactory(log),
        cache_logger_on_first_use=False,
    )
    sites = {}
    for index in range(1, n_sites + 1):
        name = f"site-{index}"
        sites[name] = create_site(folder / name, name, f"Hospital {name}", calendar)
    keys = {name: site_keys(site) for name, site in sites.items()}
    settings: dict[str, Any] = {
        "training": {"steps": 4, "retry_cap": 3, "average_from_step": 2, "divisor": 100},
        "privacy": {"noise_multiplier": 20, "smallest_site_patients": 20},
        "expires": "2027-11-20T00:00:00Z",
    }
    for key, value in overrides.items():
        merged = isinstance(value, dict) and isinstance(settings.get(key), dict)
        settings[key] = {**settings[key], **value} if merged else value
    draft = plan_with(keys, **settings)
    weights = start_weights(draft.model)
    settings["model"] = {
        **settings.get("model", {}),
        "initial_weights_sha256": sha256_hex(weights),
    }
    plan = plan_with(keys, **settings)
    for index, site in enumerate(sites.values(), start=1):
        site.store.write("heart", table(index), {TERMS_FIELD: plan.data.digest()})
    sealed = seal_plan(plan).canonical()
    cards = {name: make_card(name, mine) for name, mine in keys.items()}
    signed = {}
    for name, site in sites.items():
        for peer, card in cards.items():
            if peer != name:
                site.peers.import_card(seal_card(keys[peer].identity, card).canonical())
                site.peers.confirm(peer, fingerprint(card))
        site.inbox.receive("plan", plan.study_id, sealed)
        if plan.model.initialisation == "file":
            site.inbox.receive("weights", plan.study_id, weights)
        if approve is None or name in approve:
            site.approvals.approve(sealed, plan.digest())
            statement = site.inbox.waiting()[-1].body
            signed[name] = SignedDocument.model_validate_json(statement)
    rounds = {name: hurried_rounds(site) for name, site in sites.items()}
    book = MemoryBook(weights, signed)
    return MemoryConsortium(plan, sites, rounds, book, calendar, log)
