#!/usr/bin/env bash
# The stages of every recipe. run.sh calls this script in the recipe's directory. Options (defaults in brackets; the run.sh of a
# recipe may set others):
#
#   --stage N             first stage to run [1]
#   --stop_stage N        last stage to run [14]
#   --skip_stages "NS"    stages that are left out, such as "9 11" []
#        1 data        5 tokenize     9 acoustic     13 report
#        2 audio       6 vocabulary  10 decode       14 pack
#        3 units       7 textlm      11 synthesize
#        4 codec       8 finetune    12 score        what each reads and writes: docs/stages.md
#   --nj N                jobs of stages 2 and 5 [2]
#   --inference_nj N      jobs of stages 10 and 11 [NJ]
#   --ngpu N              GPUs of a training on each machine; 0: it runs on the CPU [1 where this machine shows a GPU, else 0]
#   --num_nodes N         machines of a training, by cuda_cmd="slurm.pl"; each has NGPU processes, or one on its CPU [1]
#   --gpu_inference BOOL  whether each job of stages 5, 10 and 11 has a GPU [true where NGPU is not 0, else false]
#   --cmd "CMD"           launcher of all jobs, instead of train_cmd (stage 2), cuda_cmd (3, 4, 7, 8, 9, and the jobs with
#                         a GPU) and decode_cmd (other jobs of 5, 10, 11) of cmd.sh: docs/clusters.md [those of cmd.sh]
#   --seed N              seed of every training (stages 3, 4, 7, 8, 9) and of sampling (10, 11); the scores state it [0]
#   --train_units BOOL    true: stage 3 trains units; false: it takes those of --pretrained [true]
#   --train_codec BOOL    true: stage 4 trains a codec; false: it takes the codec of --pretrained [false]
#   --train_acoustic BOOL true: stage 9 trains an acoustic model; false: it takes that of --pretrained, which fits the units
#                         and the codec of --pretrained only [true]
#   --pretrained DIR      a packed model for --train_units, --train_codec and --train_acoustic false [pretrained/pack]
#   --pretrained_units D, --pretrained_codec D, --pretrained_acoustic D
#                         folders of single trained parts, which replace those of --pretrained [none]
#   --trainer NAME        trainer of stage 8: own, or espnet, by conf/espnet_lm.yaml (docs/espnet.md) [own]
#   --publish BOOL        true: stage 12 also merges the scores of EXPDIR into the recipe's results.json and RESULTS.md, which
#                         are committed [false]
#   --init_pack PACK      a packed model to finetune, a folder of stage 14, or shipped, that of egs/mini/pretrained:
#                         stages 3 and 4 take its units and codec, 6 and 7 its vocabulary and LM with pieces for new
#                         languages, 8 and 9 start from its LM and its acoustic model: docs/finetune.md [none]
#   --init_lm LM          a text LM to start from, a folder in Hugging Face's layout or a hub id: stage 6 takes its tokenizer,
#                         stage 7 its weights; stage 8 needs lower learning rates: --lm_config [none: stage 7 trains one]
#   --size NAME           a text LM to start from with its GPUs and batch, conf/lm/NAME/options.conf: 128M, 1B or 8B;
#                         --init_lm and --ngpu override it [none]
#   --text_dir DIR        further training texts of stages 7 and 8, made by audiopalm.bin.prepare_texts: DIR/train and
#                         DIR/dev; not with --trainer espnet [none]
#
#   --downloads DIR       the corpus as its publisher ships it, for local/data.sh [that of local/data.sh, often from db.sh]
#   --langs "CODES"       languages of a corpus that has many, as the corpus spells them: "fr de", for local/data.sh [all]
#   --datadir DIR         data directories of stage 1 [data]
#   --dumpdir DIR         contents of archives of stage 1, audio of stage 2, tokens of stage 5 [dump]
#   --tokendir DIR        tokens of stage 5 [DUMPDIR/tokens]
#   --expdir DIR          models, decodes, scores, logs of stages 3 to 14 [exp]
#   --models DIR          models of stages 3 to 9, for example the EXPDIR of another recipe with --skip_stages [EXPDIR]
#   --units_exp DIR       audio tokenizer of stage 3 [MODELS/units]
#   --codec_exp DIR       codec of stage 4 [MODELS/codec]
#   --audio_format NAME   flac or wav: a file for each piece of speech; flac.ark: archives of many, also in stage 11 [flac]
#   --train_set NAME      [train]
#   --valid_set NAME      [dev]
#   --test_sets "NAMES"   sets that are decoded besides the valid set [test]
#   --text_sets "NAMES"   sets of texts without speech that are decoded too []
#   --conditions "NAMES"  distortions of copies of the first test set, TEST_robust_NAME, which are decoded too: gain,
#                         telephone, noise10, ... (python -m audiopalm.bin.distort --help) []
#
#   --scale NAME          the shared configurations for stages without one of the recipe: small, for two cores and some
#                         hours of speech, or full: conf/README.md at the repository's root [full]
#   --units_config FILE --codec_config FILE --vocabulary_config FILE --textlm_config FILE --lm_config FILE
#   --espnet_lm_config FILE --acoustic_config FILE --decode_config FILE
#                         a path, or the name of a file in the recipe's conf/, else in the shared conf/SCALE
#                         [units.yaml and so on]
#   --data_args "ARGS"    further arguments of local/data.sh, stage 1; of the command of a stage likewise --audio_args,
#                         --units_args, --codec_args, --tokenize_args, --vocabulary_args, --textlm_args, --lm_args,
#                         --acoustic_args, --decode_args, --synthesize_args, --score_args, --report_args, --calibrate_args,
#                         --pack_args []
#   --config FILE         a shell file with options, one NAME=VALUE a line; the command line wins
#   --help                this text
#
# Another seed, with the audio, units and codec of the first:
#   ./run.sh --stage 6 --seed 1 --expdir exp_seed1 --units_exp exp/units --codec_exp exp/codec
set -euo pipefail

