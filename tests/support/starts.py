"""How do tests get a plan's initial weights, from its seed or from a vendor's own file?"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from schemas.governance.study import ModelTerms
from schemas.models import initial_parameters, parameter_count, to_safetensors

FROM_FILE: Final[dict[str, Any]] = {
    "initialisation": "file",
    "initialisation_seed": None,
    "initial_weights_origin": "Public chest X-rays, no patient of these hospitals.",
}
"""Overrides of a plan's model that let it start from the vendor's file."""


def start_weights(model: ModelTerms) -> bytes:
    """The canonical file a model starts from: of its seed, or for a file some small numbers."""
    if model.initialisation == "seed":
        return to_safetensors(model, initial_parameters(model))
    return to_safetensors(model, np.arange(parameter_count(model)) % 7 / 64.0)


def sent_weights(model: ModelTerms) -> bytes:
    """What travels: the vendor's file, or nothing."""
    return b"" if model.initialisation == "seed" else start_weights(model)
