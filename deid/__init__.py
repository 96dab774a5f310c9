"""How is a hospital's record stripped of identity before anything else touches it? (public API)"""

from __future__ import annotations

from deid.errors import DeidRefusal
from deid.profile import Profile, load_profile, shipped_profile
from deid.pseudonym import Pseudonymiser
from deid.report import DeidReport

__all__ = [
    "DeidRefusal",
    "DeidReport",
    "Profile",
    "Pseudonymiser",
    "load_profile",
    "shipped_profile",
]
