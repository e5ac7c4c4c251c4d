#!/usr/bin/env perl
# Run jobs on this machine, in parallel: [--max-jobs-run N] [--num-threads N] [JOB=1:N] LOG COMMAND...
# The name before = (any word) is replaced by the number of the job in LOG and COMMAND. A single argument is a shell
# command line. Several arguments are passed on unchanged, except operators such as | and >. `--gpu N` gives each job N
# GPUs in turn. Other options for clusters, such as `--mem 4G` and `-l mem_free=4G`, are ignored.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use POSIX qw(WNOHANG sigprocmask);
use jobs;

# Cores of this machine. nproc would print OMP_NUM_THREADS, which is the number of threads of one job.
sub cores {
    delete local @ENV{qw(OMP_NUM_THREADS OMP_THREAD_LIMIT)};
    my ($status, $text) = capture('nproc');
    return $status == 0 && $text =~ /^([1-9]\d*)$/ ? $1 : 1;
}

# The GPUs of this machine, without those that the user hides.
sub gpus {
    return split /,/, $ENV{CUDA_VISIBLE_DEVICES} if defined $ENV{CUDA_VISIBLE_DEVICES};
    my ($status, $text) = capture('nvidia-smi', '-L');
    return $status == 0 ? $text =~ /^GPU (\d+)/mg : ();
}

# The jobs are a process group of their own, so that they receive a Ctrl-C of the terminal once, through this script (and
# no Ctrl-Z). A keeper process ends them when this script is killed.
my ($self, $keeper) = $$;
sub start_keeper {
    $keeper = fork;
    fail("cannot start a process: $!") unless defined $keeper;
    setpgrp $keeper, $keeper;
    return if $keeper;
    $SIG{$_} = 'IGNORE' for qw(INT TERM HUP);
    open $_, '+<', '/dev/null' for \*STDIN, \*STDOUT, \*STDERR;
    sleep 1 while getppid == $self;
    kill TERM => -$$;
    exit;
}
END { kill KILL => $keeper if $keeper && $$ == $self; }

# Whether a process of the jobs is still running; zombies do not count.
sub jobs_left {
    my @lines;
    if (-e "/proc/$$/stat") {
        for my $path (glob '/proc/[0-9]*/stat') {
            open my $file, '<', $path or next;  # it has ended
            push @lines, "$1 $3 $2" if join('', <$file>) =~ /^(\d+) \(.*\) (\S) \d+ (\d+)/s;
        }
    } else { @lines = `ps -A -o pid= -o pgid= -o stat=`; }
    return grep { /^\s*(\d+)\s+$keeper\s+[^Z]/ && $1 != $keeper } @lines;
}

sub start {
    my ($script, @gpus) = @_;
    # The script is a file, because an argument of bash has at most 128 KiB.
    open my $file, '+>', undef or fail("cannot write a temporary file: $!");
    print $file $script;
    seek $file, 0, 0 or fail("cannot write a temporary file: $!");
    # Between fork and exec, a signal would be handled by our handler and lost.
    my ($signals, $before) = (POSIX::SigSet->new(POSIX::SIGINT, POSIX::SIGTERM), POSIX::SigSet->new);
    sigprocmask(POSIX::SIG_BLOCK, $signals, $before);
    my $process = fork;
    fail("cannot start a process: $!") unless defined $process;
    setpgrp $process, $keeper;
    if (!$process) {
        $SIG{INT} = $SIG{TERM} = 'DEFAULT';
        $ENV{CUDA_VISIBLE_DEVICES} = join ',', @gpus if @gpus;
        sigprocmask(POSIX::SIG_SETMASK, $before);
        open STDIN, '<&', $file or fail("cannot read the script: $!");
        exec 'bash', '-s' or fail("cannot start bash: $!");
    }
    sigprocmask(POSIX::SIG_SETMASK, $before);
    return $process;
}

my $call = parse_call(@ARGV);
my $limit = $call->{options}{'max-jobs-run'} // cores();
# Jobs that need fewer GPUs than the machine has take them in turn.
my $wanted = $call->{options}{gpu} // 0;
my @gpus = $wanted ? gpus() : ();
@gpus = () if @gpus <= $wanted;
open_logs($call);
start_keeper();

my ($signal, %running, %codes);
my $next = $call->{first};
$SIG{CHLD} = sub { };  # interrupts the pause below
$SIG{$_} = sub { $signal = $_[0]; kill $signal => -$keeper; } for qw(INT TERM);
# After a signal, a shell may end before its command does.
while (%running || ($signal ? jobs_left() : $next <= $call->{last})) {
    if (!$signal && $next <= $call->{last} && keys %running < $limit) {
        my $before = ($next - $call->{first}) * $wanted;
        my @own = @gpus ? map { $gpus[($before + $_) % @gpus] } 0 .. $wanted - 1 : ();
        $running{start(job_script($call, $next), @own)} = $next;
        $next++;
        next;
    }
    my $process = waitpid -1, WNOHANG;
    if ($process > 0 && defined $running{$process}) {
        $codes{delete $running{$process}} = $? & 127 ? 128 + ($? & 127) : $? >> 8;
    } else {
        select undef, undef, undef, 0.3;
    }
}
if ($signal) {
    print STDERR "run.pl: SIG$signal: stopped\n";
    exit($signal eq 'INT' ? 130 : 143);
}
report($call, \%codes);
