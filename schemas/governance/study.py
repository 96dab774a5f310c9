"""What exactly does a hospital approve when it approves a study?

A study plan is a declarative document without code. Everything that shapes the result is a field
here, fixed before approval; a changed plan is a new digest and needs new approvals.
"""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, model_validator

from schemas import limits
from schemas.canonical import Document, HexBytes32
from schemas.errors import ErrorCode, TrustError
from schemas.governance.aggregation import AggregationTerms, survivor_threshold
from schemas.governance.terms import Column, DataTerms, Feature
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
    "PrivacyTerms",
    "StudyPlan",
    "TrainingTerms",
    "open_plan",
]

Positive = Annotated[float, Field(ge=limits.MIN_CONSTANT, le=1e9)]
NonNegative = Annotated[float, Field(ge=0, le=1e9)]
Share = Annotated[float, Field(gt=0, le=1)]
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


class Architecture(StrEnum):
    """The closed list of models a plan may name."""

    LOGISTIC = "logistic"  # one linear layer on tabular features
    SMALL_CNN = "small-cnn"  # a small convolutional network on grey images
    SCATTERING_LOGISTIC = "scattering-logistic"  # a linear layer on fixed wavelet features


class ModelTerms(Document):
    """The model, its inputs and where its parameters start."""

    architecture: Architecture
    features: Annotated[tuple[Feature, ...], Field(max_length=limits.MAX_COLUMNS)] = ()
    image_rows: Annotated[int, Field(ge=0, le=limits.MAX_IMAGE_SIDE)] = 0  # pixels, 0: no image
    image_columns: Annotated[int, Field(ge=0, le=limits.MAX_IMAGE_SIDE)] = 0
    initialisation_seed: HexBytes32
    initial_weights_sha256: HexBytes32  # of the safetensors file
    parameters: Annotated[int, Field(ge=1, le=limits.MAX_PARAMETERS)]

    @property
    def input_width(self) -> int:
        """Model inputs that come from table features; one-hot counts each level."""
        return sum(feature.width for feature in self.features)

    @model_validator(mode="after")
    def _consistent(self) -> ModelTerms:
        _distinct([feature.column for feature in self.features], "the model's features")
        if (self.image_rows == 0) != (self.image_columns == 0):
            raise ValueError("image_rows and image_columns are both zero or both positive")
        if self.image_rows == 0 and not self.features:
            raise ValueError("the model has neither features nor an image as input")
        imaging = self.architecture is not Architecture.LOGISTIC
        if imaging and self.image_rows == 0:
            raise ValueError(f"{self.architecture} needs image_rows and image_columns")
        return self


class TrainingTerms(Document):
    """The optimiser and every constant it uses."""

    algorithm: Literal["dp-fedsgd"] = "dp-fedsgd"
    steps: Annotated[int, Field(ge=1, le=limits.MAX_STEPS)]
    retry_cap: Annotated[int, Field(ge=0, le=limits.MAX_STEPS)]  # attempts beyond ``steps``
    sampling: Literal["full", "poisson"]
    sampling_rate: Share  # per patient and step
    clip: Positive  # L2 norm of one patient's gradient
    integer_clip: Annotated[int, Field(ge=limits.MIN_INTEGER_CLIP, lt=limits.WORD_BOUND)]
    learning_rate: Positive
    momentum: Annotated[float, Field(ge=0, lt=1)]
    divisor: Positive  # patients; the constant N*q, never the realised batch
    maximum_patients: Annotated[int, Field(ge=1, le=limits.MAX_PATIENTS)]  # all sites together
    average_from_step: Annotated[int, Field(ge=0, le=limits.MAX_STEPS)]  # == steps: no averaging
    max_images_per_patient: Annotated[int, Field(ge=1, le=1_000)]
    weight_decay: NonNegative

    @property
    def attempts(self) -> int:
        """Attempts the plan may open in training: every one is paid for."""
        return self.steps + self.retry_cap

    @model_validator(mode="after")
    def _consistent(self) -> TrainingTerms:
        if (self.sampling == "full") != (self.sampling_rate == 1.0):
            raise ValueError("sampling is full exactly when sampling_rate is 1")
        if self.average_from_step > self.steps:
            raise ValueError("average_from_step lies after the last step")
        if self.divisor > self.maximum_patients * self.sampling_rate * (1 + 1e-9):
            raise ValueError("divisor exceeds maximum_patients times sampling_rate")
        return self


