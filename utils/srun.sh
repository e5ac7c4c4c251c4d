#!/usr/bin/env bash
# Run a task on each node of a Slurm job, with all cores of the job on the node: COMMAND...
# SIGTERM is passed to the tasks as SIGUSR1, because srun kills its tasks at once when it receives SIGTERM. For the same
# reason srun has a session of its own.
set -uo pipefail

[ $# -gt 0 ] || { echo "Usage: srun.sh COMMAND..." >&2; exit 1; }
trap 'kill -USR1 "${child}"' TERM
setsid srun --kill-on-bad-exit=1 --ntasks-per-node=1 ${SLURM_CPUS_PER_TASK:+--cpus-per-task="${SLURM_CPUS_PER_TASK}"} "$@" &
child=$!
while kill -0 "${child}" 2> /dev/null; do wait "${child}"; done # a signal interrupts wait
wait "${child}"
