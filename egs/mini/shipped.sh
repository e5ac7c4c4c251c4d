#!/usr/bin/env bash
# Score the shipped model, pretrained/pack, as recipe mini-shipped, without training. Besides the test sets of run.sh it decodes
# distorted copies of `test` (test_robust_NAME, audiopalm/data/distortion.py) and other wordings (test_paraphrase), and more
# utterances as speech. Options are those of run.sh, for example --stage 10 or --publish true.
set -euo pipefail

called_as=$(printf '%q ' "$0" "$@")
cd "$(dirname "${BASH_SOURCE[0]}")"

exec ./run.sh \
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
    --called_as "${called_as% }" "$@"
