"""What does a study cost a patient, and what is left to spend?

`events` lists what a plan releases with noise, `accounting` turns it into epsilon, `calibration`
goes the other way, `statement` says it with its whole scope; `ledger` replays what was reserved
and charged. The rules are numbered in `schemas/spec/PRIVACY.md`.
"""

from __future__ import annotations

from schemas.privacy.accounting import epsilon, plan_epsilon, total_epsilon
from schemas.privacy.calibration import Calibration, PreparationTarget, calibrate, calibrate_noise
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
    "Calibration",
    "Charge",
    "LedgerEntry",
    "LedgerHead",
    "LedgerState",
    "Mechanism",
    "MechanismEvent",
    "PlanAccount",
    "PreparationTarget",
    "Reserve",
    "Settle",
    "append",
    "calibrate",
    "calibrate_noise",
    "epsilon",
    "head_of",
    "parse_entry",
    "plan_epsilon",
    "plan_events",
    "replay",
    "step",
    "total_epsilon",
]
