"""How do tests get real, initialised hospitals that know each other and a plan they can approve?"""

from __future__ import annotations

import datetime as dt
import sqlite3
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from schemas.canonical import build
from schemas.governance.study import StudyPlan
from schemas.identity import fingerprint, open_card
from schemas.signing import public_hex
from site_node.context import SiteContext, create_site
from site_node.enrol import own_card
from tests.support.factories import HYBRID, make_keys, plan_values, seal_plan

START = dt.datetime(2026, 11, 22, 18, 0, tzinfo=dt.UTC)


@dataclass
class TestClock:
    """A clock that moves only when told to."""

    __test__ = False
    now: dt.datetime = field(default=START)

    def __call__(self) -> dt.datetime:
        return self.now

    def forward(self, **span: float) -> None:
        self.now += dt.timedelta(**span)


def make_sites(folder: Path, clock: TestClock, count: int = 3) -> list[SiteContext]:
    """Initialise hospitals ``site-1`` ... that have confirmed each other's cards."""
    sites = [
        create_site(folder / f"site-{i}", f"site-{i}", f"Hospital site-{i}", clock)
        for i in range(1, count + 1)
    ]
    for site in sites:
        for other in sites:
            if other is not site:
                introduce(site, other)
    return sites


def introduce(site: SiteContext, other: SiteContext, *, confirm: bool = True) -> None:
    """Import another hospital's card, and confirm its fingerprint as a person would."""
    card = own_card(other)
    site.peers.import_card(card.canonical())
    if confirm:
        site.peers.confirm(other.config.site_id, fingerprint(open_card(card)))


def real_plan(hospitals: list[SiteContext], /, **overrides: Any) -> StudyPlan:
    """Make a plan that names these hospitals with their real keys and keeps its promise."""
    values = plan_values({f"site-{i}": make_keys() for i in range(1, len(hospitals) + 1)})
    values["sites"] = [
        {
            "site_id": site.config.site_id,
            "name": site.config.name,
            "identity_key": public_hex(site.keys.identity),
            "approval_key": public_hex(site.keys.approval),
            "study_key": site.keys.study.public_key().public_bytes_raw().hex(),
        }
        for site in hospitals
    ]
    if overrides.get("aggregation", {}).get("pair_root") == HYBRID:
        for entry, site in zip(values["sites"], hospitals, strict=True):
            entry["kem_key"] = site.keys.kem.public_key().public_bytes_raw().hex()
    values["privacy"] = {**values["privacy"], "noise_multiplier": 16}
    for name, value in overrides.items():
        merged = isinstance(value, dict) and isinstance(values.get(name), dict)
        values[name] = {**values[name], **value} if merged else value
    return build(StudyPlan, values)


def sealed(plan: StudyPlan) -> bytes:
    """The plan as the vendor sends it, in bytes."""
    return seal_plan(plan).canonical()


def approve(site: SiteContext, plan: StudyPlan) -> None:
    """Approve a plan as the steward of a hospital."""
    site.approvals.approve(sealed(plan), plan.digest())


def tamper(site: SiteContext, sql: str, *arguments: object) -> None:
    """Change a row as an administrator with the file could."""
    raw = sqlite3.connect(site.folders.database)
    for trigger in ("update", "delete"):
        for table in ("audit", "ledger"):
            raw.execute(f"DROP TRIGGER IF EXISTS {table}_is_append_only_{trigger}")
    raw.execute(sql, arguments)
    raw.commit()
    raw.close()
