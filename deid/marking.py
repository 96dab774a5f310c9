"""Which constants mark a file as written by this software?"""

from __future__ import annotations

from typing import Final

# Drawn once as a random UUID (PS3.5 B.2); it names the software, not a site.
IMPLEMENTATION_UID: Final = "2.25.302741917428853906190237443071398519205"
IMPLEMENTATION_NAME: Final = "COHORTIUM_1"
