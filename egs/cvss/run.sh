#!/usr/bin/env bash
# CVSS, from the official downloads to data directories with 16 kHz audio (stages 1 and 2).
# Where the downloads lie: --downloads DIR, or db.sh. Which languages: --langs "fr de". --help lists all options.
# Stages 3 to 14 need configurations in conf/, which are not here yet.
set -euo pipefail

called_as=$(printf '%q ' "$0" "$@")
cd "$(dirname "${BASH_SOURCE[0]}")"
# shellcheck source=egs/TEMPLATE/db.sh
. ./db.sh

exec ../TEMPLATE/audiopalm.sh \
    --called_as "${called_as% }" \
    --corpus cvss \
    --downloads "${CVSS}" \
    --train_set train \
    --valid_set dev \
    --test_sets test \
    --stop_stage 2 \
    "$@"
