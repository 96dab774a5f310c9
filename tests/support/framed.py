"""How does a test put one real hospital into a plan that a coordinator drew up around it?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from schemas.canonical import sha256_hex
from schemas.governance.study import StudyPlan
from schemas.secagg import Party
from tests.support.attacks import VICTIM, Attack, Puppets
from tests.support.consortium import MemoryBook, hurried_rounds, site_keys
from tests.support.factories import SiteKeys, plan_with, seal_plan, sealed_approval
from tests.support.starts import start_weights

TERMS: dict[str, Any] = {
    "training": {"steps": 3, "average_from_step": 1, "retry_cap": 9, "integer_clip": 2**16},
    "privacy": {"noise_multiplier": 80, "smallest_site_patients": 20},
    "expires": "2027-11-20T00:00:00Z",
}


class Frame:
    """One plan with the victim's true keys, and other hospitals whose keys the attacker holds."""

    def __init__(self, attack: Attack, others: Mapping[str, SiteKeys], **overrides: Any) -> None:
        self.victim = attack.consortium.sites[VICTIM]
        self.keys = {VICTIM: site_keys(self.victim), **others}
        self.others = tuple(others)
        self._consortium = attack.consortium
        terms = {**TERMS, **overrides}
        draft = plan_with(self.keys, **terms)
        self.weights = start_weights(draft.model)
        model = {"initial_weights_sha256": sha256_hex(self.weights)}
        self.plan: StudyPlan = plan_with(self.keys, **terms, model=model)

    @property
    def sealed(self) -> bytes:
        """The plan as the vendor sends it."""
        return seal_plan(self.plan).canonical()

    def approve(self) -> None:
        """Let the victim's steward read the hash and say yes."""
        self.victim.approvals.approve(self.sealed, self.plan.digest())

    def attack(self) -> tuple[Attack, Puppets]:
        """Give the hand that plays this plan against the victim, and its puppets."""
        self.victim.inbox.receive("plan", self.plan.study_id, self.sealed)
        own = self.victim.approvals.own_approval(self.plan.digest())
        signed = {s: sealed_approval(self.plan, s, self.keys) for s in self.others}
        if own is not None:
            signed[VICTIM] = sealed_approval(self.plan, VICTIM, self.keys)
        consortium = replace(
            self._consortium,
            plan=self.plan,
            sites={VICTIM: self.victim},
            rounds={VICTIM: hurried_rounds(self.victim)},
            book=MemoryBook(self.weights, signed),
        )
        parties = {s: Party(s, self.keys[s].identity, self.keys[s].study) for s in self.others}
        return Attack(consortium), Puppets(self.plan, parties, self._consortium.sites)

    def rob(self) -> tuple[Any, Any]:
        """Play one attempt in which the victim is the only real hospital.

        Returns:
            What the coordinator computes, and nothing else: the victim's vector if all went well.
        """
        hand, puppets = self.attack()
        attempt = hand.fresh()
        own = hand.readies(0, attempt)[VICTIM]
        readies = {VICTIM: own, **puppets.readies(own.ready)}
        upload = hand.upload(VICTIM, hand.cohort(readies.values(), 0, attempt))
        return puppets.open(readies.values(), hand.model_hash, {VICTIM: upload})
