#!/usr/bin/env perl
# Run jobs through Slurm, with the call of run.pl: [--config FILE] [--option value]... [JOB=1:N] LOG COMMAND...
# conf/slurm.conf of the recipe, else of the repository, or FILE, translates options for sbatch. Options with one hyphen, such
# as -q long, are sbatch's own. The script waits for the jobs. They are cancelled when it is killed, even by SIGKILL.
# A job whose command ends with exit code 75 is started again: the command was interrupted and has saved its work.
# LOGDIR/q has the script, the exit codes and the messages of Slurm itself.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use File::Basename qw(basename);
use jobs;

my $call = parse_call(@ARGV);
my @sbatch = configure($call, 'slurm.conf');

sub submit {
    my ($base, $array) = @_;
    my $number = $array ? '%a' : $call->{first};
    (my $output = $base) =~ s/%/%%/g;
    my @words = (@sbatch, '--parsable', '--job-name', basename($base), '--output', "$output.out.$number");
    if ($array) {
        my $limit = defined $call->{options}{'max-jobs-run'} ? "%$call->{options}{'max-jobs-run'}" : '';
        push @words, '--array', "$call->{first}-$call->{last}$limit";
    }
    return (@words, "$base.sh");
}

# A job is not lost when the controller does not answer.
sub known {
    my ($status, $text) = capture('squeue', '--noheader', '--jobs', $_[0], '--format', '%i');
    return $status == 0 ? $text =~ /^\d/m : $text !~ /Invalid job id/;
}

# Slurm shows a finished job for some minutes.
sub why {
    my ($id, $number) = @_;
    $id .= "_$number" if defined $number;
    my ($status, $text) = capture('squeue', '--noheader', '--states', 'all', '--jobs', $id, '--format', '%T');
    return $status == 0 && $text =~ /^(\w+)/ ? $1 : 'cancelled, out of time or memory, or its machine was lost';
}

run_in_queue($call, task => 'SLURM_ARRAY_TASK_ID', submit => \&submit, id => qr/^(\d+)(?:;\S+)?$/m, known => \&known,
    cancel => ['scancel'], why => \&why, again => 'scontrol requeue "${SLURM_JOB_ID}" && exit');
