#!/usr/bin/env bash
# Sort a data directory's tables and keep the utterances that all tables have. Prints which table lost which ids:
# [--utt-extra-files "FILES"] [--spk-extra-files "FILES"] DIR
set -euo pipefail

root=$(CDPATH="" cd -P "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=egs/TEMPLATE/path.sh
. "${root}/egs/TEMPLATE/path.sh"
exec python -m audiopalm.bin.data_dir fix_data_dir.sh "$@"
