#!/usr/bin/env bash
# The embedded corpus, from recordings of people to scores, a page to listen to and a packed model, on two CPU cores.
# Sets everything up first (tools/setup.sh), then runs stages 1 to 14: --stage 10 starts at stage 10, --help lists all.
set -euo pipefail

called_as=$(printf '%q ' "$0" "$@")
cd "$(dirname "${BASH_SOURCE[0]}")"

exec ../TEMPLATE/audiopalm.sh \
    --train_set train \
    --valid_set dev \
    --test_sets "test test_unseen test_prompts" \
    --text_sets test_paraphrase \
    --train_units false \
    --train_acoustic false \
    --synthesize_args "--true_tokens en --true_most 30" \
    --score_args "--forgetting 20" \
    --pack_args "--license cc-by-sa-3.0" \
    --calibrate_args "--outside_texts corpus/outside.yaml --most 20 --outside_most 20 --judge moonshine --judged_most 40" \
    --called_as "${called_as% }" "$@"
