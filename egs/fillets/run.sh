#!/usr/bin/env bash
# Finetuning of the shipped model on two languages that it has never heard: human Czech and Dutch dialogue.
# The speech comes from Debian's packages, installed or in --downloads DIR (README.md). --help lists all options.
set -euo pipefail

called_as=$(printf '%q ' "$0" "$@")
cd "$(dirname "${BASH_SOURCE[0]}")"

exec ../TEMPLATE/audiopalm.sh \
    --scale small \
    --init_pack shipped \
    --vocabulary_args "new_pieces=600" \
    --skip_stages "11" \
    --called_as "${called_as% }" "$@"
