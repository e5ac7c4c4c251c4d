#!/usr/bin/env bash
# Copy a data directory: [--utt-prefix P] [--utt-suffix S] [--spk-prefix P] [--spk-suffix S] SOURCE TARGET
set -euo pipefail

root=$(cd -P "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=egs/TEMPLATE/path.sh
. "${root}/egs/TEMPLATE/path.sh"
exec python -m audiopalm.bin.data_dir copy "$@"
