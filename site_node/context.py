"""What does an opened site hold? Configuration, keys, log, ledger, decisions, gate and store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

from schemas.errors import ErrorCode, ProtocolError
from schemas.signing import public_hex
from site_node.clock import Clock, utc_now
from site_node.config import SiteConfig, load_config
from site_node.db import Database
from site_node.egress.gate import Gate, Manifest
from site_node.governance.approvals import Approvals
from site_node.governance.audit import WITNESS_NAME, Audit, AuditWord
from site_node.governance.checks import check_state, patients_ingested
from site_node.governance.inbox import Inbox
from site_node.governance.journal import Journal
from site_node.governance.ledger import ChargeRef, Ledger
from site_node.governance.peers import Peers
from site_node.governance.witness import Witness
from site_node.keys import SiteKeys

if TYPE_CHECKING:
    from schemas.governance.study import StudyPlan
    from schemas.wire import Kind
    from site_node.store import Store


@dataclass(frozen=True)
class SiteFolders:
    """Where everything of one site lies under its home."""

    home: Path

    @property
    def keys(self) -> Path:
        """Secrets, 0600 each."""
        return self.home / "keys"

    @property
    def state(self) -> Path:
        """The database, its checkpoint, ports and process ids."""
        return self.home / "state"

    @property
    def database(self) -> Path:
        """The one SQLite file."""
        return self.state / "site.db"

    @property
    def witness(self) -> Path:
        """What the ledger's witness last saw, unless site.toml names another place."""
        return self.home / "witness" / "ledger.witness"

    @property
    def store(self) -> Path:
        """Encrypted Parquet."""
        return self.home / "store"

    @property
    def quarantine(self) -> Path:
        """What failed on the way in."""
        return self.home / "quarantine"

    @property
    def reports(self) -> Path:
        """What ingest found, as counts."""
        return self.state / "reports"

    @property
    def logs(self) -> Path:
        """Operational logs of the processes."""
        return self.home / "logs"

    @property
    def enrolment(self) -> Path:
        """What the coordinator answered to the invite."""
        return self.state / "enrolment.json"


