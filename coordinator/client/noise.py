"""How much noise does a draft need for the privacy it asks for?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from schemas import limits
from schemas.errors import ConfigError, ErrorCode

if TYPE_CHECKING:
    from schemas.governance.study import TrainingTerms
    from schemas.privacy.calibration import PreparationTarget

_MOST_RETRIES: Final = 1_000  # of a preparation, as in the plan


def with_noise(
    privacy: Mapping[str, Any], preparation: Mapping[str, Any] | None, training: TrainingTerms
) -> dict[str, dict[str, Any]]:
    """Fill in the noise of preparation and training: the least that keeps the draft's epsilons.

    Args:
        privacy: the draft's [privacy]: epsilon of everything, delta, hospitals_per_patient.
        preparation: its [preparation]: epsilon of it alone and retry_cap; None without one.
        training: algorithm, sampling and attempts.

    Returns:
        The plan's ``privacy``, and ``preparation`` if there is one.

    Raises:
        ConfigError: a number is missing, of the wrong kind or out of range, or no noise suffices.
    """
    # The accountant is heavy; only this command needs it.
    from schemas.privacy.calibration import calibrate

    found = calibrate(
        training,
        epsilon=_number(privacy, "privacy", "epsilon", above=0, most=limits.MAX_EPSILON),
        delta=_number(privacy, "privacy", "delta", above=0, most=limits.MAX_DELTA),
        hospitals_per_patient=_count(
            privacy, "privacy", "hospitals_per_patient", 1, limits.MAX_SITES, default=1
        ),
        preparation=None if preparation is None else _target(preparation),
    )
    filled = {
        "privacy": {
            **privacy,
            "noise_multiplier": found.noise_multiplier,
            "epsilon_two_hospitals": found.epsilon_two_hospitals,
        }
    }
    if preparation is not None:
        noise = {"noise_multiplier": found.preparation_noise_multiplier}
        filled["preparation"] = {**preparation, **noise}
    return filled


def _target(table: Mapping[str, Any]) -> PreparationTarget:
    from schemas.privacy.calibration import PreparationTarget

    alone = _number(table, "preparation", "epsilon", above=0, most=limits.MAX_EPSILON)
    retries = _count(table, "preparation", "retry_cap", 0, _MOST_RETRIES)
    return PreparationTarget(alone, 1 + retries)


def _number(table: Mapping[str, Any], name: str, key: str, *, above: float, most: float) -> float:
    value = table.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not above < value <= most:
        raise ConfigError(
            ErrorCode.CONFIG_INVALID,
            f"The draft's [{name}] needs {key}: a number above {above:g}, at most {most:g}.",
            hint="The noise is calibrated to it, over every attempt the plan may open.",
        )
    return float(value)


def _count(
    table: Mapping[str, Any],
    name: str,
    key: str,
    least: int,
    most: int,
    default: int | None = None,
) -> int:
    value = table.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise ConfigError(
            ErrorCode.CONFIG_INVALID,
            f"The draft's [{name}] needs {key}: a whole number from {least} to {most}.",
            hint="Every attempt and every hospital of a patient is paid for by noise.",
        )
    return value
