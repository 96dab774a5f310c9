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
from schemas.governance.model import Architecture, ModelTerms
from schemas.governance.preparation import PreparationTerms
from schemas.governance.privacy import PrivacyTerms
from schemas.governance.study import (
    EvaluationTerms,
    Output,
    PlanSite,
    StudyPlan,
    SumTerms,
    open_plan,
)
from schemas.governance.terms import Column, DataTerms, Feature
from schemas.governance.training import TrainingTerms

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
    "PreparationTerms",
    "PrivacyTerms",
    "Stop",
    "StopResult",
    "StudyPlan",
    "SumTerms",
    "TrainingTerms",
    "check_approvals",
    "check_stops",
    "open_approval",
    "open_plan",
    "open_stop",
]
