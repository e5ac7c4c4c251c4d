# shellcheck shell=bash
# What runs jobs: `${train_cmd} JOB=1:N LOG COMMAND...`. A recipe has its own copy of this file; `./run.sh --cmd` goes
# before it. Options for the cluster, such as `--mem 4G --time 4:00:00`, stand behind the program; those that it knows
# stand in conf/slurm.conf and conf/queue.conf of the repository, or of the recipe.

cmd_backend=local

case "${cmd_backend}" in
    local) export train_cmd="run.pl" ;;   # this machine
    slurm) export train_cmd="slurm.pl" ;; # Slurm
    sge) export train_cmd="queue.pl" ;;   # Grid Engine
    *)
        echo "cmd.sh: error: unknown cmd_backend '${cmd_backend}'; known: local, slurm, sge" >&2
        exit 1
        ;;
esac
