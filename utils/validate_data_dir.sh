#!/usr/bin/env bash
# Check whether data directories are valid: [--no-text] [--no-wav] [--no-feats] [--no-spk-sort] [--non-print] DIR...
set -euo pipefail

root=$(CDPATH="" cd -P "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=egs/TEMPLATE/path.sh
. "${root}/egs/TEMPLATE/path.sh"
exec python -m audiopalm.bin.data_dir validate_data_dir.sh "$@"
