#!/usr/bin/env bash
# Set up the environment, then run all checks: ruff, lint-imports, shellcheck, pytest, and beside pytest mypy and the build of
# docs/. Arguments go to pytest: tools/test.sh tests/recipes -x
set -euo pipefail

cd -P "$(dirname "${BASH_SOURCE[0]}")/.."
tools/setup.sh
# shellcheck source=egs/TEMPLATE/path.sh
. egs/TEMPLATE/path.sh

# Three processes of pytest with one thread each on two cores, because the models of the tests are too small for more threads
# and many tests wait for jobs. Where a test has two threads, waiting threads yield their core to the other processes.
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE
log=${TMPDIR:-/tmp}/audiopalm_test_$(id -u).log

echo "== ruff =="
ruff check .
echo "== lint-imports =="
lint-imports --no-cache > "${log}.imports" || { cat "${log}.imports"; exit 1; }
echo "== shellcheck =="
git ls-files -co --exclude-standard '*.sh' '.ci/run' | xargs shellcheck -x

status=0
types_and_docs() {
    local failed=0
    echo "== mypy =="
    mypy audiopalm || failed=1
    echo "== docs =="
    tools/docs.sh || failed=1
    return "${failed}"
}
types_and_docs > "${log}.beside" 2>&1 &
beside=$!
trap 'kill "${beside}" 2> /dev/null || true' EXIT
echo "== pytest (log: ${log}) =="
# All tests of a file run in one process, in the order of tests/conftest.py.
python -m pytest -q -ra -n 3 --dist loadfile --no-loadscope-reorder "$@" 2>&1 | tee "${log}" || status=1
wait "${beside}" || status=1
cat "${log}.beside"
exit "${status}"
