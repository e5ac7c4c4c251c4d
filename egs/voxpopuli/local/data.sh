#!/usr/bin/env bash
# Stage 1: VoxPopuli as its publisher ships it -> data/{train,dev,test}. The driver calls it; by hand it is
# ./local/data.sh --langs "fr de". Options (defaults in brackets; --help lists all):
#
#   --downloads DIR       the corpus, archives or unpacked [VOXPOPULI of db.sh]
#   --langs "CODES"       its languages, as the corpus spells them [all]
#   --targets "CODES"     languages of interpretation to add as spoken translations [none]
#   --max_drop FRACTION   fraction of a set's rows that may be dropped [0.05]
#   --output DIR          data directories [data]
#   --unpacked DIR        contents of archives [dump/unpacked]
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=egs/TEMPLATE/path.sh
. ./path.sh
# shellcheck source=egs/TEMPLATE/db.sh
. ./db.sh

exec python -m audiopalm.bin.prepare --corpus voxpopuli --downloads "${VOXPOPULI}" --output data --unpacked dump/unpacked "$@"
