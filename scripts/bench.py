"""How fast is it? ``python -m scripts.bench NAME`` measures one part and writes `build/bench/`.

    secagg      masking, summing and recovery against AES, NumPy and flwr
    transport   large bodies between real processes
    utility     what the privacy costs in accuracy

Each is the ``main`` of the module `scripts.bench_NAME`, with options of its own (``--help``).
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Sequence

NAMES = ("secagg", "transport", "utility")


def available() -> list[str]:
    """Give the benchmarks that this checkout holds."""
    return [name for name in NAMES if importlib.util.find_spec(f"scripts.bench_{name}")]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one benchmark; its exit status, or 2 for a name that is none."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] not in available():
        asked_for_help = bool(given) and given[0] in ("-h", "--help")
        print(__doc__, file=sys.stdout if asked_for_help else sys.stderr)
        print(f"Here: {', '.join(available())}", file=sys.stderr)
        return 0 if asked_for_help else 2
    # One thread, whatever NumPy was built with: rates per core are what is compared.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"
    module = importlib.import_module(f"scripts.bench_{given[0]}")
    return module.main(given[1:]) or 0


if __name__ == "__main__":
    sys.exit(main())
