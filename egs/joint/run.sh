#!/usr/bin/env bash
# The paper's two mixtures over several corpora. Options of its own (defaults in brackets), before those of all recipes:
#
#   --mixture NAME        ast: recognition and translation into text; s2st: into speech too [ast]
#   --corpora "NAMES"     covost2 cvss voxpopuli common_voice spoken_mt [all, for ast without cvss; spoken_mt only with
#                         --synthesize_mt]
#   --mt_text DIR         further parallel texts to train on, such as WMT's: news.fr-en.tsv, or news.fr-en.fr and
#                         news.fr-en.en; stage 1 reads them into data/mt_text []
#   --synthesize_mt "CMD" a command with {text}, {lang} and {out}, by which stage 1 speaks these texts into
#                         data/spoken_mt: 'espeak-ng -v {lang} -w {out} -- {text}' []
set -euo pipefail

called_as=$(printf '%q ' "$0" "$@")
cd "$(dirname "${BASH_SOURCE[0]}")"

mixture=ast corpora="" mt_text="" synthesize_mt=""
nj=2 datadir=data data_args=""  # options of the driver that this script reads too
others=()
export mixture corpora mt_text synthesize_mt  # so that the driver accepts them in a file of --config
for ((i = 1, next = 2; i <= $#; i++, next++)); do  # the command line overrides the file, in any order
    case "${!i}" in --config) file=${!next:-} ;; --config=*) file=${!i#*=} ;; *) continue ;; esac
    # shellcheck disable=SC1090
    if [ -r "${file}" ]; then . "${file}"; fi
done
while [ $# -gt 0 ]; do
    case "$1" in
        --help | -h) sed -n -e '1d' -e '/^#/!q' -e 's/^# \{0,1\}//p' run.sh; exec ../TEMPLATE/audiopalm.sh --help ;;
        --?*=*) set -- "${1%%=*}" "${1#*=}" "${@:2}" ;;
    esac
    [ $# -ge 2 ] || { others+=("$1"); break; }
    name=${1#--}
    name=${name//-/_}
    case "${name}" in
        mixture | corpora | mt_text | synthesize_mt | data_args) printf -v "${name}" '%s' "$2" ;;
        nj | datadir) printf -v "${name}" '%s' "$2"; others+=("$1" "$2") ;;
        *) others+=("$1" "$2") ;;
    esac
    shift 2
done

case "${mixture}" in
    ast)
        corpora=${corpora:-covost2 voxpopuli common_voice${synthesize_mt:+ spoken_mt}} decoded="covost2 voxpopuli" more=""
        options=(--lm_config conf/lm.yaml --decode_config conf/decode.yaml --skip_stages "9 11 14"
            --pretrained ../mini/pretrained/pack --tokenize_args "--codec_tokens false") ;;
    s2st)
        corpora=${corpora:-covost2 cvss voxpopuli common_voice${synthesize_mt:+ spoken_mt}}
        decoded="covost2 cvss voxpopuli" more="--targets en"
        options=(--lm_config conf/lm_s2st.yaml --decode_config conf/decode_s2st.yaml
            --train_codec true --synthesize_args "--true_tokens en --true_most 100") ;;
    *) echo "run.sh: error: --mixture takes ast or s2st, not '${mixture}'" >&2; exit 1 ;;
esac
test_sets=""
for corpus in ${decoded}; do
    case " ${corpora} " in *" ${corpus} "*) test_sets+=" ${corpus}_test" ;; esac
done
if [ -n "${mt_text}" ] || [ -d "${datadir}/mt_text" ]; then options+=(--text_dir "${datadir}/mt_text"); fi
# For local/data.sh, because --data_args would split a command with quotes.
export JOINT_MT_TEXT=${mt_text} JOINT_SYNTHESIZE_MT=${synthesize_mt} JOINT_NJ=${nj}

# The mixtures share data and audio; each has its own models and tokens.
exec ../TEMPLATE/audiopalm.sh \
    --data_args "--corpora ${corpora} --name ${mixture} ${more} ${data_args}" \
    --train_set "train_${mixture}" \
    --valid_set "dev_${mixture}" \
    --test_sets "${test_sets# }" \
    --audio_format flac.ark \
    --expdir "exp/${mixture}" \
    --tokendir "dump/tokens_${mixture}" \
    --score_args "--translations none --recipe joint_${mixture}" \
    --report_args "--recipe joint_${mixture}" \
    --pack_args "--recipe joint_${mixture}" \
    "${options[@]}" \
    --called_as "${called_as% }" "${others[@]}"
