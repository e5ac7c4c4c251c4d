#!/usr/bin/env bash
# Copy a data directory and validate the copy: [--utt-prefix P] [--utt-suffix S] [--spk-prefix P] [--spk-suffix S]
# [--validate-opts "OPTIONS"] [--utt-extra-files "FILES"] SRC DST
set -euo pipefail

root=$(CDPATH="" cd -P "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=egs/TEMPLATE/path.sh
. "${root}/egs/TEMPLATE/path.sh"
exec python -m audiopalm.bin.data_dir copy_data_dir.sh "$@"
