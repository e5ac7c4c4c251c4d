#!/usr/bin/env bash
# CoVoST 2: recognition and translation of speech into text.
# Where the downloads lie: --downloads DIR, or db.sh. Which languages: --langs "fr de". --help lists all options.
# No speech is made, so there are no codec ids and no stages 9, 11 and 14.
set -euo pipefail

called_as=$(printf '%q ' "$0" "$@")
cd "$(dirname "${BASH_SOURCE[0]}")"

exec ../TEMPLATE/audiopalm.sh \
    --train_set train \
    --valid_set dev \
    --test_sets test \
    --audio_format flac.ark \
    --pretrained ../mini/pretrained/pack \
    --tokenize_args "--codec_tokens false" \
    --score_args "--translations none" \
    --skip_stages "9 11 14" \
    --called_as "${called_as% }" "$@"
