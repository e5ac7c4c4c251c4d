#!/usr/bin/env bash
# VoxPopuli: recognition; with interpretation translation of speech into speech.
# Where the downloads lie: --downloads DIR, or db.sh. Which languages: --langs "fr de". --help lists all options.
# Without --targets no speech is made: no codec ids and no stages 9, 11 and 14. README.md has the other way.
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
    --skip_stages "9 11 14" \
    --called_as "${called_as% }" "$@"
