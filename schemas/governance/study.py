"""What exactly does a hospital approve when it approves a study?

A study plan is a declarative document without code. Everything that shapes the result is a field
here, fixed before approval; a changed plan is a new digest and needs new approvals.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, model_validator

from schemas import limits
from schemas.canonical import Document, HexBytes32
from schemas.errors import ErrorCode, TrustError
from schemas.governance.aggregation import AggregationTerms, survivor_threshold
from schemas.governance.model import Architecture, ModelTerms
from schemas.governance.preparation import (
    Group,
    PreparationTerms,
    preparation_groups,
    preparation_norm,
)
from schemas.governance.privacy import PrivacyTerms
from schemas.governance.sums import SumTerms
from schemas.governance.terms import Column, DataTerms, Feature
from schemas.governance.training import TrainingTerms
from schemas.identity import Ed25519Key, IdentityCard, KemKey, X25519Key
from schemas.ids import Name, SiteId, StudyId, Text, Timestamp, parse_time
from schemas.signing import Context, SignedDocument, open_signed

__all__ = [
    "AggregationTerms",
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
    "StudyPlan",
    "SumTerms",
    "TrainingTerms",
    "open_plan",
]

Output = Literal[
    "masked-update",
    "masked-evaluation",
    "survivor-confirmation",
    "unmasking",
    "model-hash",
    "release",
    "refusal",
]
"""A kind of thing that may leave a hospital."""


class PlanSite(Document):
    """One hospital as every other hospital must know it."""

    site_id: SiteId
    name: Name
    identity_key: Ed25519Key
    approval_key: Ed25519Key
    study_key: X25519Key
    kem_key: KemKey | None = None  # in a plan with a hybrid pair root, and only there

    def has_keys_of(self, card: IdentityCard) -> bool:
        """Say whether every key pinned here is the one on a hospital's card."""
        pinned = (self.identity_key, self.approval_key, self.study_key)
        held = (card.identity_key, card.approval_key, card.study_key)
        return pinned == held and self.kem_key in (None, card.kem_key)


class EvaluationTerms(Document):
    """How the final model is judged, once."""

    bins: Annotated[int, Field(ge=2, le=limits.MAX_BINS)]  # histogram bins per class
    threshold: Annotated[float, Field(gt=0, lt=1)]  # probability from which a case is positive
    minimum_roc_patients: Annotated[int, Field(ge=limits.MIN_ROC_PATIENTS, le=1_000_000)]


