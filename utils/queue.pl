#!/usr/bin/env perl
# Run jobs through Grid Engine, with the call of run.pl: [--config FILE] [--option value]... [JOB=1:N] LOG COMMAND...
# conf/queue.conf of the recipe, else of the repository, or FILE, translates options for qsub. Options with one hyphen, such
# as -q long, are qsub's own. The script waits for the jobs. They are deleted when it is killed, even by SIGKILL.
# A job whose command ends with exit code 75 is started again: the command was interrupted and has saved its work.
# LOGDIR/q has the script, the exit codes and the messages of Grid Engine itself.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use File::Basename qw(basename);
use jobs;

my $call = parse_call(@ARGV);
my @qsub = configure($call, 'queue.conf');
fail('Grid Engine numbers jobs from 1 on') if $call->{first} < 1;

sub submit {
    my ($base, $array) = @_;
    (my $name = basename($base)) =~ s/[^\w.-]/_/g;
    $name = "j$name" if $name =~ /^\d/;  # a name must not begin with a digit
    my @words = (@qsub, '-N', $name, '-o', "$base.out." . ($array ? '$TASK_ID' : $call->{first}));
    if ($array) {
        push @words, '-t', "$call->{first}-$call->{last}";
        push @words, '-tc', $call->{options}{'max-jobs-run'} if defined $call->{options}{'max-jobs-run'};
    }
    return (@words, "$base.sh");
}

# A job is not lost when the master does not answer. A job in the error state waits for the user's qmod or qdel.
my $warned;
sub known {
    my ($status, $text) = capture('qstat', '-j', $_[0]);
    print STDERR "queue.pl: warning: job $_[0] waits in the error state: $1\n"
        if $text =~ /^error reason\s+\d+:\s*(.*)$/m && !$warned++;
    return $status == 0 || $text !~ /do not exist/;
}

run_in_queue($call, task => 'SGE_TASK_ID', submit => \&submit, id => qr/^Your job(?:-array)? (\d+)/m, known => \&known,
    cancel => ['qdel'], why => sub { 'deleted, over a limit, or its machine was lost' }, again => 'exit 99');
