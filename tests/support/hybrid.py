"""How does a test agree the ML-KEM-768 secrets of a hybrid plan between keys it holds itself?"""

from __future__ import annotations

from collections.abc import Mapping

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PublicKey

from schemas.governance.study import StudyPlan
from schemas.secagg.kem import kem_secret, own_kem_secret
from tests.support.factories import SiteKeys


def agree_kem(plan: StudyPlan, keys: Mapping[str, SiteKeys]) -> dict[str, dict[str, bytes]]:
    """Site -> peer -> secret, for `Party.kem_secrets`; both ends of a pair hold the same."""
    digest = plan.digest()
    found: dict[str, dict[str, bytes]] = {site: {} for site in plan.site_ids}
    for site in plan.site_ids:
        seed = keys[site].kem.private_bytes_raw()
        found[site][site] = own_kem_secret(seed, plan_digest=digest, site_id=site)
        for peer in plan.encapsulated_for(site):
            key = MLKEM768PublicKey.from_public_bytes(bytes.fromhex(plan.site(peer).kem_key or ""))
            shared, ciphertext = key.encapsulate()
            found[site][peer] = found[peer][site] = kem_secret(
                shared, ciphertext, plan_digest=digest, sender=site, receiver=peer
            )
    return found
