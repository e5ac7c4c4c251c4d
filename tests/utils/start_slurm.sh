#!/usr/bin/env bash
# A Slurm of one machine for the tests, in a new directory: start DIR [NODES] | stop DIR
# With NODES > 1 the machine passes for so many, n1, n2, ..., each with a slurmd of its own.
# Jobs of the partition `urgent` take the nodes from those of the default one, which are started again.
# Its clients need SLURM_CONF=DIR/slurm.conf. Nothing outside DIR is written; keys and ports are its own. Numbers of jobs
# begin anywhere, since trainings on several nodes derive their port from them, and two tests may each run a Slurm. Three
# workers of pytest-xdist have ranges of their own.
set -euo pipefail

usage() { echo "Usage: start_slurm.sh start DIR [NODES] | stop DIR" >&2; exit 1; }
[ $# -ge 2 ] && [ $# -le 3 ] || usage
dir=$2
nodes=${3:-1}
PATH=${PATH}:/usr/sbin:/usr/local/sbin # not on the PATH of every user

stop() {
    local name pid
    if [ -e "${dir}/slurm.conf" ]; then # jobs would outlive the daemons
        export SLURM_CONF=${dir}/slurm.conf
        timeout 5 scancel --user="$(id -un)" > /dev/null 2>&1 || true
        for _ in $(seq 600); do [ -n "$(timeout 5 squeue --noheader 2> /dev/null)" ] || break; sleep 0.1; done
    fi
    for name in slurmd.{1..9} slurmctld munged; do # nothing of theirs is kept: no reason to wait for an orderly end
        [ -e "${dir}/${name}.pid" ] || continue
        pid=$(cat "${dir}/${name}.pid")
        kill -KILL "${pid}" 2> /dev/null || continue
        while grep -q . "/proc/${pid}/cmdline" 2> /dev/null; do sleep 0.05; done # a zombie has none
    done
}

failed() {
    echo "start_slurm.sh: error: $1" >&2
    tail -n 5 "${dir}"/*.log >&2 || true
    stop
    exit 1
}

# daemon NAME COMMAND...: in the foreground of a background job, so that its process id is known at once.
daemon() {
    setsid "${@:2}" < /dev/null > "${dir}/$1.log" 2>&1 &
    echo $! > "${dir}/$1.pid"
}

# Below Linux's range of ephemeral ports, from which another program may get one before the daemons have started.
free_ports() {
    perl -MIO::Socket::INET -e 'while (@s <= '"${nodes}"') {
            my $s = IO::Socket::INET->new(Listen => 1, LocalPort => 10000 + int rand 10000);
            push @s, $s if $s;
        }
        print join(" ", map { $_->sockport } @s), "\n"'
}

case $1 in
    stop) stop; exit 0 ;;
    start) ;;
    *) usage ;;
esac
for name in munged slurmctld slurmd; do
    command -v "${name}" > /dev/null || { echo "start_slurm.sh: error: no ${name}" >&2; exit 1; }
done
mkdir -p "${dir}/state"
dir=$(cd -P "${dir}" && pwd)
user=$(id -un)
host=$(uname -n)
host=${host%%.*}
read -r -a ports < <(free_ports)
worker=${PYTEST_XDIST_WORKER:-gw0}
names=("${host}")
if [ "${nodes}" -gt 1 ]; then names=(); for number in $(seq "${nodes}"); do names+=("n${number}"); done; fi
head -c 128 /dev/urandom > "${dir}/munge.key"
chmod 600 "${dir}/munge.key"
cat > "${dir}/slurm.conf" << END
ClusterName=test
FirstJobId=$((1 + RANDOM % 3900 + 4000 * (${worker#gw} % 3)))
SlurmctldHost=${host}(127.0.0.1)
SlurmctldPort=${ports[0]}
SlurmUser=${user}
SlurmdUser=${user}
AuthType=auth/munge
AuthInfo=socket=${dir}/munge.socket
CredType=cred/munge
StateSaveLocation=${dir}/state
SlurmdSpoolDir=${dir}/spool.%n
SlurmctldPidFile=${dir}/slurmctld.own.pid
SlurmdPidFile=${dir}/slurmd.%n.own.pid
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
JobCompType=jobcomp/none
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/builtin
SchedulerParameters=sched_interval=1,sched_min_interval=0,batch_sched_delay=0
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=60
MessageTimeout=60
BatchStartTimeout=300
CompleteWait=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PartitionName=test Nodes=ALL Default=YES MaxTime=60 DefaultTime=30 PriorityTier=1 State=UP
PartitionName=urgent Nodes=ALL MaxTime=60 DefaultTime=30 PriorityTier=2 State=UP
END
for ((number = 1; number <= nodes; number++)); do
    mkdir -p "${dir}/spool.${names[number - 1]}"
    echo "NodeName=${names[number - 1]} NodeHostname=${host} NodeAddr=127.0.0.1 Port=${ports[number]} CPUs=4" \
        "RealMemory=1000 State=UNKNOWN"
done >> "${dir}/slurm.conf"
export SLURM_CONF=${dir}/slurm.conf

# --force: the directories above DIR may be of any mode, all users here are one.
daemon munged munged --foreground --force --num-threads=2 --socket="${dir}/munge.socket" --key-file="${dir}/munge.key" \
    --pid-file="${dir}/munged.own.pid" --seed-file="${dir}/munge.seed" --log-file="${dir}/munge.log"
for _ in $(seq 1200); do
    if [ -S "${dir}/munge.socket" ]; then break; fi
    kill -0 "$(cat "${dir}/munged.pid")" 2> /dev/null || failed "munged ended"
    sleep 0.05
done
daemon slurmctld slurmctld -D -f "${SLURM_CONF}"
for ((number = 1; number <= nodes; number++)); do
    daemon "slurmd.${number}" slurmd -D -f "${SLURM_CONF}" -N "${names[number - 1]}"
done
for _ in $(seq 1200); do
    for path in "${dir}"/*.pid; do
        case ${path} in *.own.pid) ;; *) kill -0 "$(cat "${path}")" 2> /dev/null || failed "${path##*/} ended" ;; esac
    done
    [ "$(sinfo --noheader --partition test --format "%t %D" 2> /dev/null)" = "idle ${nodes}" ] && exit 0
    sleep 0.1
done
failed "the machine does not get ready"
