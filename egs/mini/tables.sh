#!/usr/bin/env bash
# The paper's ablations with small models, after ./run.sh: trains the systems of conf/tables/tables.yaml, for each seed in a
# folder of its own, decodes, scores, and writes tables.json and TABLES.md. Finished runs are not repeated. Options
# (defaults in brackets):
#
#   --only "ROWS"     rows of the page: "table5 table6" [all]
#   --seeds "NS"      ["0 1 2"]
#   --parallel N      number of simultaneous runs, which share the cores [1]
#   --expdir DIR      folder of the runs, DIR/<system>_seed<N> [exp/tables]
#   --lm_args "ARGS"  further arguments of every stage 8; such a run needs its own --expdir, --results and --report []
#   --results FILE    scores of all runs [tables.json]
#   --report FILE     the page [TABLES.md]
#   --help            this text
set -euo pipefail

only=
seeds="0 1 2"
parallel=1
expdir=exp/tables
lm_args=
results=tables.json
report=TABLES.md

cd "$(dirname "${BASH_SOURCE[0]}")"
# shellcheck source=utils/parse_options.sh
. ../../utils/parse_options.sh
../../tools/setup.sh
# shellcheck source=egs/TEMPLATE/path.sh
. ./path.sh

exec python -m audiopalm.bin.ablations --only "${only}" --seeds "${seeds}" --parallel "${parallel}" \
    --expdir "${expdir}" --lm_args "${lm_args}" --results "${results}" --report "${report}"
