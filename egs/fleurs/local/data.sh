#!/usr/bin/env bash
# Stage 1: FLEURS as its publisher ships it -> data/{train,dev,test}. The driver calls it; by hand it is
# ./local/data.sh --langs "fr_fr en_us". Options (defaults in brackets; --help lists all):
#
#   --downloads DIR       the corpus, archives or unpacked [FLEURS of db.sh]
#   --langs "CODES"       its languages, as the corpus spells them [all]
#   --max_drop FRACTION   fraction of a set's rows that may be dropped [0.05]
#   --output DIR          data directories [data]
#   --unpacked DIR        contents of archives [dump/unpacked]
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=egs/TEMPLATE/path.sh
. ./path.sh
# shellcheck source=egs/TEMPLATE/db.sh
. ./db.sh

exec python -m audiopalm.bin.prepare --corpus fleurs --downloads "${FLEURS}" --output data --unpacked dump/unpacked "$@"
