# shellcheck shell=bash disable=SC2034,SC2154
# How the driver egs/TEMPLATE/audiopalm.sh runs a stage: it shows the inputs, runs the command with its log, shows the
# outputs, and prints the next command. Source it after the options are parsed; say, die and most variables are the driver's.

number=0         # of the running stage
child=           # process of the running command
summary=""       # one line for each finished stage
peak_memory=0    # MiB

# The launchers of jobs and trainings. nvidia-smi also shows GPUs that the user hides by CUDA_VISIBLE_DEVICES.
if [ -n "${cmd}" ]; then train_cmd=${cmd} cuda_cmd=${cmd} decode_cmd=${cmd}; fi
[ -n "${ngpu}" ] || ngpu=$([ -n "${CUDA_VISIBLE_DEVICES-all}" ] && nvidia-smi -L 2> /dev/null | grep -c -m 1 '^GPU' || true)
ngpu=${ngpu:-0}
gpu_inference=${gpu_inference:-$([ "${ngpu}" -eq 0 ] && echo false || echo true)}
inference_nj=${inference_nj:-${nj}}

again() {  # the user's command with other stages
    say "$(sed -E 's/ --(stage|stop[_-]stage)[ =][0-9]+//g' <<< "${called_as}") $*"
}

onwards() {  # the user's command from stage $1 to its --stop_stage
    if [ "${stop_stage}" -lt 14 ]; then again --stage "$1" --stop_stage "${stop_stage}"; else again --stage "$1"; fi
}

stop() {  # Ctrl-C or SIGTERM: the command may clean up; a second signal kills it
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

begin() {  # begin N NAME: false if the stage is not to run
    [ "${stage}" -le "$1" ] && [ "${stop_stage}" -ge "$1" ] || return 1
    ! skipped "$1" || return 1
    number=$1 name=$2 started=${SECONDS}
    local table=${logdir}/usage.tsv
    usage_before=0
    if [ -f "${table}" ]; then usage_before=$(wc -l < "${table}"); fi
    say "== stage ${number}: ${name} =="
}

reads() {  # reads N FILE...: shows the inputs; stage N makes missing ones, or no stage does (0)
    local maker=$1 path hint=""
    [ "${maker}" -eq 0 ] || hint="; run stage ${maker} first: $(again --stage "${maker}" --stop_stage "${maker}")"
    ! skipped "${maker}" || hint="; stage ${maker} is skipped here: --models names the EXPDIR of a recipe that has run it"
    shift
    for path in "$@"; do
        [ -e "${path}" ] || die "stage ${number} (${name}) reads ${path}, which does not exist${hint}"
        say "reads   ${path}"
    done
}

take() {  # take NAME: sets ${config} to a configuration and prints whether it is the recipe's; a NAME with a / is a path
    local whose=""
    config=$1
    if [[ "${config}" != */* ]]; then
        config=conf/$1 whose=" (of the recipe)"
        [ -f "${config}" ] || config=${shared}/${scale}/$1 whose=" (shared by recipes)"
    fi
    [ -f "${config}" ] || die "stage ${number} (${name}) needs the configuration $1: there is no ${config}$(
        [[ "$1" = */* ]] || printf ' and no %s' "conf/$1")"
    say "reads   ${config}${whose}"
}

run() {  # run COMMAND...: with its output on the screen and in the log of the stage
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

training() {  # training NAME ARGUMENTS...: one of the package's trainings as a job
    module launch --cmd "${cuda_cmd}" --ngpu "${ngpu}" --num_nodes "${num_nodes}" --job_dir "${logdir}/stage${number}" "$@"
}

inference() {  # inference N NAME ARGUMENTS...: one of the package's commands, in N jobs, each with one GPU or none
    local options=(--nj "$1" --cmd "${decode_cmd}" --job_dir "${logdir}/stage${number}")
    if "${gpu_inference}"; then
        options[3]="${cuda_cmd} --gpu 1"
        AUDIOPALM_GPU=1 module "${@:2}" "${options[@]}"
    else
        CUDA_VISIBLE_DEVICES='' module "${@:2}" "${options[@]}"
    fi
}

writes() {  # writes FILE...: shows the outputs and ends the stage
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
