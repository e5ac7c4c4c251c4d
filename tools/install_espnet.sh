#!/usr/bin/env bash
# Install ESPnet into the given Python without its dependencies. Usage: tools/install_espnet.sh [PYTHON]
#
# espnet 202511, the last release for Python 3.11, requires setuptools below 74, and torch 2.13 requires 77 or later. pip
# cannot install both: it would replace torch by an older CUDA build. The packages that espnet imports are in
# tools/requirements.txt; audiopalm/core/optional.py replaces the others. So `pip check` lists missing requirements of espnet.
set -euo pipefail

ESPNET=202511
"${1:-python3}" -m pip install --no-compile --no-deps "espnet==${ESPNET}"