class StudyPlan(Document):
    """The whole study, as the vendor signs it and every hospital approves it."""

    version: Literal[1] = 1
    study_id: StudyId
    title: Name
    purpose: Text
    created: Timestamp
    expires: Timestamp
    vendor: Name
    vendor_key: Ed25519Key  # must be the key that sealed the plan
    recipients: Annotated[tuple[Name, ...], Field(min_length=1, max_length=limits.MAX_RECIPIENTS)]
    sites: Annotated[tuple[PlanSite, ...], Field(min_length=3, max_length=limits.MAX_SITES)]
    collusion_bound: Annotated[int, Field(ge=1, le=limits.MAX_SITES)]  # t
    cohort_minimum: Annotated[int, Field(ge=3, le=limits.MAX_SITES)]  # m_min
    aggregation: AggregationTerms = AggregationTerms()
    data: DataTerms
    model: ModelTerms
    preparation: PreparationTerms | None = None  # a noised sum before training
    training: TrainingTerms
    privacy: PrivacyTerms
    evaluation: EvaluationTerms
    outputs: Annotated[tuple[Output, ...], Field(min_length=1, max_length=7)]
    app_bundle_sha256: HexBytes32
    deid_profile_sha256: HexBytes32
    tuning_declaration: Text

    def site(self, site_id: str) -> PlanSite:
        """Give one hospital of the plan.

        Raises:
            KeyError: The plan does not name it.
        """
        for site in self.sites:
            if site.site_id == site_id:
                return site
        raise KeyError(site_id)

    @property
    def site_ids(self) -> tuple[str, ...]:
        """Names of the hospitals, sorted."""
        return tuple(sorted(site.site_id for site in self.sites))

    @property
    def preparation_rounds(self) -> int:
        """Rounds before the first optimiser step: one, if there is a preparation."""
        return 0 if self.preparation is None else 1

    @property
    def rounds(self) -> int:
        """Secure sums of the study, evaluation apart: the preparation and every step."""
        return self.preparation_rounds + self.training.steps

    @property
    def attempts(self) -> int:
        """Attempts the plan may open, evaluation apart: every one is paid for."""
        prepared = 0 if self.preparation is None else self.preparation.attempts
        return prepared + self.training.attempts

    @property
    def preparation_groups(self) -> tuple[Group, ...]:
        """What the preparation sums; empty without one."""
        return preparation_groups(self.model.features, self.training)

    def sum_terms(self, round_: int) -> SumTerms:
        """Give the terms of the sum of one round, counted from 0; the evaluation is none."""
        training = self.training
        if self.preparation is not None and round_ == 0:
            groups = self.preparation_groups
            return SumTerms(
                mechanism="preparation",
                words=sum(group.words for group in groups),
                clip=preparation_norm(groups),
                integer_clip=self.preparation.integer_clip,
                noise_multiplier=self.preparation.noise_multiplier,
                is_local=False,
            )
        return SumTerms(
            mechanism="training",
            words=self.model.parameters,
            clip=training.update_clip if training.is_local else training.clip,
            integer_clip=training.integer_clip,
            noise_multiplier=self.privacy.noise_multiplier,
            is_local=training.is_local,
        )

    @property
    def longest_vector(self) -> int:
        """Words of the longest sum of training and preparation."""
        return max(self.sum_terms(round_).words for round_ in (0, self.preparation_rounds))

    @property
    def is_recoverable(self) -> bool:
        """Whether a training attempt survives the loss of some of its hospitals."""
        return self.aggregation.mode == "recoverable"

    @property
    def is_hybrid(self) -> bool:
        """Whether pairs of hospitals agree an ML-KEM-768 secret beside the X25519 one."""
        return self.aggregation.pair_root == "x25519-ml-kem-768"

    def encapsulated_for(self, site_id: str) -> tuple[str, ...]:
        """Give the peers for whom this site's approval carries a ciphertext (SECAGG-16).

        Of each pair the site whose name sorts first encapsulates: none in a plain plan.
        """
        return tuple(peer for peer in self.site_ids if self.is_hybrid and peer > site_id)

    @property
    def survivor_threshold(self) -> int:
        """Fewest signatures under a list of survivors, and of shares that open a self-mask."""
        return survivor_threshold(len(self.sites), self.collusion_bound)

    @property
    def fewest_summed(self) -> int:
        """Fewest hospitals whose sum anyone ever sees."""
        if self.is_recoverable:
            return max(self.cohort_minimum, self.survivor_threshold)
        return self.cohort_minimum

    def dropouts_allowed(self, cohort_size: int) -> int:
        """Give how many of a training cohort may be lost before its attempt is void."""
        return max(0, min(self.aggregation.maximum_dropouts, cohort_size - self.fewest_summed))

    def fewest_contributors(self, kind: Literal["train", "evaluate"], cohort_size: int) -> int:
        """Give how many of a cohort must contribute for its sum to be shown."""
        return cohort_size - (self.dropouts_allowed(cohort_size) if kind == "train" else 0)

    def noise_sharers(self, cohort_size: int, terms: SumTerms | None = None) -> int:
        """Give the honest survivors on whose noise alone a training sum can count.

        Each hospital's share has the variance sigma^2 C^2 divided by this number, so that what
        is left without colluders and lost hospitals still adds up to sigma^2 C^2 (PRIVACY-3).
        Where every contribution carries the whole noise itself, there is nothing to share: 1.

        Args:
            cohort_size: hospitals of the cohort.
            terms: of which sum; the sums of training by default.
        """
        if (self.sum_terms(self.preparation_rounds) if terms is None else terms).is_local:
            return 1
        return cohort_size - self.collusion_bound - self.dropouts_allowed(cohort_size)

    @model_validator(mode="after")
    def _sites_distinct(self) -> StudyPlan:
        _distinct([site.site_id for site in self.sites], "the plan's site names")
        keys = [
            key
            for site in self.sites
            for key in (site.identity_key, site.approval_key, site.study_key)
        ]
        _distinct([*keys, self.vendor_key], "the plan's keys")
        kem_keys = [site.kem_key for site in self.sites if site.kem_key is not None]
        _distinct(kem_keys, "the plan's ML-KEM-768 keys")
        if len(kem_keys) != (len(self.sites) if self.is_hybrid else 0):
            raise ValueError("every site has a kem_key exactly if pair_root is hybrid")
        if self.is_hybrid and len(self.sites) > limits.MAX_HYBRID_SITES:
            raise ValueError(f"a hybrid pair_root allows {limits.MAX_HYBRID_SITES} sites at most")
        _distinct(list(self.outputs), "the plan's outputs")
        _distinct(list(self.recipients), "the plan's recipients")
        return self

    @model_validator(mode="after")
    def _cohort(self) -> StudyPlan:
        if self.cohort_minimum < self.collusion_bound + 2:
            raise ValueError("cohort_minimum must be at least collusion_bound + 2")
        if len(self.sites) < self.cohort_minimum:
            raise ValueError("the plan names fewer sites than cohort_minimum")
        if len(self.sites) - self.aggregation.maximum_dropouts < self.fewest_summed:
            raise ValueError(
                "maximum_dropouts leaves fewer sites than cohort_minimum, or not more than "
                "half of sites plus collusion_bound, which recoverable mode needs"
            )
        needed = {"survivor-confirmation", "unmasking"}
        if needed & set(self.outputs) != (needed if self.is_recoverable else set()):
            raise ValueError(
                "survivor-confirmation and unmasking are outputs exactly in recoverable mode"
            )
        return self

    @model_validator(mode="after")
    def _dates(self) -> StudyPlan:
        lifetime = parse_time(self.expires) - parse_time(self.created)
        if lifetime.total_seconds() <= 0:
            raise ValueError("the plan expires before it is created")
        if lifetime.days > limits.MAX_PLAN_DAYS:
            raise ValueError(f"the plan runs longer than {limits.MAX_PLAN_DAYS} days")
        return self

    @model_validator(mode="after")
    def _model_fits_data(self) -> StudyPlan:
        data, model = self.data, self.model
        if (data.image_rows, data.image_columns) != (model.image_rows, model.image_columns):
            raise ValueError("data and model disagree on the size of images")
        columns = {column.name: column for column in data.columns}
        for feature in model.features:
            if feature.column not in columns:
                raise ValueError(f"feature {feature.column} is not a column of the data contract")
            if feature.column in (data.label, data.patient_column, data.split_column):
                raise ValueError(f"column {feature.column} may not be a feature")
            feature.check_column(columns[feature.column])
        return self

    @model_validator(mode="after")
    def _patients(self) -> StudyPlan:
        if self.privacy.smallest_site_patients > self.training.maximum_patients:
            raise ValueError("smallest_site_patients exceeds maximum_patients")
        if self.privacy.hospitals_per_patient > len(self.sites):
            raise ValueError("hospitals_per_patient exceeds the number of sites")
        if self.training.is_local and self.training.divisor > len(self.sites):
            raise ValueError(
                "with dp-fedavg the divisor counts hospitals: at most the plan's sites"
            )
        return self

    @model_validator(mode="after")
    def _time(self) -> StudyPlan:
        needs = self.model.architecture is Architecture.COX
        if needs != (self.data.time_column is not None):
            raise ValueError("a cox model, and only that, has a time_column in its data contract")
        if any(feature.column == self.data.time_column for feature in self.model.features):
            raise ValueError("the time_column may not be a feature")
        if needs and (self.training.class_weights, self.training.positive_weight) != ("plan", 1):
            raise ValueError("a cox model has no classes to weigh")
        return self

    @model_validator(mode="after")
    def _preparation(self) -> StudyPlan:
        if (self.preparation is not None) != bool(self.preparation_groups):
            names = [f"{group.use} {group.column}".rstrip() for group in self.preparation_groups]
            if names:
                raise ValueError(f"a preparation is needed, by {', '.join(names)}")
            raise ValueError("there is a preparation, but no feature and no class weights need one")
        return self

    @model_validator(mode="after")
    def _integer_arithmetic(self) -> StudyPlan:
        for terms in {self.sum_terms(round_) for round_ in (0, self.preparation_rounds)}:
            self._check_grid(terms)
        return self

    def _check_grid(self, terms: SumTerms) -> None:
        if math.sqrt(terms.words) / terms.integer_clip > limits.MAX_TRUNCATION_LOSS:
            raise ValueError("integer_clip is too small: truncation would lose more than 1 %")
        if self.headroom(terms) <= 0:
            raise ValueError(
                "a 32-bit sum could wrap: maximum_patients and noise times integer_clip "
                "reach 2**31; lower integer_clip"
            )
        noise = terms.noise_multiplier * terms.integer_clip
        sharers = [self.noise_sharers(size, terms) for size in self._cohort_sizes()]
        if noise / math.sqrt(max(sharers)) < limits.MIN_NOISE_SHARE:
            raise ValueError("a site's noise share is below 8 grid units; raise integer_clip")
        if noise / math.sqrt(min(sharers)) > limits.MAX_NOISE_SHARE:
            raise ValueError(
                "a site's noise share is beyond the sampler; lower integer_clip, or "
                "leave it more epsilon"
            )

    def headroom(self, terms: SumTerms) -> float:
        """Give the grid units left under 2**31 when every patient and the noise are largest.

        The noise of ``u`` sites, each of variance sigma^2 C^2/s, where s are the sharers it can
        count on, has in sum the variance sigma^2 C^2 u/s; the largest over all cohorts counts.
        A change of the model that a hospital clips (dp-fedavg) holds its noise already.
        """
        if terms.is_local:
            return limits.WORD_BOUND - len(self.sites) * terms.integer_clip
        largest = max(size / self.noise_sharers(size, terms) for size in self._cohort_sizes())
        noise = terms.noise_multiplier * math.sqrt(largest)
        units = self.training.maximum_patients + limits.NOISE_HEADROOM_SIGMAS * noise
        return limits.WORD_BOUND - units * terms.integer_clip

    def _cohort_sizes(self) -> range:
        """Sizes a training cohort may have."""
        return range(self.fewest_summed, len(self.sites) + 1)


def open_plan(signed: SignedDocument) -> StudyPlan:
    """Read a sealed plan: signed, canonical, consistent, by the vendor key it names.

    Whether that vendor is known is the caller's question.

    Raises:
        TrustError: The signature does not fit, or another key signed than ``vendor_key``.
        ProtocolError: The payload is not a study plan, or the plan contradicts itself.
    """
    plan = open_signed(
        signed, Context.PLAN, StudyPlan, expected_signer=None, max_bytes=limits.MAX_PLAN_BYTES
    )
    if plan.vendor_key != signed.signer:
        raise TrustError(
            ErrorCode.SIGNER_UNEXPECTED, "The plan is not signed by the vendor key it names."
        )
    return plan


def _distinct(values: list[str], what: str) -> None:
    if len(set(values)) != len(values):
        raise ValueError(f"{what} must all be different")