class PrivacyTerms(Document):
    """What is promised to a patient, and by which noise.

    ``epsilon`` covers ``steps + retry_cap`` attempts; test-set metrics are outside it.
    """

    unit: Literal["patient"] = "patient"
    adjacency: Literal["add-remove"] = "add-remove"
    epsilon: Annotated[float, Field(gt=0, le=limits.MAX_EPSILON)]
    delta: Annotated[float, Field(gt=0, le=limits.MAX_DELTA)]
    noise_multiplier: Annotated[float, Field(gt=0, le=10_000)]  # sigma, in units of the clip norm
    accountant: Literal["pld"] = "pld"
    hospitals_per_patient: Annotated[int, Field(ge=1, le=limits.MAX_SITES)] = 1
    epsilon_two_hospitals: Annotated[float, Field(gt=0, le=1_000)]  # for a patient of two sites
    smallest_site_patients: Annotated[int, Field(ge=1, le=limits.MAX_PATIENTS)]

    @model_validator(mode="after")
    def _consistent(self) -> PrivacyTerms:
        if self.delta > 1 / (10 * self.smallest_site_patients):
            raise ValueError("delta exceeds one tenth of one patient of the smallest site")
        if self.epsilon_two_hospitals < self.epsilon:
            raise ValueError("epsilon_two_hospitals is below epsilon")
        return self


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

    def noise_sharers(self, cohort_size: int) -> int:
        """Give the honest survivors on whose noise alone a training sum can count.

        Each hospital's share has the variance sigma^2 C^2 divided by this number, so that what
        is left without colluders and lost hospitals still adds up to sigma^2 C^2 (PRIVACY-3).
        """
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
        return self

    @model_validator(mode="after")
    def _integer_arithmetic(self) -> StudyPlan:
        clip = self.training.integer_clip
        loss = math.sqrt(self.model.parameters) / clip
        if loss > limits.MAX_TRUNCATION_LOSS:
            raise ValueError("integer_clip is too small: truncation would lose more than 1 %")
        if self.headroom() <= 0:
            raise ValueError(
                "a 32-bit sum could wrap: maximum_patients and noise times integer_clip "
                "reach 2**31; lower integer_clip"
            )
        noise = self.privacy.noise_multiplier * clip
        sharers = [self.noise_sharers(size) for size in self._cohort_sizes()]
        if noise / math.sqrt(max(sharers)) < limits.MIN_NOISE_SHARE:
            raise ValueError("a site's noise share is below 8 grid units; raise integer_clip")
        if noise / math.sqrt(min(sharers)) > limits.MAX_NOISE_SHARE:
            raise ValueError("a site's noise share is beyond the sampler; lower integer_clip")
        return self

    def headroom(self) -> float:
        """Give the grid units left under 2**31 when every patient and the noise are largest.

        The noise of ``u`` sites, each of variance sigma^2 C^2/s, where s are the sharers it can
        count on, has in sum the variance sigma^2 C^2 u/s; the largest over all cohorts counts.
        """
        largest = max(size / self.noise_sharers(size) for size in self._cohort_sizes())
        noise = self.privacy.noise_multiplier * math.sqrt(largest)
        units = self.training.maximum_patients + limits.NOISE_HEADROOM_SIGMAS * noise
        return limits.WORD_BOUND - units * self.training.integer_clip

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