stage=1
stop_stage=14
skip_stages=
nj=2
inference_nj=
ngpu=
num_nodes=1
gpu_inference=
cmd=
seed=0
train_units=true
train_codec=false
train_acoustic=true
pretrained=pretrained/pack
pretrained_units=
pretrained_codec=
pretrained_acoustic=
trainer=own
publish=false
init_pack=
init_lm=
size=
text_dir=
downloads=
langs=
datadir=data
dumpdir=dump
tokendir=
expdir=exp
models=
units_exp=
codec_exp=
audio_format=flac
train_set=train
valid_set=dev
test_sets="test"
text_sets=
conditions=
scale=full
units_config=units.yaml
codec_config=codec.yaml
vocabulary_config=vocabulary.yaml
textlm_config=textlm.yaml
lm_config=lm.yaml
espnet_lm_config=espnet_lm.yaml
acoustic_config=acoustic.yaml
decode_config=decode.yaml
data_args=
audio_args=
units_args=
codec_args=
tokenize_args=
vocabulary_args=
textlm_args=
lm_args=
acoustic_args=
decode_args=
synthesize_args=
score_args=
report_args=
calibrate_args=
pack_args=
called_as="./run.sh"  # how the user called the recipe, for the next command that is shown

root=$(CDPATH="" cd -P "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# Words before the last --called_as are defaults of the recipe, which a file of --config overrides.
words=("$@")
for ((i = $#; i > 0; i--)); do [ "${!i}" != --called_as ] || break; done
if [ "${i}" -gt 0 ]; then
    set -- "${words[@]:0:i-1}"
    # shellcheck source=utils/parse_options.sh
    . "${root}/utils/parse_options.sh"
    set -- "${words[@]:i-1}"
fi
# shellcheck source=utils/parse_options.sh
. "${root}/utils/parse_options.sh"

say() { printf '%s\n' "$*"; }
die() { say "audiopalm.sh: error: $*" >&2; exit 1; }

[ $# -eq 0 ] || die "unexpected argument '$1' (--help lists the options)"
[[ "${stage}" =~ ^[0-9]+$ && "${stop_stage}" =~ ^[0-9]+$ ]] || die "--stage and --stop_stage take a number from 1 to 14"
[[ "${trainer}" =~ ^(own|espnet)$ ]] || die "--trainer takes own or espnet, not '${trainer}'"
[[ "${skip_stages}" =~ ^[0-9\ ]*$ ]] || die "--skip_stages takes numbers from 1 to 14, separated by spaces"
[[ "${ngpu}${num_nodes}" =~ ^[0-9]+$ ]] || die "--ngpu and --num_nodes take numbers"
for name in nj inference_nj; do
    [[ "${!name:-1}" =~ ^[1-9][0-9]*$ ]] || die "--${name} takes a number of jobs, from 1 on, not '${!name}'"
done
[[ "${audio_format}" =~ ^(flac|flac\.ark|wav)$ ]] || die "--audio_format takes flac, flac.ark or wav, not '${audio_format}'"
[[ "${gpu_inference}" =~ ^(true|false|)$ ]] || die "--gpu_inference takes true or false, not '${gpu_inference}'"
[[ "${scale}" =~ ^(small|full)$ ]] || die "--scale takes small or full, not '${scale}'"
for name in train_set valid_set test_sets text_sets; do
    [[ "${!name}" != *[/*?[]* ]] || die "--${name} takes names of data directories, not '${!name}'"
done
if [ -n "${size}" ]; then
    [ -f "${root}/conf/lm/${size}/options.conf" ] ||
        die "--size takes one of $(cd "${root}/conf/lm" && printf '%s ' *)not '${size}'"
    given=("${init_lm}" "${ngpu}" "${lm_args}")
    # shellcheck source=conf/lm/1B/options.conf
    . "${root}/conf/lm/${size}/options.conf"
    init_lm=${given[0]:-${init_lm}} ngpu=${given[1]:-${ngpu}} lm_args+=" ${given[2]}"
fi
for part in units codec acoustic; do
    option=pretrained_${part} trained=train_${part}
    [ -z "${!option}" ] || { [ -z "${init_pack}" ] && ! "${!trained}"; } ||
        die "--${option} is for --train_${part} false, and not for --init_pack"
done
if [ -n "${init_pack}" ]; then
    [ -z "${init_lm}" ] || die "--init_pack brings its own LM: it goes with neither --init_lm nor --size"
    ! "${train_codec}" || die "--init_pack brings its own codec: add --train_codec false"
    [ "${init_pack}" != shipped ] || init_pack=${root}/egs/mini/pretrained/pack
    for name in units codec vocabulary lm acoustic; do
        [ -d "${init_pack}/${name}" ] || die "--init_pack ${init_pack} is no packed model of stage 14: it has no ${name}"
    done
    [ ! "${init_pack}" -ef "${models:-${expdir}}" ] || die "--init_pack is the folder that the run would write; give another --expdir"
    pretrained=${init_pack} train_units=false train_acoustic=true
fi
if ! "${train_acoustic}" && { "${train_units}" || "${train_codec}" || [[ "${pretrained_units}" && ! "${pretrained_acoustic}" ]]; }
then
    die "--train_acoustic false takes a model that knows its own units and codec: it goes with --train_units false and" \
        "--train_codec false, and --pretrained_units needs its --pretrained_acoustic"
fi
pretrained_units=${pretrained_units:-${pretrained}/units}
pretrained_codec=${pretrained_codec:-${pretrained}/codec}
pretrained_acoustic=${pretrained_acoustic:-${pretrained}/acoustic}
"${train_units}" || [[ "${units_config}" = units.yaml && -z "${units_args}" ]] ||
    die "--units_config and --units_args are for --train_units true; here ${pretrained_units} is taken"
"${train_acoustic}" || [[ "${acoustic_config}" = acoustic.yaml && -z "${acoustic_args}" ]] ||
    die "--acoustic_config and --acoustic_args are for --train_acoustic true; here ${pretrained_acoustic} is taken"
texts=()
[[ -z "${text_dir}" || "${trainer}" = own ]] || die "--text_dir is for --trainer own; ESPnet's trainer reads no such texts"
[ -z "${text_dir}" ] || texts=(--text_dir "${text_dir}/train" --dev_text_dir "${text_dir}/dev")
tokendir=${tokendir:-${dumpdir}/tokens}
models=${models:-${expdir}}
units_exp=${units_exp:-${models}/units}
codec_exp=${codec_exp:-${models}/codec}
raw=${dumpdir}/raw
logdir=${expdir}/log
shared=${root}/conf
[ ! ../../conf -ef "${shared}" ] || shared=../../conf  # a shorter name for messages
first_test=${test_sets%% *}
# Folders of all sets, and of the sets that are decoded; each set once. Arrays, because a path may contain spaces.
data_dirs=() raw_dirs=() spoken_dirs=() token_dirs=() decoded_raw=() decoded_tokens=() decodes=()
for set in $(printf '%s\n' ${train_set} ${valid_set} ${test_sets} | awk '!seen[$0]++'); do
    data_dirs+=("${datadir}/${set}") raw_dirs+=("${raw}/${set}")
done
robust_sets='' spoken_dirs=("${raw_dirs[@]}")
for name in ${conditions}; do
    robust_sets+=" ${first_test}_robust_${name}"
    spoken_dirs+=("${raw}/${first_test}_robust_${name}")
done
for path in "${spoken_dirs[@]}"; do token_dirs+=("${tokendir}/${path##*/}"); done
# shellcheck disable=SC2086
spoken_sets=$(printf '%s\n' ${valid_set} ${test_sets} ${robust_sets} | awk '!seen[$0]++')
for set in ${spoken_sets} ${text_sets}; do
    decoded_raw+=("${raw}/${set}") decoded_tokens+=("${tokendir}/${set}") decodes+=("${expdir}/decode/${set}")
done

"${root}/tools/setup.sh"
# shellcheck source=egs/TEMPLATE/path.sh
. ./path.sh
# shellcheck source=egs/TEMPLATE/cmd.sh
. ./cmd.sh
# begin, reads, take, run, module, training, inference, writes
# shellcheck source=utils/run_stages.sh
. "${root}/utils/run_stages.sh"

# ---- the stages ------------------------------------------------------------------------------------------------------
# The *_args and lists of sets are split into words on purpose.
# shellcheck disable=SC2046,SC2086
main() {
    local set

    if begin 1 data; then
        reads 0 local/data.sh
        run ./local/data.sh --output "${datadir}" --unpacked "${dumpdir}/unpacked" \
            ${downloads:+--downloads "${downloads}"} ${langs:+--langs "${langs}"} ${data_args}
        run validate_data_dir.sh --no-spk-sort --non-print "${data_dirs[@]}"
        writes "${data_dirs[@]}"
    fi

    if begin 2 audio; then
        reads 1 "${data_dirs[@]}"
        module format_audio --input "${data_dirs[@]}" --output "${raw_dirs[@]}" \
            --audio_dir "${dumpdir}/audio" --audio_format "${audio_format}" \
            --nj "${nj}" --cmd "${train_cmd}" --job_dir "${logdir}/stage2" ${audio_args}
        for set in ${text_sets}; do run copy_data_dir.sh "${datadir}/${set}" "${raw}/${set}"; done
        for name in ${conditions}; do
            module distort --data_dir "${raw}/${first_test}" --output "${raw}/${first_test}_robust_${name}" \
                --audio_dir "${dumpdir}/audio_distorted" --condition "${name}" \
                --nj "${nj}" --cmd "${train_cmd}" --job_dir "${logdir}/stage2"
        done
        writes "${dumpdir}/audio" "${spoken_dirs[@]}"
    fi

    if begin 3 units; then
        reads 2 "${raw}/${train_set}" "${raw}/${valid_set}"
        if "${train_units}"; then
            take "${units_config}"
            training train_units --config "${config}" --data_dir "${raw}/${train_set}" --dev_dir "${raw}/${valid_set}" \
                --output "${units_exp}" --seed "${seed}" ${units_args}
        else
            reads 0 "${pretrained_units}"
            run "${root}/utils/copy_dir.sh" "${pretrained_units}" "${units_exp}"
            module units_report --units "${units_exp}" --data_dir "${raw}/${valid_set}"
        fi
        writes "${units_exp}"
    fi

    if begin 4 codec; then
        if "${train_codec}"; then
            reads 2 "${raw}/${train_set}" "${raw}/${valid_set}"
            take "${codec_config}"
            training train_codec --config "${config}" --data_dir "${raw}/${train_set}" \
                --dev_dir "${raw}/${valid_set}" --output "${codec_exp}" --seed "${seed}" ${codec_args}
        else
            reads 0 "${pretrained_codec}"
            run "${root}/utils/copy_dir.sh" "${pretrained_codec}" "${codec_exp}"
        fi
        writes "${codec_exp}"
    fi

    if begin 5 tokenize; then
        reads 2 "${spoken_dirs[@]}"
        reads 3 "${units_exp}"
        reads 4 "${codec_exp}"
        # Codec ids of the train set are needed only to train an acoustic model. A trained one must fit units and codec.
        local trained=()
        "${train_acoustic}" || trained=(--units_only "${raw}/${train_set}" --acoustic "${pretrained_acoustic}")
        inference "${nj}" tokenize --data_dir "${spoken_dirs[@]}" --units "${units_exp}" --codec "${codec_exp}" \
            --output "${token_dirs[@]}" ${trained[@]+"${trained[@]}"} ${tokenize_args}
        writes "${token_dirs[@]}"
    fi

    if begin 6 vocabulary; then
        reads 2 "${raw}/${train_set}"
        reads 5 "${tokendir}/${train_set}"
        take "${vocabulary_config}"
        module make_vocabulary --config "${config}" --data_dir "${raw}/${train_set}" \
            --tokens "${tokendir}/${train_set}" ${init_lm:+--init_lm "${init_lm}"} \
            ${init_pack:+--init_pack "${init_pack}"} \
            --output "${models}/vocabulary" ${vocabulary_args}
        writes "${models}/vocabulary"
    fi

    if begin 7 textlm; then
        reads 2 "${raw}/${train_set}" "${raw}/${valid_set}"
        reads 6 "${models}/vocabulary"
        if [ -n "${init_lm}${init_pack}" ]; then
            module import_lm ${init_lm:+--init_lm "${init_lm}"} ${init_pack:+--init_pack "${init_pack}"} \
                --vocabulary "${models}/vocabulary" --output "${models}/textlm" --seed "${seed}" ${textlm_args}
        else
            take "${textlm_config}"
            training train_lm --config "${config}" --vocabulary "${models}/vocabulary" \
                --data_dir "${raw}/${train_set}" --dev_data_dir "${raw}/${valid_set}" \
                --output "${models}/textlm" --seed "${seed}" ${texts[@]+"${texts[@]}"} ${textlm_args}
        fi
        writes "${models}/textlm"
    fi

    if begin 8 finetune; then
        reads 5 "${tokendir}/${train_set}" "${tokendir}/${valid_set}"
        reads 6 "${models}/vocabulary"
        reads 7 "${models}/textlm"
        take "${lm_config}"
        if [ "${trainer}" = espnet ]; then
            local mixture=${config}
            take "${espnet_lm_config}"
            training espnet_train_lm --config "${config}" --mixture "${mixture}" --vocabulary "${models}/vocabulary" \
                --init_lm "${models}/textlm" \
                --train_data_dir "${raw}/${train_set}" --train_tokens "${tokendir}/${train_set}" \
                --valid_data_dir "${raw}/${valid_set}" --valid_tokens "${tokendir}/${valid_set}" \
                --output_dir "${models}/espnet_lm" --output "${models}/lm" --seed "${seed}" ${lm_args}
        else
            training train_lm --config "${config}" \
                --vocabulary "${models}/vocabulary" --init_lm "${models}/textlm" \
                --data_dir "${raw}/${train_set}" --tokens "${tokendir}/${train_set}" \
                --dev_data_dir "${raw}/${valid_set}" --dev_tokens "${tokendir}/${valid_set}" \
                --output "${models}/lm" --seed "${seed}" ${texts[@]+"${texts[@]}"} ${lm_args}
        fi
        writes "${models}/lm"
    fi

    if begin 9 acoustic; then
        reads 4 "${codec_exp}"
        reads 5 "${tokendir}/${train_set}" "${tokendir}/${valid_set}"
        if "${train_acoustic}"; then
            take "${acoustic_config}"
            training train_acoustic --config "${config}" \
                --data_dir "${raw}/${train_set}" --tokens "${tokendir}/${train_set}" \
                --dev_data_dir "${raw}/${valid_set}" --dev_tokens "${tokendir}/${valid_set}" \
                --codec "${codec_exp}" ${init_pack:+--init_model "${init_pack}/acoustic"} \
                --output "${models}/acoustic" --seed "${seed}" ${acoustic_args}
        else
            reads 0 "${pretrained_acoustic}"
            run "${root}/utils/copy_dir.sh" "${pretrained_acoustic}" "${models}/acoustic"
        fi
        writes "${models}/acoustic"
    fi

    if begin 10 decode; then
        reads 2 "${decoded_raw[@]}"
        reads 5 "${token_dirs[@]}"
        reads 6 "${models}/vocabulary"
        reads 8 "${models}/lm"
        take "${decode_config}"
        inference "${inference_nj}" decode --config "${config}" --lm "${models}/lm" --vocabulary "${models}/vocabulary" \
            --data_dir "${decoded_raw[@]}" --tokens "${decoded_tokens[@]}" \
            --output "${decodes[@]}" --seed "${seed}" ${decode_args}
        writes "${decodes[@]}"
    fi

    if begin 11 synthesize; then
        reads 4 "${codec_exp}"
        reads 9 "${models}/acoustic"
        reads 10 "${decodes[@]}"
        for set in ${spoken_sets}; do
            # A distorted set without generated speech needs no ceiling.
            [[ " ${robust_sets} " != *" ${set} "* ]] || compgen -G "${expdir}/decode/${set}/*/units.scp" > /dev/null || continue
            inference "${inference_nj}" synthesize --acoustic "${models}/acoustic" --codec "${codec_exp}" \
                --decode_dir "${expdir}/decode/${set}" --data_dir "${raw}/${set}" --tokens "${tokendir}/${set}" \
                --seed "${seed}" $([ "${audio_format}" != flac.ark ] || printf -- '--audio_format flac.ark') ${synthesize_args}
        done
        writes "${decodes[@]}"
    fi

    if begin 12 score; then
        reads 10 "${decodes[@]}"
        module score --decode_dir "${expdir}/decode" --data_dir "${raw}" --output "${expdir}/score" --units "${units_exp}" \
            --results "${expdir}/results.json" --report "${expdir}/RESULTS.md" $(! "${publish}" || printf -- --publish) \
            --vocabulary "${models}/vocabulary" --text_lm "${models}/textlm" --lm "${models}/lm" \
            --seed "${seed}" ${score_args}
        writes "${expdir}/score" "${expdir}/results.json" "${expdir}/RESULTS.md"
    fi

    if begin 13 report; then
        reads 12 "${expdir}/score" "${expdir}/results.json"
        module report --expdir "${expdir}" --data_dir "${raw}" --results "${expdir}/results.json" \
            --output "${expdir}/report" --lm "${models}/lm" \
            --vocabulary "${models}/vocabulary" --tokens "${tokendir}" ${report_args}
        writes "${expdir}/report/index.html"
    fi

    if begin 14 pack; then
        reads 3 "${units_exp}"
        reads 4 "${codec_exp}"
        reads 5 "${tokendir}/${valid_set}" "${tokendir}/${first_test}"
        reads 6 "${models}/vocabulary"
        reads 8 "${models}/lm"
        reads 9 "${models}/acoustic"
        module calibrate --lm "${models}/lm" --vocabulary "${models}/vocabulary" --units "${units_exp}" \
            --data_dir "${raw}" --tokens "${tokendir}" --dev "${valid_set}" --test "${first_test}" \
            --acoustic "${models}/acoustic" --codec "${codec_exp}" --output "${models}" --seed "${seed}" ${calibrate_args}
        module pack --expdir "${models}" --units "${units_exp}" --codec "${codec_exp}" --output "${expdir}/pack" \
            --results "${expdir}/results.json" --decode_dir "${expdir}/decode" --data_dir "${raw}" ${pack_args}
        writes "${expdir}/pack" "${expdir}/pack.zip"
    fi
}

main
[ -n "${summary}" ] || die "no stage from --stage ${stage} to --stop_stage ${stop_stage}${skip_stages:+ without ${skip_stages}}; there are 1 to 14"
say "  stage               time      memory"
say "${summary%$'\n'}"
say "in all ${SECONDS} s, at most ${peak_memory} MiB of memory"
