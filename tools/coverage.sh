#!/usr/bin/env bash
# Runs the tests and prints the fraction of each file's lines that they run, the lowest first; files without a gap are left
# out. It is slower than tools/test.sh. Arguments go to pytest: tools/coverage.sh tests/core
# Tests that simulate errors of the disk may fail here, because the measurement writes to the same disk; tools/test.sh decides.
set -euo pipefail

cd -P "$(dirname "${BASH_SOURCE[0]}")/.."
tools/setup.sh
# shellcheck source=egs/TEMPLATE/path.sh
. egs/TEMPLATE/path.sh

export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE
folder=$(mktemp -d)
trap 'rm -rf "${folder}"' EXIT
export COVERAGE_FILE=${folder}/coverage

tools/install_packages.sh "$(command -v python)" --quiet coverage==7.17.5
status=0
python -m coverage run -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder "$@" || status=$?
python -m coverage combine --quiet
python -m coverage report --sort=cover
exit "${status}"
