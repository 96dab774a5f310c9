"""What does a plan promise a patient, and by which noise?"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from schemas import limits
from schemas.canonical import Document


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
