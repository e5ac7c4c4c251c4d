#!/usr/bin/env bash
# Split a data directory into SOURCE/split<N>/1 ... N, the utterances of a speaker together unless --per-utt: [--per-utt] SRC N
set -euo pipefail

root=$(CDPATH="" cd -P "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=egs/TEMPLATE/path.sh
. "${root}/egs/TEMPLATE/path.sh"
exec python -m audiopalm.bin.data_dir split_data.sh "$@"
