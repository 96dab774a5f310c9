"""In which consortia is the search played: how many sites, which bounds, who colludes?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from schemas.canonical import sha256_hex
from schemas.governance.study import StudyPlan
from schemas.models import initial_parameters, to_safetensors
from schemas.signing import SignedDocument
from tests.search.ideal import MEMORY, IdealEd25519, IdealX25519
from tests.support.factories import SiteKeys, make_keys, plan_with, sealed_approval


@dataclass(frozen=True, slots=True)
class Scene:
    """One shape of consortium.

    Attributes:
        n_sites: hospitals in the plan.
        collusion_bound: t.
        cohort_minimum: m_min, at least t + 2.
        maximum_dropouts: 0 for atomic mode.
        steps: rounds of training.
        colluders: how many of the hospitals play with the coordinator, at most t.
    """

    n_sites: int
    collusion_bound: int
    cohort_minimum: int
    maximum_dropouts: int = 0
    steps: int = 1
    colluders: int = 0

    @property
    def corrupt(self) -> frozenset[str]:
        """The colluding sites: the first ones, since names carry no power."""
        return frozenset(site_name(place) for place in range(self.colluders))


ATOMIC = (
    Scene(3, 1, 3),
    Scene(4, 1, 3),
    Scene(4, 1, 3, colluders=1),
    Scene(4, 1, 3, steps=2),
    Scene(5, 1, 3, steps=2, colluders=1),
    Scene(6, 1, 3),
    Scene(6, 2, 4, colluders=2),
)
RECOVERABLE = (
    Scene(4, 1, 3, maximum_dropouts=1),
    Scene(4, 1, 3, maximum_dropouts=1, colluders=1),
    Scene(5, 1, 3, maximum_dropouts=1, colluders=1),
    Scene(5, 1, 3, maximum_dropouts=1, steps=2),
    Scene(6, 1, 3, maximum_dropouts=2),
    Scene(6, 1, 3, maximum_dropouts=2, colluders=1),
    Scene(6, 1, 5, maximum_dropouts=1, colluders=1),
    Scene(7, 2, 4, maximum_dropouts=2, colluders=2),
)
SCENES = ATOMIC + RECOVERABLE


def site_name(place: int) -> str:
    """Return the name of the site at ``place``."""
    return f"site-{place + 1}"


@dataclass(frozen=True, slots=True)
class Ground:
    """What every schedule of one scene begins with."""

    plan: StudyPlan
    identity: Mapping[str, IdealEd25519]
    study: Mapping[str, IdealX25519]
    approvals: tuple[SignedDocument, ...]
    weights: bytes

    def begin(self, scene: Scene) -> None:
        """Tell the memory whose long-lived keys the adversary does not hold."""
        for site, key in self.study.items():
            if site not in scene.corrupt:
                MEMORY.honest_keys.add(key.public_key().public_bytes_raw())


def ground_of(scene: Scene) -> Ground:
    """Return plan, keys and approvals of a scene, made once; inside `hospitals` only."""
    return _ground(replace(scene, colluders=0))


@cache
def _keys(place: int) -> SiteKeys:
    """Real keys, because a plan holds only usable ones; their public halves become names."""
    real = make_keys()
    return SiteKeys(
        identity=IdealEd25519(real.identity.public_key().public_bytes_raw()),  # type: ignore[arg-type]
        approval=IdealEd25519(real.approval.public_key().public_bytes_raw()),  # type: ignore[arg-type]
        study=IdealX25519(real.study.public_key().public_bytes_raw()),  # type: ignore[arg-type]
        node=real.node,
        kem=real.kem,
    )


@cache
def _ground(scene: Scene) -> Ground:
    keys = {site_name(place): _keys(place) for place in range(scene.n_sites)}
    settings: dict[str, Any] = {
        "collusion_bound": scene.collusion_bound,
        "cohort_minimum": scene.cohort_minimum,
        "training": {
            "steps": scene.steps,
            "average_from_step": scene.steps,
            "retry_cap": 20,
            "integer_clip": 2**14,
        },
        "model": {
            "features": [{"column": "age", "encoding": "scale", "minimum": 20, "maximum": 90}],
            "parameters": 2,
        },
        "evaluation": {"bins": 2},
    }
    if scene.maximum_dropouts:
        settings["aggregation"] = {
            "mode": "recoverable",
            "maximum_dropouts": scene.maximum_dropouts,
        }
        settings["outputs"] = [
            "masked-update",
            "masked-evaluation",
            "survivor-confirmation",
            "unmasking",
            "model-hash",
            "release",
            "refusal",
        ]
    draft = plan_with(keys, **settings)
    weights = to_safetensors(draft.model, initial_parameters(draft.model))
    settings["model"]["initial_weights_sha256"] = sha256_hex(weights)
    plan = plan_with(keys, **settings)
    return Ground(
        plan=plan,
        identity={site: mine.identity for site, mine in keys.items()},  # type: ignore[misc]
        study={site: mine.study for site, mine in keys.items()},  # type: ignore[misc]
        approvals=tuple(sealed_approval(plan, site, keys) for site in keys),
        weights=weights,
    )
