#!/usr/bin/env bash
# FLEURS: recognition and translation, decoded by the models of another recipe.
# Where the downloads lie: --downloads DIR, or db.sh. Which languages: --langs "fr_fr en_us". --help lists all options.
# The paper trains on none of it: dev and test alone, units of stage 3 and models of stages 6 to 8 from egs/covost2.
set -euo pipefail

called_as=$(printf '%q ' "$0" "$@")
cd "$(dirname "${BASH_SOURCE[0]}")"

exec ../TEMPLATE/audiopalm.sh \
    --train_set dev \
    --valid_set dev \
    --test_sets test \
    --audio_format flac.ark \
    --models ../covost2/exp \
    --tokenize_args "--codec_tokens false" \
    --score_args "--translations none" \
    --skip_stages "3 4 6 7 8 9 11 14" \
    --called_as "${called_as% }" "$@"
