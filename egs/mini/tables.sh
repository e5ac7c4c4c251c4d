#!/usr/bin/env bash
# The paper's claims in small, after ./run.sh: trains the systems of conf/tables/tables.yaml that the named tables compare, for
# each seed in a folder of its own, decodes, scores, and writes tables.json, TABLES.md and a page of plots. Finished runs are not
# repeated. `./tables.sh` runs all tables, `./tables.sh table5 hours` two of them. Options (defaults in brackets):
#
#   --dry_run BOOL        true: print the hours that the missing runs take, and run nothing [false]
#   --missing_only BOOL   true: leave out runs whose scores RESULTS has, from this machine or another [false]
#   --pages_only BOOL     true: write the pages from RESULTS, and run nothing [false]
#   --seeds "NS"          [those of the design]
#   --parallel N          number of simultaneous runs, which share the cores [1]
#   --cmd "CMD"           launcher of the jobs of every run, as of run.sh: with slurm.pl, --parallel may be large []
#   --expdir DIR          folder of the runs, DIR/<system>_seed<N> [exp/tables]
#   --lm_args "ARGS"      further arguments of every stage 8; such a run needs its own --expdir, --results and --report []
#   --results FILE        scores of all runs [tables.json]
#   --report FILE         the page [TABLES.md]
#   --plots FILE          the page of plots [EXPDIR/plots.html]
#   --help                this text
set -euo pipefail

dry_run=false
missing_only=false
pages_only=false
seeds=
parallel=1
cmd=
expdir=exp/tables
lm_args=
results=tables.json
report=TABLES.md
plots=

cd "$(dirname "${BASH_SOURCE[0]}")"
tables=()
while [ $# -gt 0 ] && [[ "$1" != -* ]]; do tables+=("$1"); shift; done
# shellcheck source=utils/parse_options.sh
. ../../utils/parse_options.sh
../../tools/setup.sh
# shellcheck source=egs/TEMPLATE/path.sh
. ./path.sh

flags=()
if "${dry_run}"; then flags+=(--dry_run); fi
if "${missing_only}"; then flags+=(--missing_only); fi
if "${pages_only}"; then flags+=(--pages_only); fi
exec python -m audiopalm.bin.ablations --seeds "${seeds}" --parallel "${parallel}" --cmd "${cmd}" --expdir "${expdir}" \
    --lm_args "${lm_args}" --results "${results}" --report "${report}" --plots "${plots:-${expdir}/plots.html}" \
    ${flags[@]+"${flags[@]}"} -- ${tables[@]+"${tables[@]}"} "$@"
