#!/usr/bin/env bash
# Stage 1: several corpora -> data/<corpus>/{train,dev,test}, and combined data/{train,dev}_NAME and
# data/<corpus>_test. run.sh calls it through the driver. Options (defaults in brackets; --help lists all):
#
#   --downloads DIR       the folder of all corpora; README.md lists the files [JOINT of db.sh]
#   --corpora NAMES       some of covost2 cvss voxpopuli common_voice spoken_mt
#   --name NAME           the ending of the combined sets: ast or s2st [joint]
#   --langs "CODES"       Common Voice's codes; each corpus takes its own languages of them [all]
#   --targets CODES       VoxPopuli's languages of interpretation [none]
#   --version c|t         of CVSS [c]
#   --max_drop FRACTION   fraction of a set's rows that may be dropped [0.05]
#   --output DIR          data directories [data]
#   --unpacked DIR        contents of archives [dump/unpacked]
#
# Values with spaces, which --data_args would split, come from the environment. JOINT_MT_TEXT is a folder of parallel texts,
# which becomes OUTPUT/mt_text. JOINT_SYNTHESIZE_MT is a command that speaks them into OUTPUT/spoken_mt in JOINT_NJ jobs.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=egs/TEMPLATE/path.sh
. ./path.sh
# shellcheck source=egs/TEMPLATE/db.sh
. ./db.sh

output=data
for ((i = 1, next = 2; i <= $#; i++, next++)); do
    case "${!i}" in --output) output=${!next} ;; --output=*) output=${!i#*=} ;; esac
done
if [ -n "${JOINT_MT_TEXT:-}" ]; then
    python -m audiopalm.bin.prepare_texts --input "${JOINT_MT_TEXT}" --output "${output}/mt_text"
fi
if [ -n "${JOINT_SYNTHESIZE_MT:-}" ]; then
    [ -d "${output}/mt_text" ] || { echo "data.sh: error: --synthesize_mt speaks the texts of --mt_text, which is not given" >&2; exit 1; }
    python -m audiopalm.bin.speak_texts --input "${output}/mt_text" --output "${output}/spoken_mt" \
        --command "${JOINT_SYNTHESIZE_MT}" --nj "${JOINT_NJ:-2}"
fi
exec python -m audiopalm.bin.prepare --corpus joint --downloads "${JOINT}" --output data --unpacked dump/unpacked "$@"
