"""Are the installed versions of the six fixed packages the ones this release was built for?

A resolver may walk back silently (an unpinned flwr once became a release of 2023), so the versions
are asserted after every installation instead of trusted.
"""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, version

EXPECTED = {
    "flwr": "1.41.0",
    "torch": "2.13.0",
    "pydicom": "3.0.2",
    "opacus": "1.6.0",
    "pyarrow": "26.0.1",
    "cryptography": "50.0.2",
}


def installed() -> dict[str, str]:
    """Return the public version (local label such as ``+cpu`` removed) of each fixed package."""
    found = {}
    for name in EXPECTED:
        try:
            found[name] = version(name).split("+")[0]
        except PackageNotFoundError:
            found[name] = "missing"
    return found


def main() -> int:
    """Print one line per package; return 1 when any differs from the expectation."""
    found = installed()
    wrong = [name for name, expected in EXPECTED.items() if found[name] != expected]
    for name, expected in EXPECTED.items():
        mark = "!!" if name in wrong else "ok"
        print(f"{mark} {name} {found[name]} (expected {expected})")
    if wrong:
        print("Remove .venv and run the command again; then report this with the lines above.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
