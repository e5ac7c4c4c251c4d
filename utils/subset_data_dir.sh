#!/usr/bin/env bash
# Part of a data directory: [--first|--last|--shortest|--per-spk|--speakers] SRC N DST, at random without an option, or
# --utt-list|--spk-list FILE SRC DST
set -euo pipefail

root=$(CDPATH="" cd -P "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=egs/TEMPLATE/path.sh
. "${root}/egs/TEMPLATE/path.sh"
exec python -m audiopalm.bin.data_dir subset_data_dir.sh "$@"
