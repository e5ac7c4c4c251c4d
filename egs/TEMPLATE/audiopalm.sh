#!/usr/bin/env bash
# The stages of every recipe, called by its run.sh in the recipe's directory. Options (defaults in brackets):
#
#   --stage N             first stage to run [1]
#   --stop_stage N        last stage to run [14]
#   --skip_stages "NS"    stages that are left out, such as "9 11" []
#        1 data        5 tokenize     9 acoustic     13 report
#        2 audio       6 vocabulary  10 decode       14 pack
#        3 units       7 textlm      11 synthesize
#        4 codec       8 finetune    12 score        what each reads and writes: docs/stages.md
#   --nj N                jobs of stages 2, 5 and 10 [2]
#   --cmd "CMD"           what runs these jobs, with its options: "run.pl" on this machine, "slurm.pl --mem 4G", "queue.pl";
#                         the command of a stage itself stays on this machine [train_cmd of cmd.sh]
#   --seed N              seed of every training (stages 3, 4, 7, 8, 9) and of sampling (10, 11); stands in the scores [0]
#   --train_codec BOOL    true: stage 4 trains a codec; false: it takes --pretrained_codec [false]
#   --pretrained_codec D  a trained codec [pretrained/codec]
#   --trainer NAME        what trains in stage 8: own, or espnet, by conf/espnet_lm.yaml (docs/espnet.md) [own]
#   --publish BOOL        true: stage 12 merges the scores of the run into the recipe's results.json and RESULTS.md, which
#                         are committed; they are in EXPDIR in any case [false]
#   --init_lm LM          a text LM to start from, a folder in Hugging Face's layout or a hub id: stage 6 takes its tokenizer,
#                         stage 7 its weights; needs a stage 8 of lower rates: --lm_config [none: stage 7 trains one]
#   --lm_launch "CMD"     what starts the trainings of stages 7 and 8: "torchrun --nproc_per_node 8" on eight GPUs [python]
#
#   --corpus NAME         which corpus stage 1 prepares: a module of audiopalm/corpora
#   --downloads DIR       where it lies, as its publisher ships it: archives or unpacked [corpus]
#   --langs "CODES"       languages of a corpus that has many, as the corpus spells them: "fr de" [all that it knows]
#   --datadir DIR         data directories of stage 1 [data]
#   --dumpdir DIR         contents of archives of stage 1, audio of stage 2, tokens of stage 5 [dump]
#   --tokendir DIR        tokens of stage 5 [DUMPDIR/tokens]
#   --expdir DIR          models, decodes, scores, logs of stages 3 to 14 [exp]
#   --models DIR          models of stages 3 to 9; with --skip_stages those in the EXPDIR of another recipe [EXPDIR]
#   --units_exp DIR       audio tokenizer of stage 3 [MODELS/units]
#   --codec_exp DIR       codec of stage 4 [MODELS/codec]
#   --train_set NAME      [train]
#   --valid_set NAME      [dev]
#   --test_sets "NAMES"   sets that are decoded besides the valid set [test]
#
#   --units_config FILE --codec_config FILE --vocabulary_config FILE --textlm_config FILE --lm_config FILE
#   --espnet_lm_config FILE --acoustic_config FILE --decode_config FILE      [conf/units.yaml and so on]
#   --data_args "ARGS"    further arguments of the command of stage 1; likewise --audio_args, --units_args, --codec_args,
#                         --tokenize_args, --vocabulary_args, --textlm_args, --lm_args, --acoustic_args, --decode_args,
#                         --synthesize_args, --score_args, --report_args, --pack_args []
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
cmd=
seed=0
train_codec=false
pretrained_codec=pretrained/codec
trainer=own
publish=false
init_lm=
lm_launch=python
corpus=
downloads=corpus
langs=
datadir=data
dumpdir=dump
tokendir=
expdir=exp
models=
units_exp=
codec_exp=
train_set=train
valid_set=dev
test_sets="test"
units_config=conf/units.yaml
codec_config=conf/codec.yaml
vocabulary_config=conf/vocabulary.yaml
textlm_config=conf/textlm.yaml
lm_config=conf/lm.yaml
espnet_lm_config=conf/espnet_lm.yaml
acoustic_config=conf/acoustic.yaml
decode_config=conf/decode.yaml
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
pack_args=
called_as="./run.sh"  # how the user called the recipe, for the next command that is shown

