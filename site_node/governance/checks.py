"""What must hold before a steward's approval of a plan is taken? One small check each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from schemas.errors import BudgetExceeded, ErrorCode, PolicyDenied, TrustError
from schemas.ids import parse_time
from schemas.signing import public_hex
from site_node.clock import Clock
from site_node.config import SiteConfig
from site_node.floors import check_floors
from site_node.governance.peers import Peers

if TYPE_CHECKING:
    from schemas.governance.study import StudyPlan
    from site_node.keys import SiteKeys

EpsilonOf = Callable[["StudyPlan"], float]
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
    from schemas.privacy.accounting import epsilon

    return epsilon(
        noise_multiplier=plan.privacy.noise_multiplier,
        sampling_rate=plan.training.sampling_rate,
        steps=plan.training.attempts,
        delta=plan.privacy.delta,
        hospitals_per_patient=plan.privacy.hospitals_per_patient,
    )


@dataclass(frozen=True, slots=True)
class PlanChecks:
    """The checks of one hospital; each raises with its own code, or returns."""

    keys: SiteKeys
    config: SiteConfig
    peers: Peers
    clock: Clock
    epsilon_of: EpsilonOf

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
            self.check_epsilon,
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

    def check_epsilon(self, plan: StudyPlan) -> None:
        """Refuse a promise the plan's noise does not keep, by the accountant here."""
        computed = self.epsilon_of(plan)
        if not computed <= plan.privacy.epsilon + 1e-9:
            raise BudgetExceeded(
                ErrorCode.ACCOUNTING_MISMATCH,
                f"The plan promises epsilon {plan.privacy.epsilon:g}, but its noise gives "
                f"{computed:.4f} over all the attempts it allows.",
                hint="Ask the vendor for a plan whose noise fits its promise.",
            )
        # `plan show` prints this number too, and the steward reads it as a fact.
        both = plan.privacy.model_copy(update={"hospitals_per_patient": 2})
        twice = self.epsilon_of(plan.model_copy(update={"privacy": both}))
        if not twice <= plan.privacy.epsilon_two_hospitals + 1e-9:
            raise BudgetExceeded(
                ErrorCode.ACCOUNTING_MISMATCH,
                f"The plan says epsilon {plan.privacy.epsilon_two_hospitals:g} for a patient of "
                f"two hospitals, but its noise gives {twice:.4f}.",
                hint="Ask the vendor for a plan that says what its noise gives.",
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
