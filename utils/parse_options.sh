# shellcheck shell=bash
# Command line options for recipe scripts, as Kaldi users know them. Source it after the defaults are set:
#
#     nj=4
#     . utils/parse_options.sh
#
# `--nj 8` sets nj; `--expdir x`, `--test_sets "a b"`, `--test-sets "a b"` and `--nj=8` likewise. Only variables that exist can be
# set; a variable that is true or false takes only these two values. `--config FILE` first sources FILE, so that the command line
# wins; FILE is checked in the same way.
# `--help` prints $help_message, or the comment at the top of the script. What follows the options stays in "$@".
# An unknown option ends the script with exit code 1 and one line on stderr that names the nearest option of the help.

parse_options_die() { echo "$(basename "$0"): error: $*" >&2; exit 1; }

parse_options_help() {
    if [ -n "${help_message:-}" ]; then
        printf '%s\n' "${help_message}"
    else
        sed -n -e '1{/^#!/d}' -e '/^#/!q' -e 's/^# \{0,1\}//p' "$0"
    fi
}

parse_options_unknown() {  # ends with the option of the help nearest to $1 by edits, if at most a third of $1 differs
    local nearest
    nearest=$(parse_options_help | grep -oE -- '--[A-Za-z][A-Za-z0-9_-]*' | awk -v given="${1//-/_}" '
        function least(a, b) { return a < b ? a : b }
        {
            name = $0
            gsub(/-/, "_", name)
            width = length(name)
            for (j = 0; j <= width; j++) row[j] = j
            for (i = 1; i <= length(given); i++) {
                diagonal = row[0]
                row[0] = i
                for (j = 1; j <= width; j++) {
                    changed = diagonal + (substr(given, i, 1) != substr(name, j, 1))
                    diagonal = row[j]
                    row[j] = least(changed, least(row[j - 1], row[j]) + 1)
                }
            }
            if (best == "" || row[width] < edits) { best = $0; edits = row[width] }
        }
        END { if (best != "" && edits * 3 <= length(given)) print best }') || true
    parse_options_die "unknown option $1${nearest:+; did you mean ${nearest}?} (--help lists the options)"
}

parse_options_variables() { compgen -v | grep -vE '^(_|BASH.*|PIPESTATUS|FUNCNAME|SECONDS|RANDOM|parse_options_.*)$' | tr '\n' ' '; }

parse_options_check() {  # ends with a name that FILE $1 has set and that was not among $2, or with a flag of $3 that is none now
    local name
    for name in $(parse_options_variables); do
        [[ " $2 " = *" ${name} "* ]] || parse_options_die "$1: there is no option ${name} (--help lists the options)"
    done
    for name in $3; do
        [[ "${!name}" =~ ^(true|false)$ ]] || parse_options_die "$1: option --${name} takes true or false, not '${!name}'"
    done
}

for ((parse_options_i = 1; parse_options_i <= $#; parse_options_i++)); do
    case "${!parse_options_i}" in
        --config) parse_options_next=$((parse_options_i + 1)) parse_options_file=${!parse_options_next:-} ;;
        --config=*) parse_options_file=${!parse_options_i#*=} ;;
        *) continue ;;
    esac
    [ -r "${parse_options_file}" ] || parse_options_die "--config ${parse_options_file}: no such file"
    parse_options_known=$(parse_options_variables) parse_options_flags=
    for parse_options_name in ${parse_options_known}; do
        [[ ! "${!parse_options_name:-}" =~ ^(true|false)$ ]] || parse_options_flags+=" ${parse_options_name}"
    done
    # shellcheck disable=SC1090
    . "${parse_options_file}"
    parse_options_check "${parse_options_file}" "${parse_options_known}" "${parse_options_flags}"
done

while [ $# -gt 0 ]; do
    case "$1" in
        --help | -h) parse_options_help; exit 0 ;;
        --) shift; break ;;
        --?*=*) set -- "${1%%=*}" "${1#*=}" "${@:2}"; continue ;;
        --?*) ;;
        -?*) parse_options_unknown "$1" ;;
        *) break ;;
    esac
    parse_options_name=${1#--}
    parse_options_name=${parse_options_name//-/_}
    [[ "${parse_options_name}" = config ||
        "${parse_options_name}" =~ ^[a-zA-Z][a-zA-Z0-9_]*$ && -n "${!parse_options_name+set}" ]] ||
        parse_options_unknown "$1"
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
