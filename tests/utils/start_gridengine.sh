#!/usr/bin/env bash
# A Grid Engine of one machine for the tests, in a new directory: start DIR | stop DIR. Wants root.
# Its clients need what is in DIR/environment. Nothing outside DIR is written; its ports are its own.
set -euo pipefail

usage() { echo "Usage: start_gridengine.sh start|stop DIR" >&2; exit 1; }
[ $# -eq 2 ] || usage
dir=$2
installed=/var/lib/gridengine # of Debian's packages
PATH=${PATH}:/usr/sbin        # not on the PATH of every user

stop() {
    local name pid
    if [ -e "${dir}/environment" ]; then # jobs would outlive the daemons
        # shellcheck source=/dev/null
        . "${dir}/environment"
        timeout 5 qdel -u "$(id -un)" > /dev/null 2>&1 || true
        for _ in $(seq 600); do [ -n "$(timeout 5 qstat 2> /dev/null)" ] || break; sleep 0.1; done
    fi
    for name in sge_execd sge_qmaster; do # nothing of theirs is kept: no reason to wait for an orderly end
        [ -e "${dir}/${name}.pid" ] || continue
        pid=$(cat "${dir}/${name}.pid")
        kill -KILL "${pid}" 2> /dev/null || continue
        while grep -q . "/proc/${pid}/cmdline" 2> /dev/null; do sleep 0.05; done # a zombie has none
    done
}

failed() {
    echo "start_gridengine.sh: error: $1" >&2
    tail -n 20 "${dir}"/*.log >&2 || true
    stop
    exit 1
}

daemon() {
    SGE_ND=1 setsid "$@" < /dev/null > "${dir}/${1##*/}.log" 2>&1 & # SGE_ND: stay in the foreground
    echo $! > "${dir}/${1##*/}.pid"
}

# Below Linux's range of ephemeral ports, from which another program may get one before the daemons have started.
free_ports() {
    perl -MIO::Socket::INET -e 'while (@s < 2) {
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
for name in sge_qmaster sge_execd qconf; do
    command -v "${name}" > /dev/null || { echo "start_gridengine.sh: error: no ${name}" >&2; exit 1; }
done
common=${dir}/default/common
mkdir -p "${common}" "${dir}/qmaster/job_scripts" "${dir}/spooldb" "${dir}/execd"
dir=$(cd -P "${dir}" && pwd)
for name in bin lib util utilbin; do ln -s "${installed}/${name}" "${dir}/${name}"; done
read -r master_port execution_port < <(free_ports)
host=$(uname -n)
user=$(id -un)
cat > "${dir}/environment" << END
export SGE_ROOT=${dir} SGE_CELL=default SGE_QMASTER_PORT=${master_port} SGE_EXECD_PORT=${execution_port}
END
# shellcheck source=/dev/null
. "${dir}/environment"
cat > "${common}/bootstrap" << END
admin_user none
default_domain none
ignore_fqdn true
spooling_method berkeleydb
spooling_lib libspoolb
spooling_params ${dir}/spooldb
binary_path ${installed}/bin
qmaster_spool_dir ${dir}/qmaster
security_mode none
listener_threads 2
worker_threads 2
scheduler_threads 1
jvm_threads 0
END
echo localhost > "${common}/act_qmaster"
echo "localhost ${host}" > "${common}/host_aliases" # every name of this machine is one host
/usr/share/gridengine/scripts/init_cluster "${dir}" default "${dir}/spooldb" "${user}" > "${dir}/init.log" 2>&1 ||
    failed "init_cluster"
daemon sge_qmaster
for _ in $(seq 1200); do
    qconf -sh > /dev/null 2>&1 && break
    kill -0 "$(cat "${dir}/sge_qmaster.pid")" 2> /dev/null || failed "sge_qmaster ended"
    sleep 0.1
done

# qconf calls an editor on what it adds: "$EDITOR FILE".
edit() {
    # shellcheck disable=SC2016
    printf '#!/bin/sh\nsed -i '\''%s'\'' "$1"\n' "$1" > "${dir}/editor"
    chmod +x "${dir}/editor"
    EDITOR="${dir}/editor" qconf "${@:2}"
}
configure() {
    qconf -sconf global | sed "s/^\(min_[ug]id\) .*/\1 0/; s/^\(load_report_time\) .*/\1 00:00:01/;
        s/^\(login_shells\) .*/\1 none/; s|^\(execd_spool_dir\) .*|\1 ${dir}/execd|" > "${dir}/global"
    qconf -Mconf "${dir}/global"
    qconf -ssconf | sed 's/^\(schedule_interval\) .*/\1 0:0:1/; s/^\(flush_submit_sec\|flush_finish_sec\) .*/\1 1/;
        s/^\(job_load_adjustments\) .*/\1 NONE/' > "${dir}/scheduler"
    qconf -Msconf "${dir}/scheduler"
    qconf -as localhost
    edit "s/^slots .*/slots 4/; s/^allocation_rule .*/allocation_rule \$pe_slots/" -ap smp
    edit 's/^hostlist .*/hostlist localhost/; s/^slots .*/slots 4/; s/^pe_list .*/pe_list smp/
        s/^load_thresholds .*/load_thresholds NONE/; s/^priority .*/priority 0/' -aq test.q
}
configure < /dev/null > "${dir}/configure.log" 2>&1 || failed "qconf"
daemon sge_execd
for _ in $(seq 1200); do
    for name in sge_qmaster sge_execd; do
        kill -0 "$(cat "${dir}/${name}.pid")" 2> /dev/null || failed "${name} ended"
    done
    # A line with a load but no states: the machine has reported.
    qstat -f | grep -Eq '^test\.q@localhost +BIP +0/0/4 +[0-9.]+ +[^ ]+ *$' && exit 0
    sleep 0.1
done
failed "the machine does not get ready"
