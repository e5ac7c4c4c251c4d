# shellcheck shell=bash
# The launchers of jobs: `${train_cmd} JOB=1:N LOG COMMAND...`. A recipe has its own copy of this file; `./run.sh --cmd`
# overrides it. docs/clusters.md has examples.
#
#   train_cmd    jobs on CPUs: stage 2
#   cuda_cmd     trainings, on GPUs or with --ngpu 0 on CPUs (stages 3, 4, 7, 8, 9), and inference with --gpu_inference true
#   decode_cmd   inference on CPUs (stages 5, 10, 11)
#
# Options for the cluster, such as `--mem 4G --time 4:00:00`, follow the program. conf/slurm.conf and conf/queue.conf of
# the repository, or of the recipe, list its options.

cmd_backend=local

case "${cmd_backend}" in
    local) # this machine
        export train_cmd="run.pl" cuda_cmd="run.pl" decode_cmd="run.pl"
        ;;
    slurm) # Slurm
        export train_cmd="slurm.pl" cuda_cmd="slurm.pl" decode_cmd="slurm.pl"
        ;;
    sge) # Grid Engine
        export train_cmd="queue.pl" cuda_cmd="queue.pl" decode_cmd="queue.pl"
        ;;
    *)
        echo "cmd.sh: error: unknown cmd_backend '${cmd_backend}'; known: local, slurm, sge" >&2
        exit 1
        ;;
esac
