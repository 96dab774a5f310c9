"""What was planned, who approved it, who stopped it?"""

from __future__ import annotations

from schemas.governance.approval import (
    Approval,
    ApprovalResult,
    Stop,
    StopResult,
    check_approvals,
    check_stops,
    open_approval,
    open_stop,
)
from schemas.governance.study import (
    Architecture,
    EvaluationTerms,
    ModelTerms,
    Output,
    PlanSite,
    PrivacyTerms,
    StudyPlan,
    TrainingTerms,
    open_plan,
)
from schemas.governance.terms import Column, DataTerms, Feature

__all__ = [
    "Approval",
    "ApprovalResult",
    "Architecture",
    "Column",
    "DataTerms",
    "EvaluationTerms",
    "Feature",
    "ModelTerms",
    "Output",
    "PlanSite",
    "PrivacyTerms",
    "Stop",
    "StopResult",
    "StudyPlan",
    "TrainingTerms",
    "check_approvals",
    "check_stops",
    "open_approval",
    "open_plan",
    "open_stop",
]
