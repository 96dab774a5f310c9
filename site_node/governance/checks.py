"""What must hold before a steward's approval of a plan is taken? One small check each."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from schemas.errors import BudgetExceeded, ErrorCode, PolicyDenied, TrustError
from schemas.ids import parse_time
from schemas.privacy.statement import privacy_statement
from schemas.signing import public_hex
from site_node.clock import Clock
from site_node.config import SiteConfig
from site_node.floors import check_floors
from site_node.governance.peers import Peers

if TYPE_CHECKING:
    from schemas.governance.study import StudyPlan
    from site_node.keys import SiteKeys

EpsilonOf = Callable[["StudyPlan"], float]
PatientsOf = Callable[["StudyPlan"], int | None]
"""Training patients of this hospital for a plan; None while it has none ingested."""
Check = Callable[["StudyPlan"], None]
_CLOCK_TOLERANCE_SECONDS = 3600


class PlanState(StrEnum):
    """Where one plan stands at this hospital."""

    PENDING = "pending"  # arrived, nobody has decided
    APPROVED = "approved"  # the steward signed this digest; rounds may run
    REFUSED = "refused"  # the steward said no
    STOPPED = "stopped"  # the steward stopped it; final for this digest
    EXPIRED = "expired"  # past its date, whatever was decided before


def check_state(state: PlanState) -> None:
    """Refuse any state but approved.

    Raises:
        TrustError: PLAN_UNAPPROVED.
        PolicyDenied: PLAN_STOPPED, PLAN_REFUSED, PLAN_EXPIRED.
    """
    if state is PlanState.APPROVED:
        return
    if state is PlanState.PENDING:
        raise TrustError(
            ErrorCode.PLAN_UNAPPROVED,
            "This hospital has not approved the plan.",
            hint="Read it with `cohortium-site plan show`, then `plan approve --hash`.",
        )
    sentence, code, hint = {
        PlanState.STOPPED: (
            "This hospital has stopped the plan, for good.",
            ErrorCode.PLAN_STOPPED,
            "A new study needs a new plan from the vendor.",
        ),
        PlanState.REFUSED: (
            "This hospital has refused the plan.",
            ErrorCode.PLAN_REFUSED,
            "A changed plan from the vendor can be approved under its new hash.",
        ),
        PlanState.EXPIRED: (
            "The plan has expired.",
            ErrorCode.PLAN_EXPIRED,
            "Ask the vendor for a new plan; `cohortium-site stop` returns unused budget.",
        ),
    }[state]
    raise PolicyDenied(code, sentence, hint=hint)


def recomputed_epsilon(plan: StudyPlan) -> float:
    """Compute the plan's epsilon here, from its noise, over every attempt it may open."""
    from schemas.privacy.accounting import plan_epsilon

    return plan_epsilon(plan)


def patients_unknown(_plan: StudyPlan) -> int | None:
    """Know nothing: no extract was taken in."""
    return None


def patients_ingested(reports: Path) -> PatientsOf:
    """Count this hospital's training patients from the report of the study's last ingest.

    Args:
        reports: folder of the ingest reports.

    Returns:
        A function that raises TrustError (STORE_TAMPERED) where the report is damaged.
    """

    def count(plan: StudyPlan) -> int | None:
        try:
            report = json.loads((reports / f"{plan.study_id}.json").read_bytes())
            return int(report["train"]["patients"])
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError):  # ValueError: not JSON, not UTF-8, no number
            raise TrustError(
                ErrorCode.STORE_TAMPERED,
                f"The report of the last ingest of study {plan.study_id} is not as it was written, "
                "so it is not known how many patients train here.",
                hint=f"Ingest the extract again: `cohortium-site ingest {plan.study_id} "
                "--source DIR`.",
            ) from None

    return count