root=$(cd -P "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# shellcheck source=utils/parse_options.sh
. "${root}/utils/parse_options.sh"

say() { printf '%s\n' "$*"; }
die() { say "audiopalm.sh: error: $*" >&2; exit 1; }

[ $# -eq 0 ] || die "unexpected argument '$1' (--help lists the options)"
[[ "${stage}" =~ ^[0-9]+$ && "${stop_stage}" =~ ^[0-9]+$ ]] || die "--stage and --stop_stage take a number from 1 to 14"
[[ "${trainer}" =~ ^(own|espnet)$ ]] || die "--trainer takes own or espnet, not '${trainer}'"
[[ "${skip_stages}" =~ ^[0-9\ ]*$ ]] || die "--skip_stages takes numbers from 1 to 14, separated by spaces"
tokendir=${tokendir:-${dumpdir}/tokens}
models=${models:-${expdir}}
units_exp=${units_exp:-${models}/units}
codec_exp=${codec_exp:-${models}/codec}
sets=$(printf '%s ' "${train_set}" "${valid_set}" "${test_sets}" | tr -s ' ' '\n' | awk '!seen[$0]++')  # each once
raw=${dumpdir}/raw
logdir=${expdir}/log

"${root}/tools/setup.sh"
# shellcheck source=egs/TEMPLATE/path.sh
. ./path.sh
# shellcheck source=egs/TEMPLATE/cmd.sh
. ./cmd.sh
cmd=${cmd:-${train_cmd}}

# ---- how a stage is run ----------------------------------------------------------------------------------------------
number=0         # of the stage that runs now
child=           # process of the command that runs now
summary=""       # one line for each finished stage
peak_memory=0    # MiB

again() {  # the user's command with other stages
    say "$(sed -E 's/ --(stage|stop[_-]stage)[ =][0-9]+//g' <<< "${called_as}") $*"
}

onwards() {  # the user's command from stage $1 to where it was to end
    if [ "${stop_stage}" -lt 14 ]; then again --stage "$1" --stop_stage "${stop_stage}"; else again --stage "$1"; fi
}

stop() {  # Ctrl-C or SIGTERM: let the command clean up, a second one kills it
    trap 'kill -TERM "${child}" 2> /dev/null || true' INT TERM
    if [ -n "${child}" ]; then
        kill -TERM "${child}" 2> /dev/null || true
        while kill -0 "${child}" 2> /dev/null; do wait "${child}" || true; done
    fi
    say "audiopalm.sh: interrupted in stage ${number}; to go on: $(onwards "${number}")" >&2
    exit 130
}
trap stop INT TERM

skipped() { [[ " ${skip_stages} " = *" $1 "* ]]; }

begin() {  # begin N NAME: false when the stage is not asked for
    [ "${stage}" -le "$1" ] && [ "${stop_stage}" -ge "$1" ] || return 1
    ! skipped "$1" || return 1
    number=$1 name=$2 started=${SECONDS}
    local table=${logdir}/usage.tsv
    usage_before=0
    if [ -f "${table}" ]; then usage_before=$(wc -l < "${table}"); fi
    say "== stage ${number}: ${name} =="
}

reads() {  # reads N FILE...: shows them; those that are missing are the work of stage N, or of nobody (0)
    local maker=$1 path hint=""
    [ "${maker}" -eq 0 ] || hint="; run stage ${maker} first: $(again --stage "${maker}" --stop_stage "${maker}")"
    ! skipped "${maker}" || hint="; stage ${maker} is skipped here: --models names the EXPDIR of a recipe that has run it"
    shift
    for path in "$@"; do
        [ -e "${path}" ] || die "stage ${number} (${name}) reads ${path}, which does not exist${hint}"
        say "reads   ${path}"
    done
}

run() {  # run COMMAND...: on the screen and in the log of the stage
    local code=0
    run_logged.py "${logdir}/stage${number}.log" "$@" &
    child=$!
    wait "${child}" || code=$?
    child=
    [ "${code}" -ne 137 ] || say "audiopalm.sh: the command was killed; was the memory exhausted?" >&2
    [ "${code}" -eq 0 ] || {
        say "audiopalm.sh: stage ${number} (${name}) failed; log: ${logdir}/stage${number}.log; to go on: $(onwards "${number}")" >&2
        exit "${code}"
    }
}

module() {  # module NAME ARGUMENTS...: one of the package's commands
    local command=$1
    shift
    run python -m "audiopalm.bin.${command}" "$@"
}

writes() {  # writes FILE...: shows them and ends the stage
    local path seconds=$((SECONDS - started)) memory
    for path in "$@"; do
        [ -e "${path}" ] || die "stage ${number} (${name}) ended without ${path}"
        say "wrote   ${path} ($(du -shL "${path}" | cut -f 1))"
    done
    memory=$(tail -n "+$((usage_before + 1))" "${logdir}/usage.tsv" | cut -f 3 | sort -n | tail -n 1)
    [ "${memory}" -le "${peak_memory}" ] || peak_memory=${memory}
    summary+=$(printf '%7d %-11s %6d s %7d MiB' "${number}" "${name}" "${seconds}" "${memory}")$'\n'
    say "took    ${seconds} s, at most ${memory} MiB of memory; log: ${logdir}/stage${number}.log"
    local following=$((number + 1))
    while skipped "${following}"; do following=$((following + 1)); done
    [ "${following}" -gt 14 ] || say "next    $(again --stage "${following}")"
    say ""
}

# ---- the stages ------------------------------------------------------------------------------------------------------
# The *_args and the lists of sets are split into words on purpose.
# shellcheck disable=SC2046,SC2086
main() {
    local set

    if begin 1 data; then
        reads 0 "${downloads}"
        module prepare --corpus "${corpus}" --downloads "${downloads}" --output "${datadir}" \
            --unpacked "${dumpdir}/unpacked" ${langs:+--langs} ${langs} ${data_args}
        writes $(each "${datadir}" ${sets})
    fi

    if begin 2 audio; then
        reads 1 $(each "${datadir}" ${sets})
        module format_audio --input $(each "${datadir}" ${sets}) --output $(each "${raw}" ${sets}) \
            --audio_dir "${dumpdir}/audio" --nj "${nj}" --cmd "${cmd}" --job_dir "${logdir}/stage2" ${audio_args}
        writes "${dumpdir}/audio" $(each "${raw}" ${sets})
    fi

    if begin 3 units; then
        reads 2 "${raw}/${train_set}" "${raw}/${valid_set}"
        module train_units --config "${units_config}" --data_dir "${raw}/${train_set}" --dev_dir "${raw}/${valid_set}" \
            --output "${units_exp}" --seed "${seed}" ${units_args}
        writes "${units_exp}"
    fi

    if begin 4 codec; then
        if "${train_codec}"; then
            reads 2 "${raw}/${train_set}"
            module train_codec --config "${codec_config}" --data_dir "${raw}/${train_set}" --output "${codec_exp}" \
                --seed "${seed}" ${codec_args}
        else
            reads 0 "${pretrained_codec}"
            run "${root}/utils/copy_dir.sh" "${pretrained_codec}" "${codec_exp}"
        fi
        writes "${codec_exp}"
    fi

    if begin 5 tokenize; then
        reads 2 $(each "${raw}" ${sets})
        reads 3 "${units_exp}"
        reads 4 "${codec_exp}"
        module tokenize --data_dir $(each "${raw}" ${sets}) --units "${units_exp}" --codec "${codec_exp}" \
            --output $(each "${tokendir}" ${sets}) --nj "${nj}" --cmd "${cmd}" --job_dir "${logdir}/stage5" ${tokenize_args}
        writes $(each "${tokendir}" ${sets})
    fi

    if begin 6 vocabulary; then
        reads 2 "${raw}/${train_set}"
        reads 5 "${tokendir}/${train_set}"
        module make_vocabulary --config "${vocabulary_config}" --data_dir "${raw}/${train_set}" \
            --tokens "${tokendir}/${train_set}" ${init_lm:+--init_lm "${init_lm}"} \
            --output "${models}/vocabulary" ${vocabulary_args}
        writes "${models}/vocabulary"
    fi

    if begin 7 textlm; then
        reads 2 "${raw}/${train_set}" "${raw}/${valid_set}"
        reads 6 "${models}/vocabulary"
        if [ -n "${init_lm}" ]; then
            module import_lm --init_lm "${init_lm}" --vocabulary "${models}/vocabulary" --output "${models}/textlm" \
                --seed "${seed}"
        else
            run ${lm_launch} -m audiopalm.bin.train_lm --config "${textlm_config}" --vocabulary "${models}/vocabulary" \
                --data_dir "${raw}/${train_set}" --dev_data_dir "${raw}/${valid_set}" \
                --output "${models}/textlm" --seed "${seed}" ${textlm_args}
        fi
        writes "${models}/textlm"
    fi

    if begin 8 finetune; then
        reads 5 "${tokendir}/${train_set}" "${tokendir}/${valid_set}"
        reads 6 "${models}/vocabulary"
        reads 7 "${models}/textlm"
        if [ "${trainer}" = espnet ]; then
            module espnet_train_lm --config "${espnet_lm_config}" --vocabulary "${models}/vocabulary" \
                --init_lm "${models}/textlm" \
                --train_data_dir "${raw}/${train_set}" --train_tokens "${tokendir}/${train_set}" \
                --valid_data_dir "${raw}/${valid_set}" --valid_tokens "${tokendir}/${valid_set}" \
                --output_dir "${models}/espnet_lm" --seed "${seed}" ${lm_args}
            module espnet_convert --model_file "${models}/espnet_lm/valid.loss.ave.pth" --output "${models}/lm"
        else
            run ${lm_launch} -m audiopalm.bin.train_lm --config "${lm_config}" \
                --vocabulary "${models}/vocabulary" --init_lm "${models}/textlm" \
                --data_dir "${raw}/${train_set}" --tokens "${tokendir}/${train_set}" \
                --dev_data_dir "${raw}/${valid_set}" --dev_tokens "${tokendir}/${valid_set}" \
                --output "${models}/lm" --seed "${seed}" ${lm_args}
        fi
        writes "${models}/lm"
    fi

    if begin 9 acoustic; then
        reads 4 "${codec_exp}"
        reads 5 "${tokendir}/${train_set}" "${tokendir}/${valid_set}"
        module train_acoustic --config "${acoustic_config}" \
            --data_dir "${raw}/${train_set}" --tokens "${tokendir}/${train_set}" \
            --dev_data_dir "${raw}/${valid_set}" --dev_tokens "${tokendir}/${valid_set}" \
            --codec "${codec_exp}" --output "${models}/acoustic" --seed "${seed}" ${acoustic_args}
        writes "${models}/acoustic"
    fi

    if begin 10 decode; then
        reads 5 $(each "${tokendir}" ${valid_set} ${test_sets})
        reads 6 "${models}/vocabulary"
        reads 8 "${models}/lm"
        module decode --config "${decode_config}" --lm "${models}/lm" --vocabulary "${models}/vocabulary" \
            --data_dir $(each "${raw}" ${valid_set} ${test_sets}) --tokens $(each "${tokendir}" ${valid_set} ${test_sets}) \
            --output $(each "${expdir}/decode" ${valid_set} ${test_sets}) --seed "${seed}" \
            --nj "${nj}" --cmd "${cmd}" --job_dir "${logdir}/stage10" ${decode_args}
        writes $(each "${expdir}/decode" ${valid_set} ${test_sets})
    fi

    if begin 11 synthesize; then
        reads 4 "${codec_exp}"
        reads 9 "${models}/acoustic"
        reads 10 $(each "${expdir}/decode" ${valid_set} ${test_sets})
        for set in ${valid_set} ${test_sets}; do
            module synthesize --acoustic "${models}/acoustic" --codec "${codec_exp}" --decode_dir "${expdir}/decode/${set}" \
                --data_dir "${raw}/${set}" --tokens "${tokendir}/${set}" --seed "${seed}" ${synthesize_args}
        done
        writes $(each "${expdir}/decode" ${valid_set} ${test_sets})
    fi

    if begin 12 score; then
        reads 10 $(each "${expdir}/decode" ${valid_set} ${test_sets})
        module score --decode_dir "${expdir}/decode" --data_dir "${raw}" --output "${expdir}/score" --units "${units_exp}" \
            --results "${expdir}/results.json" --report "${expdir}/RESULTS.md" $(! "${publish}" || printf -- --publish) \
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
        reads 6 "${models}/vocabulary"
        reads 8 "${models}/lm"
        reads 9 "${models}/acoustic"
        module pack --expdir "${models}" --units "${units_exp}" --codec "${codec_exp}" --output "${expdir}/pack" \
            --results "${expdir}/results.json" --decode_dir "${expdir}/decode" --data_dir "${raw}" ${pack_args}
        writes "${expdir}/pack" "${expdir}/pack.zip"
    fi
}

each() {  # each DIR NAMES...: DIR/NAME of every name
    local directory=$1 name
    shift
    for name in "$@"; do printf '%s ' "${directory}/${name}"; done
}

main
[ -n "${summary}" ] || die "no stage from --stage ${stage} to --stop_stage ${stop_stage}${skip_stages:+ without ${skip_stages}}; there are 1 to 14"
say "  stage               time      memory"
say "${summary%$'\n'}"
say "in all ${SECONDS} s, at most ${peak_memory} MiB of memory"
