#!/usr/bin/env bash
# The scores of the shipped model, pretrained/pack, as recipe mini-shipped: nothing is trained. Beside the test sets of run.sh it
# hears `test` under the distortions of audiopalm/data/distortion.py (test_robust_NAME), translates other wordings
# (test_paraphrase), and speaks more. Options are those of run.sh, for example --stage 10 or --publish true.
set -euo pipefail

called_as=$(printf '%q ' "$0" "$@")
cd "$(dirname "${BASH_SOURCE[0]}")"

exec ./run.sh \
    --called_as "${called_as% }" \
    --expdir exp/shipped \
    --models pretrained/pack \
    --units_exp exp/shipped/units \
    --skip_stages "4 6 7 8 9 14" \
    --train_set dev \
    --text_sets test_paraphrase \
    --conditions "gain telephone noise10 noise0 babble10 reverberation silence speed joined" \
    --decode_config conf/shipped/decode.yaml \
    --score_args "--recipe mini-shipped --dnsmos 3" \
    --report_args "--recipe mini-shipped" \
    "$@"
