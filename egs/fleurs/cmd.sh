# shellcheck shell=bash
# How the commands of a recipe are run: `${train_cmd} LOG COMMAND...`. A recipe has its own copy of this file.
# So far every command runs on this machine, one after the other, and uses --nj processes itself.

cmd_backend=local

case "${cmd_backend}" in
    local)
        export train_cmd="run_logged.py" # of utils/, which path.sh puts in PATH
        ;;
    *)
        echo "cmd.sh: error: unknown cmd_backend '${cmd_backend}'; known: local" >&2
        exit 1
        ;;
esac
