#!/usr/bin/env bash
# Measure this package on one GPU, in at most 8 minutes, without network:
#
#   benchmarks/gpu.sh                       # one GPU; the environment of tools/setup.sh, which is made if it is missing
#   benchmarks/gpu.sh --device cpu --tiny   # the same parts at tiny shapes on a CPU, as a test of this script
#
# The last line is one JSON object. benchmarks/gpu.py lists the measurements.
set -euo pipefail

root=$(CDPATH="" cd -P "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
"${root}/tools/setup.sh"
python=${AUDIOPALM_PYTHON:-${AUDIOPALM_VENV:-${root}/.venv}/bin/python}
HF_HUB_OFFLINE=1 PYTHONPATH=${root} exec "${python}" "${root}/benchmarks/gpu.py" "$@"
