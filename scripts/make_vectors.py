"""How are the test vectors of the secure sum made, and are those on disk the ones it makes?

    python -m scripts.make_vectors            write tests/vectors/
    python -m scripts.make_vectors --check    compare; exit 1 and name every file that differs

The vectors come from the reference site of the tests, which is written from SECAGG.md and shares no
code with the product. Only the ML-KEM ciphertexts are recorded (`kem-ciphertexts.json`): the
library encapsulates with its own randomness.
"""

from __future__ import annotations

import json
import sys
from functools import cache
from pathlib import Path
from typing import Any, Final

from tests.support import vectors_bad, vectors_good, vectors_text

FOLDER: Final = Path(__file__).resolve().parents[1] / "tests" / "vectors"


@cache
def wanted() -> dict[str, str]:
    """Return every file's text by its path below the folder."""
    cases = vectors_good.cases()
    good = {f"good/{name}.json": vectors_text.as_vector(case) for name, case in cases.items()}
    bad = {f"bad/{name}.json": vector for name, vector in vectors_bad.bad(cases).items()}
    vectors = good | bad | {"tags.json": vectors_good.tags()}
    return {path: _text(vector) for path, vector in sorted(vectors.items())}


def differences(folder: Path = FOLDER) -> list[str]:
    """Return the paths that are missing, superfluous or different, sorted."""
    files = wanted()
    found = {
        str(path.relative_to(folder)): path.read_text(encoding="utf-8")
        for path in folder.rglob("*.json")
        if path.name != vectors_good.KEM_FILE.name
    }
    return sorted(
        path for path in files.keys() | found.keys() if files.get(path) != found.get(path)
    )


def write(folder: Path = FOLDER) -> int:
    """Write every file, remove what no longer belongs, and return the number of files."""
    files = wanted()
    for path in differences(folder):
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if path in files:
            target.write_text(files[path], encoding="utf-8")
        else:
            target.unlink()
    return len(files)


def _text(vector: dict[str, Any]) -> str:
    return json.dumps(vector, indent=1, ensure_ascii=False) + "\n"


def main(arguments: list[str]) -> int:
    """Write, or with ``--check`` compare."""
    if arguments == ["--check"]:
        differing = differences()
        for path in differing:
            print(f"differs: tests/vectors/{path}")
        return 1 if differing else 0
    if arguments:
        print(__doc__)
        return 2
    print(f"{write()} vectors in {FOLDER}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
