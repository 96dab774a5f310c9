"""How does a draft become a study plan? Every open value is resolved here, once, and shown.

A draft is a TOML file of the plan's own fields. These are left out of it and filled in:

| field | from |
| --- | --- |
| version, study_id | the command |
| created, expires | now, and ``valid_days`` of the draft |
| vendor, vendor_key | the access file's holder and the key of the vendor's folder |
| sites | the hospitals' signed identity cards |
| outputs | the draft, and what unmasks a sum where ``aggregation.mode`` is recoverable |
| recipients | the vendor alone, unless the draft names others |
| app_bundle_sha256 | the coordinator |
| deid_profile_sha256 | the shipped keep-list for the kind of source, unless the draft fixes it |
| model.initialisation_seed | fresh bytes, unless the draft fixes them, or it starts from a file |
| model.parameters, model.initial_weights_sha256 | the architecture and that seed or file |
| preparation.noise_multiplier | the smallest that keeps preparation.epsilon over 1 + retry_cap |
| privacy.noise_multiplier | the smallest that keeps epsilon of the preparation and of training \
over steps + retry_cap attempts together |
| privacy.epsilon_two_hospitals | the same noise, for a patient known to two hospitals |
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from importlib import resources
from pathlib import Path
from typing import Any, Final

from coordinator.client.noise import with_noise
from coordinator.client.weights import fit_weights
from schemas.canonical import build, sha256_hex
from schemas.entropy import Entropy
from schemas.errors import ConfigError, ErrorCode
from schemas.governance.study import ModelTerms, StudyPlan, TrainingTerms
from schemas.identity import IdentityCard, parse_card_file
from schemas.ids import format_time
from schemas.models import initial_parameters, parameter_count, to_safetensors

_FILLED_IN: Final[Mapping[str, frozenset[str]]] = {
    "": frozenset(
        {"version", "created", "expires", "vendor", "vendor_key", "sites", "app_bundle_sha256"}
    ),
    "model": frozenset({"parameters", "initial_weights_sha256"}),
    "preparation": frozenset({"noise_multiplier"}),
    "privacy": frozenset({"noise_multiplier", "epsilon_two_hospitals"}),
}
_UNMASKING: Final = ("survivor-confirmation", "unmasking")
_DEFAULT_DAYS: Final = 30
_MAX_DRAFT_BYTES: Final = 512 * 1024
_MAX_CARD_FILE_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Parties:
    """Who takes part, and what the coordinator serves."""

    vendor: str
    vendor_key: str
    cards: Sequence[IdentityCard]
    app_bundle_sha256: str


def template_names() -> list[str]:
    """Return the names of the shipped templates."""
    folder = resources.files("coordinator.client") / "templates"
    return sorted(
        item.name.removesuffix(".toml") for item in folder.iterdir() if item.name.endswith(".toml")
    )


def start_draft(study_id: str, template: str) -> str:
    """Return a template's text with the study's name at its head.

    Raises:
        ConfigError: no template has this name.
    """
    if template not in template_names():
        raise ConfigError(
            ErrorCode.CONFIG_USAGE,
            "No template has this name.",
            hint=f"Choose one of: {', '.join(template_names())}",
        )
    source = resources.files("coordinator.client") / "templates" / f"{template}.toml"
    lines = source.read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if not line.startswith("study_id ")]
    return f'study_id = "{study_id}"\n' + "\n".join(kept) + "\n"


def read_draft(path: Path) -> dict[str, Any]:
    """Read a draft file.

    Raises:
        ConfigError: it is missing, too large, not TOML, or fixes a value that is filled in.
    """
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise ConfigError(
            ErrorCode.CONFIG_FILE_MISSING,
            "There is no draft of this name.",
            hint="Run: cohortium study init NAME --template heart -o draft.toml",
        ) from None
    if len(raw) > _MAX_DRAFT_BYTES:
        raise ConfigError(ErrorCode.DOCUMENT_TOO_LARGE, "The draft is larger than 512 KiB.")
    try:
        draft = tomllib.loads(raw.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(
            ErrorCode.CONFIG_INVALID, "The draft is not TOML.", hint=str(error)
        ) from None
    for table, names in _FILLED_IN.items():
        if table == "preparation" and table not in draft:  # most drafts have none
            continue
        held = draft if not table else _table(draft, table)
        for name in sorted(names & set(held)):
            raise ConfigError(
                ErrorCode.CONFIG_INVALID,
                f"The draft fixes '{name}', which is filled in when the plan is made.",
                hint="Take the line out of the draft.",
            )
    return draft


def read_cards(folder: Path) -> list[IdentityCard]:
    """Read every ``*.card`` file in a folder, one per hospital.

    Raises:
        ConfigError: the folder holds none, or two of one hospital.
        TrustError: a file is not a card signed by its own identity key.
    """
    cards: dict[str, IdentityCard] = {}
    for path in sorted(folder.glob("*.card")):
        with path.open("rb") as file:
            card = parse_card_file(file.read(_MAX_CARD_FILE_BYTES))
        if card.site_id in cards:
            raise ConfigError(ErrorCode.PEER_EXISTS, "The folder holds two cards of one hospital.")
        cards[card.site_id] = card
    if not cards:
        raise ConfigError(
            ErrorCode.CONFIG_FILE_MISSING,
            "The folder holds no identity card.",
            hint="Each hospital writes one: cohortium-site card export -o NAME.card",
        )
    return list(cards.values())


def resolve(
    draft: Mapping[str, Any],
    parties: Parties,
    *,
    now: datetime,
    entropy: Entropy,
    weights: bytes | None = None,
) -> tuple[StudyPlan, bytes]:
    """Fill in what a draft leaves open.

    Args:
        draft: as `read_draft` gives it.
        parties: vendor, hospitals and app bundle.
        now: the plan's date of creation.
        entropy: source of the initialisation seed where the draft fixes none.
        weights: the vendor's own weights (safetensors), exactly with initialisation = "file".

    Returns:
        The plan, and the initial weights (canonical safetensors) whose digest it names.

    Raises:
        ConfigError: a field is unknown, missing, refused, the plan contradicts itself, or the
            vendor's own weights do not fit the model.
    """
    values: dict[str, Any] = dict(draft)
    days = values.pop("valid_days", _DEFAULT_DAYS)
    if not isinstance(days, int) or days < 1:
        raise ConfigError(ErrorCode.CONFIG_INVALID, "valid_days is a whole number of days.")
    values.setdefault("recipients", [parties.vendor])
    values |= _outputs(values)
    values.setdefault("deid_profile_sha256", _profile_digest(_table(values, "data")))
    model, initial = _model(_table(values, "model"), weights, entropy)
    training = build(TrainingTerms, _table(values, "training"), name="the draft's [training]")
    values |= {
        "version": 1,
        "created": format_time(now),
        "expires": format_time(now + timedelta(days=days)),
        "vendor": parties.vendor,
        "vendor_key": parties.vendor_key,
        "sites": [
            _site(card, is_hybrid=_is_hybrid(values))
            for card in sorted(parties.cards, key=lambda c: c.site_id)
        ],
        "app_bundle_sha256": parties.app_bundle_sha256,
        "model": model,
    }
    prepared = _table(values, "preparation") if "preparation" in values else None
    values |= with_noise(_table(values, "privacy"), prepared, training)
    return build(StudyPlan, values, name="the draft"), initial


def _model(
    table: Mapping[str, Any], file: bytes | None, entropy: Entropy
) -> tuple[dict[str, Any], bytes]:
    is_file = table.get("initialisation") == "file"
    if is_file != (file is not None):
        raise ConfigError(
            ErrorCode.CONFIG_USAGE,
            'Own weights need initialisation = "file" in [model] and --weights FILE, both.',
            hint="Without either, the model starts from a seed.",
        )
    values = dict(table) if is_file else {"initialisation_seed": entropy(32).hex(), **table}
    blank = {**values, "parameters": 1, "initial_weights_sha256": "0" * 64}
    shape = build(ModelTerms, blank, name="the draft's [model]")
    if file is None:
        weights = to_safetensors(shape, initial_parameters(shape))
    else:
        weights = fit_weights(shape, file)
    values["parameters"] = parameter_count(shape)
    values["initial_weights_sha256"] = sha256_hex(weights)
    return values, weights


def _profile_digest(data: Mapping[str, Any]) -> str:
    folder = resources.files("coordinator.client") / "templates"
    known = json.loads((folder / "deid_profiles.json").read_text(encoding="utf-8"))
    return str(known.get(data.get("source"), ""))


def _outputs(values: Mapping[str, Any]) -> dict[str, Any]:
    """Complete the outputs of a recoverable plan: it cannot run without what unmasks its sums."""
    aggregation, listed = values.get("aggregation"), values.get("outputs")
    if not isinstance(aggregation, dict) or aggregation.get("mode") != "recoverable":
        return {}
    if not isinstance(listed, list):
        return {}
    return {"outputs": [*listed, *(kind for kind in _UNMASKING if kind not in listed)]}


def _is_hybrid(values: Mapping[str, Any]) -> bool:
    aggregation = values.get("aggregation", {})
    return isinstance(aggregation, dict) and aggregation.get("pair_root") == "x25519-ml-kem-768"


def _site(card: IdentityCard, *, is_hybrid: bool) -> dict[str, str]:
    return ({"kem_key": card.kem_key} if is_hybrid else {}) | {
        "site_id": card.site_id,
        "name": card.name,
        "identity_key": card.identity_key,
        "approval_key": card.approval_key,
        "study_key": card.study_key,
    }


def _table(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    table = values.get(name)
    if not isinstance(table, dict):
        raise ConfigError(ErrorCode.CONFIG_INVALID, f"The draft has no table [{name}].")
    return table
