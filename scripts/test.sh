#!/usr/bin/env bash
# The whole suite on two cores: tests that wait for processes, beside tests that compute.
set -uo pipefail
cd "$(dirname "$0")/.."
python=.venv/bin/python
log=build/computing-tests.log
mkdir -p build

# The tests that wait end sooner than those that compute, so de-identification's follow them.
deid=(tests/deid tests/unit/deid)
echo "Tests of separate processes run here; all others beside them, shown afterwards ($log)."
"$python" -m pytest tests --ignore=tests/integration "${deid[@]/#/--ignore=}" >"$log" 2>&1 &
computing=$!
trap 'kill "$computing" 2>/dev/null' INT TERM
"$python" -m pytest tests/integration
processes_status=$?
"$python" -m pytest "${deid[@]}"
deid_status=$?
wait "$computing"
computing_status=$?
cat "$log"
((processes_status == 0 && deid_status == 0 && computing_status == 0))
