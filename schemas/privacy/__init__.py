"""What does a study cost a patient, and what is left to spend?

`accounting` turns noise into epsilon; `ledger` replays what was reserved and charged. The rules are
numbered in `schemas/spec/PRIVACY.md`.
"""

from __future__ import annotations

from schemas.privacy.accounting import calibrate_noise, epsilon, total_epsilon
from schemas.privacy.events import Mechanism, MechanismEvent, plan_events
from schemas.privacy.ledger import (
    GENESIS,
    Charge,
    LedgerEntry,
    LedgerHead,
    LedgerState,
    PlanAccount,
    Reserve,
    Settle,
    append,
    head_of,
    parse_entry,
    replay,
    step,
)

__all__ = [
    "GENESIS",
    "Charge",
    "LedgerEntry",
    "LedgerHead",
    "LedgerState",
    "Mechanism",
    "MechanismEvent",
    "PlanAccount",
    "Reserve",
    "Settle",
    "append",
    "calibrate_noise",
    "epsilon",
    "head_of",
    "parse_entry",
    "plan_events",
    "replay",
    "step",
    "total_epsilon",
]
