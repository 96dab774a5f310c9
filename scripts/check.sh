#!/usr/bin/env bash
# The whole gate before the tests: formatting, lint, types, import contracts. CI runs the same file.
set -euo pipefail
cd "$(dirname "$0")/.."
BIN=${BIN:-.venv/bin}
"$BIN/ruff" format --check .
"$BIN/ruff" check .
"$BIN/mypy"
"$BIN/lint-imports"
