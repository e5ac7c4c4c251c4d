#!/usr/bin/env bash
# Set up the environment, then run all checks: ruff, lint-imports, shellcheck, the build of docs/, pytest. Arguments go to pytest:
# tools/test.sh tests/recipes -x
set -euo pipefail

cd -P "$(dirname "${BASH_SOURCE[0]}")/.."
tools/setup.sh
# shellcheck source=egs/TEMPLATE/path.sh
. egs/TEMPLATE/path.sh

# Two processes of pytest with one thread each, because the models of the tests are too small for more threads. Where a test
# has two threads, waiting threads yield their core to the other process.
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE
log=${TMPDIR:-/tmp}/audiopalm_test_$(id -u).log

echo "== ruff =="
ruff check .
echo "== lint-imports =="
lint-imports --no-cache > "${log}.imports" || { cat "${log}.imports"; exit 1; }
echo "== shellcheck =="
git ls-files -co --exclude-standard '*.sh' '.ci/run' | xargs shellcheck -x
echo "== docs =="
tools/docs.sh
echo "== pytest (log: ${log}) =="
# All tests of a file run in one process, in the order of tests/conftest.py.
python -m pytest -q -ra -n 2 --dist loadfile --no-loadscope-reorder "$@" 2>&1 | tee "${log}"
