"""Which model does a plan train, on which inputs, and where do its parameters start?"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, model_validator

from schemas import limits
from schemas.canonical import Document, HexBytes32
from schemas.governance.terms import Feature
from schemas.ids import Text


class Architecture(StrEnum):
    """The closed list of models a plan may name."""

    LOGISTIC = "logistic"  # one linear layer on tabular features
    COX = "cox"  # a linear log hazard ratio over a baseline by interval, on tabular features
    MLP = "mlp"  # tanh layers on tabular features
    SMALL_CNN = "small-cnn"  # a small convolutional network on grey images
    SCATTERING_LOGISTIC = "scattering-logistic"  # a linear layer on fixed wavelet features
    RESNET18 = "resnet18-groupnorm"  # ResNet-18 with group instead of batch normalisation

    @property
    def reads_images(self) -> bool:
        """Whether its input is an image and not a row of features."""
        return self in (self.SMALL_CNN, self.SCATTERING_LOGISTIC, self.RESNET18)


Width = Annotated[int, Field(ge=1, le=limits.MAX_HIDDEN_WIDTH)]
Edge = Annotated[float, Field(gt=0, le=1e6)]


class ModelTerms(Document):
    """The model, its inputs and where its parameters start."""

    architecture: Architecture
    features: Annotated[tuple[Feature, ...], Field(max_length=limits.MAX_COLUMNS)] = ()
    image_rows: Annotated[int, Field(ge=0, le=limits.MAX_IMAGE_SIDE)] = 0  # pixels, 0: no image
    image_columns: Annotated[int, Field(ge=0, le=limits.MAX_IMAGE_SIDE)] = 0
    hidden: Annotated[tuple[Width, ...], Field(max_length=limits.MAX_HIDDEN_LAYERS)] = ()  # mlp
    # cox: ends of the intervals of follow-up, in the time column's unit; the last is the horizon
    time_edges: Annotated[tuple[Edge, ...], Field(max_length=limits.MAX_TIME_INTERVALS)] = ()
    initialisation: Literal["seed", "file"] = "seed"  # file: the vendor's own weights
    initialisation_seed: HexBytes32 | None = None  # exactly with "seed"
    # exactly with "file": which data the weights were trained on, in the vendor's words
    initial_weights_origin: Text | None = None
    initial_weights_sha256: HexBytes32  # of the safetensors file
    parameters: Annotated[int, Field(ge=1, le=limits.MAX_PARAMETERS)]

    @property
    def input_width(self) -> int:
        """Model inputs that come from table features; one-hot counts each level."""
        return sum(feature.width for feature in self.features)

    @model_validator(mode="after")
    def _inputs(self) -> ModelTerms:
        columns = [feature.column for feature in self.features]
        if len(set(columns)) != len(columns):
            raise ValueError("the model's features must all be different")
        if (self.image_rows == 0) != (self.image_columns == 0):
            raise ValueError("image_rows and image_columns are both zero or both positive")
        if self.image_rows == 0 and not self.features:
            raise ValueError("the model has neither features nor an image as input")
        if self.architecture.reads_images and self.image_rows == 0:
            raise ValueError(f"{self.architecture} needs image_rows and image_columns")
        return self

    @model_validator(mode="after")
    def _shape(self) -> ModelTerms:
        if (self.architecture is Architecture.MLP) != bool(self.hidden):
            raise ValueError("an mlp, and only that, has hidden layers")
        if (self.architecture is Architecture.COX) != bool(self.time_edges):
            raise ValueError("a cox model, and only that, has time_edges")
        if list(self.time_edges) != sorted(set(self.time_edges)):
            raise ValueError("time_edges ascend")
        return self

    @model_validator(mode="after")
    def _start(self) -> ModelTerms:
        from_seed = self.initialisation == "seed"
        if from_seed != (self.initialisation_seed is not None):
            raise ValueError("initialisation_seed belongs to initialisation = seed, and only there")
        if from_seed != (self.initial_weights_origin is None):
            raise ValueError(
                "initialisation = file needs initial_weights_origin; with seed there is none"
            )
        return self
