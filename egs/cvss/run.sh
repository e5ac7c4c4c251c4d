#!/usr/bin/env bash
# CVSS: translation of speech into speech.
# Where the downloads lie: --downloads DIR, or db.sh. Which languages: --langs "fr de". --help lists all options.
set -euo pipefail

called_as=$(printf '%q ' "$0" "$@")
cd "$(dirname "${BASH_SOURCE[0]}")"

exec ../TEMPLATE/audiopalm.sh \
    --train_set train \
    --valid_set dev \
    --test_sets test \
    --audio_format flac.ark \
    --train_codec true \
    --synthesize_args "--true_tokens en --true_most 100" \
    --called_as "${called_as% }" "$@"
