#!/usr/bin/env bash
# A task on each node of a job of Slurm, with all the cores that the job has there: COMMAND...
# SIGTERM reaches the tasks as SIGUSR1, since srun answers a SIGTERM by killing them at once; for the same reason srun
# has a session of its own.
set -uo pipefail

[ $# -gt 0 ] || { echo "Usage: srun.sh COMMAND..." >&2; exit 1; }
trap 'kill -USR1 "${child}"' TERM
setsid srun --kill-on-bad-exit=1 --ntasks-per-node=1 ${SLURM_CPUS_PER_TASK:+--cpus-per-task="${SLURM_CPUS_PER_TASK}"} "$@" &
child=$!
while kill -0 "${child}" 2> /dev/null; do wait "${child}"; done # a signal ends a wait
wait "${child}"
