# shellcheck shell=bash
# Command line options for recipe scripts, as Kaldi users know them. Source it after the defaults are set:
#
#     nj=4
#     . utils/parse_options.sh
#
# `--nj 8` sets nj; `--expdir x`, `--test_sets "a b"`, `--test-sets "a b"` and `--nj=8` likewise. Only variables that exist can be
# set; one that is true or false takes only these two. `--config FILE` first sources FILE, so that the command line wins.
# `--help` prints $help_message, or the comment at the top of the script. What follows the options stays in "$@".
# Anything unknown: one line on stderr, exit code 1.

parse_options_die() { echo "$(basename "$0"): error: $*" >&2; exit 1; }

parse_options_help() {
    if [ -n "${help_message:-}" ]; then
        printf '%s\n' "${help_message}"
    else
        sed -n -e '1{/^#!/d}' -e '/^#/!q' -e 's/^# \{0,1\}//p' "$0"
    fi
}

for ((parse_options_i = 1; parse_options_i < $#; parse_options_i++)); do
    if [ "${!parse_options_i}" = --config ]; then
        parse_options_next=$((parse_options_i + 1))
        [ -r "${!parse_options_next}" ] || parse_options_die "--config ${!parse_options_next}: no such file"
        # shellcheck disable=SC1090
        . "${!parse_options_next}"
    fi
done

while [ $# -gt 0 ]; do
    case "$1" in
        --help | -h) parse_options_help; exit 0 ;;
        --) shift; break ;;
        --?*=*) set -- "${1%%=*}" "${1#*=}" "${@:2}"; continue ;;
        --?*) ;;
        -?*) parse_options_die "unknown option $1 (--help lists the options)" ;;
        *) break ;;
    esac
    parse_options_name=${1#--}
    parse_options_name=${parse_options_name//-/_}
    [[ "${parse_options_name}" = config ||
        "${parse_options_name}" =~ ^[a-zA-Z][a-zA-Z0-9_]*$ && -n "${!parse_options_name+set}" ]] ||
        parse_options_die "unknown option $1 (--help lists the options)"
    [ $# -ge 2 ] || parse_options_die "option $1 needs a value"
    if [ "${parse_options_name}" = config ]; then shift 2; continue; fi
    case "${!parse_options_name}" in
        true | false)
            [ "$2" = true ] || [ "$2" = false ] || parse_options_die "option $1 takes true or false, not '$2'" ;;
    esac
    printf -v "${parse_options_name}" '%s' "$2"
    shift 2
done
true
