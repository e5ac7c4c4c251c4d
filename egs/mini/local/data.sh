#!/usr/bin/env bash
# Stage 1: the embedded corpus -> data/{train,dev,test,test_unseen,test_prompts}. The driver calls it; by hand it is
# ./local/data.sh. Options (defaults in brackets; --help lists all):
#
#   --downloads DIR       the corpus [MINI of db.sh]
#   --output DIR          data directories [data]
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=egs/TEMPLATE/path.sh
. ./path.sh
# shellcheck source=egs/TEMPLATE/db.sh
. ./db.sh

exec python -m audiopalm.bin.prepare --corpus mini --downloads "${MINI}" --output data "$@"