def check_own_delta(plan: StudyPlan, patients: int) -> None:
    """Refuse a plan whose delta is more than a tenth of one patient here (PRIVACY-14).

    The plan itself keeps delta below a tenth of one patient of the smallest hospital; a larger
    hospital counts its own. Known only here, so it is checked only here, before anything runs.

    Args:
        plan: the plan.
        patients: training patients of this hospital.

    Raises:
        PolicyDenied: PLAN_DELTA_PATIENTS.
    """
    if plan.privacy.delta * 10 * patients > 1:
        name = plan.digest()[:16]  # an ingest asks every plan of a study
        raise PolicyDenied(
            ErrorCode.PLAN_DELTA_PATIENTS,
            f"The delta {plan.privacy.delta:g} of plan {name} is above one tenth of one patient of "
            f"this hospital, which has {patients} in training.",
            hint=f"Ask the vendor for a plan with delta of at most {0.1 / patients:.2g}; if this "
            f"one is approved, `cohortium-site stop {name}` ends it.",
        )


@dataclass(frozen=True, slots=True)
class PlanChecks:
    """The checks of one hospital; each raises with its own code, or returns."""

    keys: SiteKeys
    config: SiteConfig
    peers: Peers
    clock: Clock
    epsilon_of: EpsilonOf
    patients_of: PatientsOf = patients_unknown

    @property
    def all(self) -> tuple[Check, ...]:
        """Give every check, in the order in which they are made."""
        return (
            self.check_dates,
            self.check_vendor,
            self.check_own_keys,
            self.check_peers,
            self.check_floors,
            self.check_model,
            self.check_bundle,
            self.check_delta,
            self.check_epsilon,
            self.check_preparation,
        )

    def check_floors(self, plan: StudyPlan) -> None:
        """Refuse a plan looser than this hospital's floors."""
        check_floors(plan, self.config.floors)

    def check_dates(self, plan: StudyPlan) -> None:
        """Refuse a plan that has expired or was written in the future."""
        now = self.clock()
        if now >= parse_time(plan.expires):
            check_state(PlanState.EXPIRED)
        if (parse_time(plan.created) - now).total_seconds() > _CLOCK_TOLERANCE_SECONDS:
            raise PolicyDenied(
                ErrorCode.PLAN_NOT_YET_VALID,
                "The plan says it was written in the future.",
                hint="Check this machine's clock (`cohortium-site doctor`); if it is right, ask "
                "the vendor.",
            )

    def check_vendor(self, plan: StudyPlan) -> None:
        """Refuse a vendor this hospital does not list, if it lists any."""
        known = self.config.known_vendors
        if known and plan.vendor_key not in known:
            raise TrustError(
                ErrorCode.PLAN_VENDOR_UNKNOWN,
                "The plan is signed by a vendor this hospital does not list.",
                hint="If the vendor is right, add its key to known_vendors in site.toml.",
            )

    def check_own_keys(self, plan: StudyPlan) -> None:
        """Refuse a plan that does not name this hospital with its own keys."""
        if self.config.site_id not in plan.site_ids:
            raise TrustError(
                ErrorCode.PLAN_SITE_ABSENT,
                "The plan does not name this hospital.",
                hint="Ask the vendor whether you should take part.",
            )
        own = plan.site(self.config.site_id)
        mine = (
            public_hex(self.keys.identity),
            public_hex(self.keys.approval),
            self.keys.study.public_key().public_bytes_raw().hex(),
        )
        wrong = (own.identity_key, own.approval_key, own.study_key) != mine
        if own.kem_key is not None:  # a plan that needs no kem.key never opens it
            wrong |= own.kem_key != self.keys.kem.public_key().public_bytes_raw().hex()
        if wrong:
            raise TrustError(
                ErrorCode.OWN_KEY_WRONG,
                "The plan names this hospital with keys that are not its own.",
                hint="Do not approve it. Send your card again (`card export`) to the vendor by a "
                "way that does not pass the coordinator.",
            )

    def check_peers(self, plan: StudyPlan) -> None:
        """Refuse a plan with a hospital whose keys no steward here has confirmed."""
        for check in self.peers.checks(plan):
            if check.problem is not None:
                raise TrustError(
                    check.problem, _PEER_SENTENCES[check.problem].format(site=check.site_id),
                    hint=_PEER_HINTS[check.problem].format(site=check.site_id),
                )  # fmt: skip

    def check_model(self, plan: StudyPlan) -> None:
        """Refuse a plan whose number of parameters is not that of its architecture."""
        from schemas.models import parameter_count

        if plan.model.parameters != parameter_count(plan.model):
            raise PolicyDenied(
                ErrorCode.PLAN_INVALID,
                f"The plan says {plan.model.parameters} parameters, but its model has "
                f"{parameter_count(plan.model)}.",
                hint="What leaves is 4 bytes a parameter; ask the vendor for a plan that is right.",
            )

    def check_bundle(self, plan: StudyPlan) -> None:
        """Refuse an app bundle this hospital does not list, if it lists any."""
        known = self.config.known_bundles
        if known and plan.app_bundle_sha256 not in known:
            raise PolicyDenied(
                ErrorCode.BUNDLE_UNKNOWN,
                "The plan names an app bundle this hospital does not list.",
                hint="Compare the bundle's SHA-256 with the release notes; if it is right, add it "
                "to known_bundles in site.toml.",
            )

    def check_delta(self, plan: StudyPlan) -> None:
        """Refuse a delta above a tenth of one of this hospital's patients, if it knows them."""
        patients = self.patients_of(plan)
        if patients is not None:
            check_own_delta(plan, patients)

    def check_epsilon(self, plan: StudyPlan) -> None:
        """Refuse a promise the plan's noise does not keep, by the accountant here."""
        computed = self.epsilon_of(plan)
        if not computed <= plan.privacy.epsilon + 1e-9:
            raise _broken_promise(plan, computed, plan.privacy.hospitals_per_patient)
        # `plan show` prints this number too, and the steward reads it as a fact.
        both = plan.privacy.model_copy(update={"hospitals_per_patient": 2})
        twice = self.epsilon_of(plan.model_copy(update={"privacy": both}))
        if not twice <= plan.privacy.epsilon_two_hospitals + 1e-9:
            raise _broken_promise(plan, twice, 2)

    def check_preparation(self, plan: StudyPlan) -> None:
        """Refuse a preparation that costs more alone than the plan says of it."""
        from schemas.privacy.accounting import plan_epsilon
        from schemas.privacy.events import plan_events

        if plan.preparation is None:
            return
        first = next(event for event in plan_events(plan) if event.name == "preparation")
        if not plan_epsilon(plan, only=first) <= plan.preparation.epsilon + 1e-9:
            raise BudgetExceeded(
                ErrorCode.ACCOUNTING_MISMATCH,
                "The plan's preparation costs more alone than the plan says of it.",
                hint="Ask the vendor for a plan whose noise fits its promise.",
            )


def _broken_promise(plan: StudyPlan, computed: float, hospitals: int) -> BudgetExceeded:
    return BudgetExceeded(
        ErrorCode.ACCOUNTING_MISMATCH,
        privacy_statement(plan).breach(computed, hospitals),
        hint="Ask the vendor for a plan whose noise fits its promise.",
    )


_PEER_SENTENCES = {
    ErrorCode.PEER_UNKNOWN: "No identity card of {site}, which the plan names, is known here.",
    ErrorCode.PEER_UNCONFIRMED: "Nobody here has confirmed the fingerprint of {site}.",
    ErrorCode.PEER_KEY_SUBSTITUTED: "The plan names {site} with other keys than its card has.",
}
_PEER_HINTS = {
    ErrorCode.PEER_UNKNOWN: "Ask {site} for its card file and `peers import FILE`.",
    ErrorCode.PEER_UNCONFIRMED: "Call {site}, compare, then "
    "`peers confirm {site} --fingerprint HEX`.",
    ErrorCode.PEER_KEY_SUBSTITUTED: "Do not approve it: somebody may stand between you and {site}. "
    "Call {site} and the vendor.",
}
