#!/usr/bin/env bash
# Part of a data directory: [--first|--last|--shortest|--per-spk] N SOURCE TARGET, or --utt-list|--spk-list F SOURCE TARGET
set -euo pipefail

root=$(cd -P "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=egs/TEMPLATE/path.sh
. "${root}/egs/TEMPLATE/path.sh"
exec python -m audiopalm.bin.data_dir subset "$@"
