#!/usr/bin/env perl
# Run jobs on this machine, in parallel: [--max-jobs-run N] [--num-threads N] [JOB=1:N] LOG COMMAND...
# The name before = (any word) is replaced by the number of the job in LOG and COMMAND. A single argument is a shell
# command line; of several each is passed on as it is, but for operators like | and >. Options for clusters are ignored.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use POSIX qw(WNOHANG sigprocmask);
use jobs;

# Cores of this machine. nproc would answer with OMP_NUM_THREADS, which is about the threads of one job.
sub cores {
    delete local @ENV{qw(OMP_NUM_THREADS OMP_THREAD_LIMIT)};
    my ($status, $text) = capture('nproc');
    return $status == 0 && $text =~ /^([1-9]\d*)$/ ? $1 : 1;
}

sub descendants {
    my %children;
    if (-e "/proc/$$/stat") {
        for my $path (glob '/proc/[0-9]*/stat') {
            open my $file, '<', $path or next;  # it ended meanwhile
            push @{$children{$2}}, $1 if join('', <$file>) =~ /^(\d+) \(.*\) \S (\d+)/s;
        }
    } else {
        for (`ps -A -o pid= -o ppid=`) { my ($process, $parent) = split; push @{$children{$parent}}, $process; }
    }
    my ($number, @found) = (0, @{$children{$$} // []});
    while ($number < @found) { push @found, @{$children{$found[$number++]} // []}; }
    return @found;
}

sub alive {
    my ($process) = @_;
    if (open my $file, '<', "/proc/$process/stat") { return join('', <$file>) !~ /\) Z /; }  # not a zombie
    return !-e "/proc/$$/stat" && kill 0, $process;
}

# The jobs are of our process group, which is the caller's: a signal to the group would hit the caller.
my %told;  # processes that got a signal
sub forward {
    my ($signal) = @_;
    my %sent;
    for my $pass (1, 2) {  # the second for processes that were being born in the first
        select undef, undef, undef, 0.1 if $pass == 2;
        for my $process (descendants(), keys %told) {
            kill $signal, $process unless $sent{$process}++;
            $told{$process} = 1;
        }
    }
}

sub start {
    my ($script) = @_;
    # Through a file, not an argument of bash: an argument has at most 128 KiB.
    open my $file, '+>', undef or fail("cannot write a temporary file: $!");
    print $file $script;
    seek $file, 0, 0 or fail("cannot write a temporary file: $!");
    # Between fork and exec a signal would end in our handler and be lost.
    my ($signals, $before) = (POSIX::SigSet->new(POSIX::SIGINT, POSIX::SIGTERM), POSIX::SigSet->new);
    sigprocmask(POSIX::SIG_BLOCK, $signals, $before);
    my $process = fork;
    fail("cannot start a process: $!") unless defined $process;
    if (!$process) {
        $SIG{INT} = $SIG{TERM} = 'DEFAULT';
        sigprocmask(POSIX::SIG_SETMASK, $before);
        open STDIN, '<&', $file or fail("cannot read the script: $!");
        exec 'bash', '-s' or fail("cannot start bash: $!");
    }
    sigprocmask(POSIX::SIG_SETMASK, $before);
    return $process;
}

my $call = parse_call(@ARGV);
my $limit = $call->{options}{'max-jobs-run'} // cores();
open_logs($call);

my ($signal, %running, %codes);
my $next = $call->{first};
$SIG{CHLD} = sub { };  # ends the pause below
$SIG{$_} = sub { $signal = $_[0]; forward($signal); } for qw(INT TERM);
# After a signal a shell may end before what it runs.
while (%running || ($signal ? grep { alive($_) } keys %told : $next <= $call->{last})) {
    if (!$signal && $next <= $call->{last} && keys %running < $limit) {
        $running{start(job_script($call, $next))} = $next;
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
