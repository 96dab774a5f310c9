"""How fast is it? ``python -m scripts.bench NAME`` measures one part and writes `build/bench/`.

A benchmark is a module `scripts.bench_NAME` with a ``main``; its options: ``NAME --help``.
"""

from __future__ import annotations

import ast
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path


def available(folder: Path = Path(__file__).parent) -> dict[str, str]:
    """Give name and question of the benchmarks that ``folder`` holds, without running them."""
    found = {}
    for path in sorted(folder.glob("bench_*.py")):
        tree = ast.parse(path.read_text())
        if any(isinstance(each, ast.FunctionDef) and each.name == "main" for each in tree.body):
            question = (ast.get_docstring(tree) or "").partition("\n")[0]
            found[path.stem.removeprefix("bench_")] = question
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one benchmark; its exit status, or 2 for a name that is none."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    names = available()
    if not given or given[0] not in names:
        asked_for_help = bool(given) and given[0] in ("-h", "--help")
        screen = sys.stdout if asked_for_help else sys.stderr
        print(__doc__, file=screen)
        for name, question in names.items():
            print(f"    {name:<10} {question}", file=screen)
        return 0 if asked_for_help else 2
    # One thread, whatever NumPy was built with: rates per core are what is compared.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"
    module = importlib.import_module(f"scripts.bench_{given[0]}")
    return module.main(given[1:]) or 0


if __name__ == "__main__":
    sys.exit(main())
