"""What does one secure sum of a study consist of?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class SumTerms:
    """What one secure sum of a round is made of.

    Attributes:
        mechanism: the name under which the ledger charges it.
        words: length d of the vector.
        clip: largest L2 norm of what one patient adds (dp-fedavg: one hospital).
        integer_clip: the same in grid units.
        noise_multiplier: sigma, in units of one patient's clip.
        is_local: whether every hospital's own contribution carries the whole noise.
    """

    mechanism: Literal["preparation", "training"]
    words: int
    clip: float
    integer_clip: int
    noise_multiplier: float
    is_local: bool
