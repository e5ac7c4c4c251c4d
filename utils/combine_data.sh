#!/usr/bin/env bash
# The union of data directories: [--extra-files "FILES"] [--skip-fix true] DST SRC1 SRC2 ...
set -euo pipefail

root=$(CDPATH="" cd -P "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=egs/TEMPLATE/path.sh
. "${root}/egs/TEMPLATE/path.sh"
exec python -m audiopalm.bin.data_dir combine_data.sh "$@"
