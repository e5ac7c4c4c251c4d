#!/usr/bin/env bash
# Installs ESPnet into the given Python without its dependencies. Usage: tools/install_espnet.sh [PYTHON]
#
# espnet 202511, the last release for Python 3.11, asks for setuptools below 74, and torch 2.13 for 77 or later: pip cannot
# install both, and alone it would replace torch by an older CUDA build. What espnet imports is in tools/requirements.txt;
# audiopalm/core/optional.py stands in for the rest. `pip check` therefore lists absent requirements of espnet: expected.
set -euo pipefail

ESPNET=202511
"${1:-python3}" -m pip install --no-compile --no-deps "espnet==${ESPNET}"
