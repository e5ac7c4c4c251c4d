#!/usr/bin/env bash
# Stage 1: the packages fillets-ng-data, -cs and -nl of Debian -> data/{train,dev,test}. The driver calls it; by hand
# it is ./local/data.sh. Options (defaults in brackets; --help lists all):
#
#   --downloads DIR       the folder of the installed packages, or one with the three packages unpacked [FILLETS of db.sh]
#   --langs "CODES"       cs, nl [both]
#   --max_drop FRACTION   fraction of a set's lines that may be dropped [0.05]
#   --output DIR          data directories [data]
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=egs/TEMPLATE/path.sh
. ./path.sh
# shellcheck source=egs/TEMPLATE/db.sh
. ./db.sh

exec python -m audiopalm.bin.prepare --corpus fillets --downloads "${FILLETS}" --output data "$@"