class SiteContext:
    """One site, opened: every other module is handed this instead of paths and globals."""

    def __init__(self, home: Path, config: SiteConfig, clock: Clock = utc_now) -> None:
        self.home = home
        self.config = config
        self.clock = clock
        self.folders: Final = SiteFolders(home)
        self.keys: Final = SiteKeys(self.folders.keys)
        self.db: Final = Database(self.folders.database)
        self.audit: Final = Audit(
            self.db,
            config.site_id,
            self.keys.identity,
            self.folders.state / WITNESS_NAME,
            clock,
        )
        self.ledger: Final = Ledger(
            self.db,
            self.audit,
            self.keys.identity,
            config.floors,
            witness=Witness(
                Path(config.ledger.witness or self.folders.witness),
                config.site_id,
                self.keys.identity,
            ),
            site_id=config.site_id,
            clock=clock,
        )
        self.journal: Final = Journal(self.db)
        self.inbox: Final = Inbox(self.db, self.audit, config.site_id, clock)
        self.peers: Final = Peers(self.db, self.audit, config.site_id, clock)
        self.approvals: Final = Approvals(
            database=self.db,
            audit=self.audit,
            ledger=self.ledger,
            inbox=self.inbox,
            peers=self.peers,
            keys=self.keys,
            config=config,
            clock=clock,
            patients_of=patients_ingested(self.folders.reports),
        )
        self.gate: Final = Gate(
            database=self.db,
            audit=self.audit,
            identity=self.keys.identity,
            site_id=config.site_id,
            is_charged=self.ledger.has_charge,
            clock=clock,
        )

    @cached_property
    def manifest(self) -> Manifest:
        """The gateway's side of the egress gate."""
        return Manifest(self.db, public_hex(self.keys.identity), self.clock)

    @cached_property
    def store(self) -> Store:
        """The encrypted store; opened when first used, because it loads pyarrow."""
        from site_node.store import Store

        return Store(self.folders.store, self.keys.store_kek)

    def weights(self, sha256: str) -> bytes:
        """Give initial weights by the hash a plan names (safetensors bytes).

        Raises:
            ProtocolError: WEIGHTS_MISSING, they have not arrived.
        """
        row = self.db.row("SELECT body FROM inbox WHERE kind = 'weights' AND sha256 = ?", sha256)
        if row is None:
            raise ProtocolError(
                ErrorCode.WEIGHTS_MISSING,
                "The initial weights have not arrived here.",
                hint="The courier fetches them while `cohortium-site serve` runs.",
            )
        return bytes(row["body"])

    def charge(
        self, plan: StudyPlan, kind: Kind, round: int, attempt: int, roster: Sequence[str]
    ) -> ChargeRef:
        """Take up an attempt for good, before anything of it is computed.

        Approval re-checked, ledger charged (an evaluation is written there too, but spends no
        epsilon), journal advanced and audit written in one transaction. An attempt charged here
        is never refunded.

        Args:
            plan: the plan of the attempt.
            kind: ``train`` or ``evaluate``.
            round: sum of the study, from 0; the first is the preparation, if there is one.
            attempt: attempt of this round, from 0.
            roster: every hospital of the cohort, this one included.

        Raises:
            PolicyDenied, TrustError: the plan may not run here now.
            ProtocolError: MESSAGE_REPLAYED, or the ledger refuses a second charge.
            BudgetExceeded: nothing reserved is left.
            TrustError: LEDGER_WITNESS_ROLLBACK or LEDGER_WITNESS_MISSING.
            InternalError: AUDIT_UNAVAILABLE, LEDGER_UNWRITABLE; nothing may be computed.
        """
        digest = plan.digest()
        word = AuditWord.BUDGET_CHARGED if kind == "train" else AuditWord.ROUND_OPENED
        with self.audit.recording(
            word, plan_digest=digest, kind=kind, round=round, attempt=attempt, sites=len(roster)
        ) as recording:
            check_state(self.approvals.state(digest, plan.expires))
            self.journal.advance_within(recording.connection, digest, kind, round, attempt)
            mechanism = "evaluation" if kind == "evaluate" else plan.sum_terms(round).mechanism
            return self.ledger.charge_within(
                recording, digest, kind, mechanism, round, attempt, roster
            )


def open_site(home: Path, clock: Clock = utc_now) -> SiteContext:
    """Open an initialised site.

    Args:
        home: its folder.
        clock: for tests.

    Raises:
        ConfigError: no site here, or its configuration or keys are unusable.
        InternalError: AUDIT_UNAVAILABLE, the database cannot be opened.
    """
    return SiteContext(home, load_config(home), clock)


def create_site(home: Path, site_id: str, name: str, clock: Clock = utc_now) -> SiteContext:
    """Make a new site: folders, configuration, keys, database, first audit event.

    Raises:
        ConfigError: CONFIG_HOME_EXISTS, or an impossible site id or name.
    """
    from schemas.errors import ConfigError
    from site_node.config import CONFIG_NAME, parse_config, render_config, write_atomically
    from site_node.keys import create_keys

    if (home / CONFIG_NAME).exists():
        raise ConfigError(
            ErrorCode.CONFIG_HOME_EXISTS,
            "This folder already holds a site node.",
            hint="Use another --home; an existing site is never overwritten.",
            detail=str(home),
        )
    draft = SiteConfig.model_construct(site_id=site_id, name=name)
    text = render_config(draft)
    config = parse_config(text.encode("utf-8"))
    folders = SiteFolders(home)
    home.mkdir(parents=True, exist_ok=True)
    home.chmod(0o700)
    for folder in (
        folders.state,
        folders.store,
        folders.quarantine,
        folders.reports,
        folders.logs,
    ):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    create_keys(folders.keys, site_id)
    Database(folders.database, create=True).close()
    write_atomically(home / CONFIG_NAME, text.encode("utf-8"))
    site = SiteContext(home, config, clock)
    with site.audit.recording(
        AuditWord.SITE_CREATED, site=site_id, identity=public_hex(site.keys.identity)
    ):
        pass
    return site
