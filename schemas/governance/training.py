"""How does a plan say that the model is trained: algorithm, optimiser, and every constant?"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from schemas import limits
from schemas.canonical import Document

Positive = Annotated[float, Field(ge=limits.MIN_CONSTANT, le=1e9)]
NonNegative = Annotated[float, Field(ge=0, le=1e9)]
Share = Annotated[float, Field(gt=0, le=1)]
Decay = Annotated[float, Field(ge=0, lt=1)]
GridUnits = Annotated[int, Field(ge=limits.MIN_INTEGER_CLIP, lt=limits.WORD_BOUND)]


class TrainingTerms(Document):
    """The algorithm, the optimiser and every constant they use.

    dp-fedsgd: one secure sum of clipped gradients a step, noise shared by the hospitals.
    dp-fedavg: every hospital takes ``local_steps`` private steps of its own with the whole noise;
    the secure sum averages what these changed. `schemas/spec/TRAINING.md` says when to use which.
    """

    algorithm: Literal["dp-fedsgd", "dp-fedavg"] = "dp-fedsgd"
    steps: Annotated[int, Field(ge=1, le=limits.MAX_STEPS)]  # sums applied to the model
    retry_cap: Annotated[int, Field(ge=0, le=limits.MAX_STEPS)]  # attempts beyond ``steps``
    sampling: Literal["full", "poisson"]
    sampling_rate: Share  # per patient and step (dp-fedavg: per local step)
    clip: Positive  # L2 norm of one patient's gradient
    integer_clip: GridUnits
    optimiser: Literal["sgd", "adam"] = "sgd"  # of the sum, at every site
    learning_rate: Positive
    momentum: Decay  # sgd: velocity; adam: first moment
    second_momentum: Decay = 0.0  # adam only: second moment
    adam_epsilon: NonNegative = 0.0  # adam only: added to the root of the second moment
    divisor: Positive  # dp-fedsgd: patients N*q, never the realised batch; dp-fedavg: hospitals
    maximum_patients: Annotated[int, Field(ge=1, le=limits.MAX_PATIENTS)]  # all sites together
    average_from_step: Annotated[int, Field(ge=0, le=limits.MAX_STEPS)]  # == steps: no averaging
    max_images_per_patient: Annotated[int, Field(ge=1, le=1_000)]
    weight_decay: NonNegative
    class_weights: Literal["plan", "preparation"] = "plan"
    positive_weight: Positive = 1.0  # of the loss of a positive patient, with class_weights = plan
    # dp-fedavg only:
    local_steps: Annotated[int, Field(ge=1, le=limits.MAX_LOCAL_STEPS)] = 1
    local_learning_rate: NonNegative = 0.0
    local_divisor: NonNegative = 0.0  # patients; one constant for all sites, whatever they hold
    update_clip: NonNegative = 0.0  # L2 norm of one hospital's change of the model

    @property
    def is_local(self) -> bool:
        """Whether every hospital adds the whole noise itself (dp-fedavg)."""
        return self.algorithm == "dp-fedavg"

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
        batch = self.maximum_patients * self.sampling_rate * (1 + 1e-9)
        if not self.is_local and self.divisor > batch:
            raise ValueError("divisor exceeds maximum_patients times sampling_rate")
        if self.class_weights == "preparation" and self.positive_weight != 1.0:
            raise ValueError("positive_weight is left at 1 when the preparation gives it")
        return self

    @model_validator(mode="after")
    def _optimiser(self) -> TrainingTerms:
        given = (self.second_momentum > 0, self.adam_epsilon > 0)
        if given != ((self.optimiser == "adam"),) * 2:
            raise ValueError(
                "second_momentum and adam_epsilon are above 0 with adam, and left out without"
            )
        return self

    @model_validator(mode="after")
    def _local(self) -> TrainingTerms:
        given = (self.local_learning_rate > 0, self.local_divisor > 0, self.update_clip > 0)
        if given != (self.is_local,) * 3:
            names = ("local_learning_rate", "local_divisor", "update_clip")
            wrong = [
                n for n, is_given in zip(names, given, strict=True) if is_given != self.is_local
            ]
            if self.is_local:
                raise ValueError(f"dp-fedavg needs a number above 0 for {' and '.join(wrong)}")
            raise ValueError(f"dp-fedsgd has no {' and no '.join(wrong)}")
        if self.local_steps > 1 and not self.is_local:
            raise ValueError("local_steps belong to dp-fedavg")
        if self.is_local and self.weight_decay > 0:
            raise ValueError("weight_decay belongs to dp-fedsgd")
        return self
