# Shared by run.pl, slurm.pl and queue.pl: the call, conf files, the script of a job, waiting for a queue, the report.
package jobs;
use strict;
use warnings;
use Cwd qw(getcwd);
use Exporter qw(import);
use File::Basename qw(basename dirname);
use File::Path qw(make_path);
use File::Spec;
use FindBin;
use IO::Handle;
use List::Util qw(min);
use POSIX qw(setsid);
use Text::ParseWords qw(shellwords);

our @EXPORT = qw(fail parse_call open_logs job_script configure capture run_in_queue report);

# Arguments that the shell evaluates, as Kaldi's scripts pass them: operators, redirections with a plain file name, and
# arithmetic such as $[JOB-1]. All others are quoted.
my $OPERATOR = qr/^(?:\|[|&]?|&&|;|\d?<|\d?>>?|&>>?|>&|\d?>&\d)\z/;
my $REDIRECTION = qr{^(?:\d?<|\d?>>?|&>>?|>&)[\w\@%+=:,./-]+\z};
my $ARITHMETIC = qr{^\$\[[\w\s()+*/%-]+\]\z};
my %RAW_VALUES = (-V => 0, -pe => 2);  # number of values of an option with one hyphen; others have one
my ($LONGEST_PAUSE, $LONGEST_SILENCE) = (3, 30);  # seconds between two checks of the exit codes, and of the queue
my ($GRACE, $TAIL) = (2, 10);  # seconds that an exit code may be late; lines of a failed job's output to show
my $AGAIN = 75;  # exit code of a command that was interrupted, has saved its work, and is to be started again
my $program = basename($0);

sub fail { print STDERR "$program: error: @_\n"; exit 1; }

sub quote {
    my ($word) = @_;
    # Unquoted where the shell does not change it; NAME=VALUE would be an assignment.
    return $word if $word =~ m{^[\w@%+=:,./-]+\z} && $word !~ /^\w+=/;
    return "'" . $word =~ s/'/'\\''/gr . "'";
}

sub command_line {
    my @words = @_;
    my @assignments;  # NAME=VALUE before the command
    while (@words > 1 && $words[0] =~ /^([A-Za-z_]\w*)=(.*)\z/s) { push @assignments, "$1=" . quote($2); shift @words; }
    return join ' ', @assignments, map { /$OPERATOR|$REDIRECTION|$ARITHMETIC/ ? $_ : quote($_) } @words;
}

# [--option value]... [NAME=FIRST:LAST] LOG COMMAND..., options before and after the range. Options with one hyphen are
# those of Grid Engine and Slurm, as Kaldi's scripts pass them: `-l mem_free=2G`, `-pe smp 4`, `-V`; `-tc N` is --max-jobs-run.
sub parse_call {
    my @words = @_;
    my %call = (first => 1, last => 1, options => {}, raw => []);
    while (@words) {
        if ($words[0] =~ /^--(\w[\w-]*)\z/) {
            my ($option, $value) = splice @words, 0, 2;
            fail("$option has no value") if !defined $value || $value =~ /^--/;
            ($option = substr $option, 2) =~ tr/_/-/;  # Kaldi's scripts use both spellings
            $call{options}{$option} = $value;
        } elsif ($words[0] =~ /^-[A-Za-z]+\z/) {
            my $option = shift @words;
            my @values = splice @words, 0, $RAW_VALUES{$option} // 1;
            fail("$option has no value") if @values < ($RAW_VALUES{$option} // 1) || grep { /^-/ } @values;
            if ($option eq '-tc') { $call{options}{'max-jobs-run'} = $values[0]; }
            elsif ($option ne '-sync') { push @{$call{raw}}, $option, @values; }  # these launchers always wait
        } elsif ($words[0] =~ /^-/) {
            fail("unknown option $words[0]; options are --name value");
        } elsif (!defined $call{name} && $words[0] =~ m{^([A-Za-z_]\w*)=([^/]*)\z}) {
            ($call{name}, my $range) = ($1, $2);
            $range =~ /^(\d+)(?::(\d+))?\z/ or fail("bad range $words[0]; wanted $call{name}=FIRST:LAST");
            ($call{first}, $call{last}) = ($1 + 0, ($2 // $1) + 0);
            fail("empty range $words[0]") if $call{first} > $call{last};
            shift @words;
        } else { last; }
    }
    if (@words < 2) { print STDERR "Usage: $program [--option value]... [JOB=1:N] LOG COMMAND...\n"; exit 1; }
    $call{log} = shift @words;
    fail("$call{log} has no $call{name} in it: all jobs would write the same log")
        if $call{first} < $call{last} && index($call{log}, $call{name}) < 0;
    # A single argument is a line for the shell.
    $call{command} = @words == 1 ? $words[0] : command_line(@words);
    for my $option (grep { defined $call{options}{$_} } qw(max-jobs-run num-threads)) {
        fail("--$option takes a number from 1 on") unless $call{options}{$option} =~ /^[1-9]\d*\z/;
    }
    return \%call;
}

sub log_of {
    my ($call, $number) = @_;
    return defined $call->{name} ? $call->{log} =~ s/$call->{name}/$number/gr : $call->{log};
}

sub make_directory {
    my ($directory) = @_;
    make_path($directory, {error => \my $errors});
    fail("cannot create $directory: " . (values %{$errors->[0]})[0]) if @$errors;
}

# Empty logs: a log that cannot be written is noticed now, and no log is left from an earlier call.
sub open_logs {
    my ($call) = @_;
    for my $number ($call->{first} .. $call->{last}) {
        my $log = log_of($call, $number);
        make_directory(dirname($log));
        open my $file, '>', $log or fail("cannot write the log $log: $!");
    }
}

# The bash script of a job. NUMBER: its number, or the shell variable that has it. The script ignores signals until its
# child has cleaned up, and ends the log. DONE: the file for its exit code. AGAIN: the shell command by which the scheduler
# starts the job again. With DONE and AGAIN the job runs on a machine of a cluster: in this directory, with its path.sh.
sub job_script {
    my ($call, $number, $done, $again) = @_;
    my @log = ('_jobs_log=' . quote($call->{log}), '_jobs_command=' . quote($call->{command}));
    push @log, map { "$_=\${$_//$call->{name}/$number}" } qw(_jobs_log _jobs_command) if defined $call->{name};
    # Appended to the empty log, so that a job that is started again does not lose its earlier output.
    push @log, 'exec >> "${_jobs_log}" 2>&1', q(printf '%s\n' "${_jobs_command}" | sed 's/^/# /');
    my @begin = ('echo "# Started at $(date)"', 'SECONDS=0');
    my @command = ('set -o pipefail', 'eval "${_jobs_command}"');
    my @end = ('echo "# Accounting: time=${SECONDS} threads=' . ($call->{options}{'num-threads'} // 1) . '"',
        'echo "# Ended (code ${_jobs_code}) at $(date)"');
    # The child of run.pl does not start the next command.
    return lines('trap : INT TERM', @log, @begin, '(', 'trap "exit 130" INT; trap "exit 143" TERM', @command,
        ') < /dev/null', '_jobs_code=$?', @end, 'exit "${_jobs_code}"') unless defined $done;
    # The scheduler ends every process of a job by SIGTERM. SIGUSR1 is sent to this shell alone, some time before the limit.
    return lines('cd ' . quote(getcwd()) . ' || exit 1', @log, 'echo "# Running on $(uname -n)"', @begin,
        'trap _jobs_ended=1 TERM', 'trap "trap : TERM; kill -TERM 0" USR1',
        '(', 'trap : TERM USR1', 'if [ -f ./path.sh ]; then . ./path.sh; fi', @command, ') < /dev/null &', '_jobs_child=$!',
        # A signal interrupts wait; the last wait returns the exit code.
        'while kill -0 "${_jobs_child}" 2> /dev/null; do wait "${_jobs_child}"; done', 'wait "${_jobs_child}"',
        '_jobs_code=$?', @end,
        # A job that the scheduler has ended has no exit code: it was cancelled, or the scheduler starts it again.
        'if [ -n "${_jobs_ended:-}" ]; then exit "${_jobs_code}"; fi',
        qq(if [ "\${_jobs_code}" -eq $AGAIN ]; then $again; fi),
        qq(echo "\${_jobs_code}" > $done.new && mv $done.new $done), 'exit "${_jobs_code}"');
}

sub lines { return join("\n", @_) . "\n"; }

# The words of the command that submits, with the conf file's words for the options. The conf file is that of --config,
# else conf/NAME of the recipe, else conf/NAME of the repository.
sub configure {
    my ($call, $name) = @_;
    my %options = %{$call->{options}};
    delete $options{'max-jobs-run'};  # not for the conf file, although Kaldi's conf files have a line for it
    my $file = delete $options{config} // (-e "conf/$name" ? "conf/$name" : "$FindBin::RealBin/../conf/$name");
    open my $conf, '<', $file or fail("$file: $!");
    my $text = do { local $/; <$conf> } // '';
    my ($command, %words);
    for my $line (split /\n/, $text) {
        $line =~ s/#.*//;
        next unless $line =~ /\S/;
        if ($line =~ /^\s*command\s+(\S.*)/) { $command = $1; next; }
        $line =~ /^\s*(option|default)\s+([\w-]+)=(\S+)\s*(.*)/ or fail("$file: cannot read '$line'");
        my ($kind, $option, $value, $rest) = ($1, $2 =~ tr/_/-/r, $3, $4);
        if ($kind eq 'option') { $words{$option}{$value} = $rest; }
        else { $options{$option} //= $value; }
    }
    fail("$file has no line 'command'") unless defined $command;
    my @submit = shellwords($command);
    for my $option (sort keys %options) {
        my $value = $options{$option};
        my $rest = $words{$option}{$value} // $words{$option}{'*'};
        fail("--$option $value: $file has no line for it") unless defined $rest;
        push @submit, map { s/\$0/$value/gr } shellwords($rest);
    }
    $call->{options}{'num-threads'} //= $options{'num-threads'};  # a default of the conf file; the log states it
    return (@submit, @{$call->{raw}});
}

# Exit status and output (with standard error) of a command. The command does not receive Ctrl-C, which would interrupt sbatch.
sub capture {
    my @command = @_;
    my $pid = open(my $output, '-|') // fail("cannot start a process: $!");
    if (!$pid) {
        $SIG{INT} = $SIG{TERM} = 'IGNORE';
        open STDERR, '>&', \*STDOUT;
        { no warnings 'exec'; exec { $command[0] } @command; }
        print "$command[0]: $!\n";
        exit 127;
    }
    my $text = do { local $/; <$output> } // '';
    close $output;
    return ($?, $text);
}

# Our own files: LOGDIR/q/NAME.*, where LOGDIR is the part of the path that all jobs share.
sub queue_base {
    my ($call) = @_;
    my $directory = dirname($call->{log});
    if (defined $call->{name}) { $directory = dirname($directory) while $directory =~ /$call->{name}/; }
    (my $name = basename($call->{log})) =~ s/\.log\z//;
    return File::Spec->rel2abs("$directory/q/$name");
}

# Read the exit codes so far into CODES; true if there is a new one.
sub read_codes {
    my ($call, $base, $codes) = @_;
    my $before = keys %$codes;
    opendir my $directory, dirname($base) or return 0;
    my %there = map { $_ => 1 } readdir $directory;
    for my $number (grep { !defined $codes->{$_} } $call->{first} .. $call->{last}) {
        next unless $there{basename($base) . ".done.$number"};
        open my $done, '<', "$base.done.$number" or next;
        $codes->{$number} = $1 if (<$done> // '') =~ /^(\d+)$/;
    }
    return keys %$codes > $before;
}

# A process in a session of its own that cancels the jobs when this one ends without a message, for example by SIGKILL.
# Returns a handle, which takes the id of the jobs and then "done".
sub start_keeper {
    my (@cancel) = @_;
    pipe my $words, my $ours or fail("cannot make a pipe: $!");
    my $process = fork;
    fail("cannot start a process: $!") unless defined $process;
    if ($process) {
        close $words;
        $ours->autoflush(1);
        return $ours;
    }
    setsid();
    $SIG{$_} = 'IGNORE' for qw(INT TERM HUP);
    close $ours;
    open $_, '+<', '/dev/null' for \*STDIN, \*STDOUT, \*STDERR;
    my $id;
    while (my $word = <$words>) {
        chomp $word;
        POSIX::_exit(0) if $word eq 'done';
        $id = $word;
    }
    capture(@cancel, $id) if defined $id;
    POSIX::_exit(0);
}

my ($keeper, $self) = (undef, $$);
END { if ($keeper && $$ == $self) { print $keeper "done\n"; } }

# Submit the jobs, wait for their exit codes, report. The queue is a hash of
#   task: shell variable with the number of a job of an array, submit: sub (base of the files, is it an array) that
#   gives the command, id: pattern of the id in its output, known: sub (id), whether the job is still in the queue,
#   cancel: command that takes the id, why: sub (id, number or undef), the fate of a job without an exit code,
#   again: shell command that ends a job which the queue then starts again.
sub run_in_queue {
    my ($call, %queue) = @_;
    my ($array, $base, $signal) = ($call->{first} < $call->{last}, queue_base($call));
    my $number = $array ? "\${$queue{task}}" : $call->{first};
    my @submit = $queue{submit}->($base, $array);
    open_logs($call);
    make_directory(dirname($base));
    unlink map { ("$base.done.$_", "$base.out.$_") } $call->{first} .. $call->{last};
    open my $script, '>', "$base.sh" or fail("$base.sh: $!");
    print $script "#!/usr/bin/env bash\n# @{[map { quote($_) } @submit]}\n",
        job_script($call, $number, quote("$base.done.") . $number, $queue{again});
    close $script or fail("$base.sh: $!");

    $SIG{PIPE} = 'IGNORE';  # of the keeper process, if it was killed
    $keeper = start_keeper(@{$queue{cancel}});
    # nohup has SIGHUP ignored.
    for my $name (grep { ($SIG{$_} // '') ne 'IGNORE' } qw(INT TERM HUP)) { $SIG{$name} = sub { $signal = $_[0] }; }
    my ($status, $text) = capture(@submit);
    my ($id) = $status == 0 ? $text =~ $queue{id} : ();
    fail('cannot submit: ' . join '; ', grep { /\S/ } split /\s*\n\s*/, $text) unless defined $id;
    print $keeper "$id\n";
    my ($pause, $silence, $news, %codes) = (0.1, 1, time);
    until (keys %codes > $call->{last} - $call->{first}) {
        if ($signal) {
            # So that a second signal ends this script while the queue does not answer.
            $SIG{$_} = 'DEFAULT' for qw(INT TERM HUP);
            capture(@{$queue{cancel}}, $id);
            print STDERR "$program: SIG$signal: cancelled job $id\n";
            exit({INT => 130, TERM => 143, HUP => 129}->{$signal});
        }
        select undef, undef, undef, $pause;
        $pause = min($pause * 1.2, $LONGEST_PAUSE);
        if (read_codes($call, $base, \%codes)) { ($silence, $news) = (1, time); }
        next if time - $news < $silence;
        ($silence, $news) = (min($silence * 1.5, $LONGEST_SILENCE), time);
        next if $queue{known}->($id);
        select undef, undef, undef, $GRACE;
        # NFS reads a directory again after a change by this machine.
        if (open my $file, '>', "$base.new") { close $file; unlink "$base.new"; }
        read_codes($call, $base, \%codes);
        last;
    }
    my @lost = grep { !defined $codes{$_} } $call->{first} .. $call->{last};
    print STDERR "$program: job @lost left the queue without an exit code: ",
        $queue{why}->($id, $array ? $lost[0] : undef), "\n" if @lost;
    report($call, \%codes, $base);
}

sub show_tail {
    my ($log) = @_;
    open my $file, '<', $log or return;
    my @lines;
    while (<$file>) {
        if (/^# Started at /) { @lines = (); }
        elsif (!/^# (?:Accounting: time=|Ended \(code )/) { push @lines, $_; }
        shift @lines if @lines > $TAIL;
    }
    return unless @lines;
    $lines[-1] =~ s/\n?\z/\n/;
    print STDERR "==> $log <==\n", @lines;
}

# Exit: 0 without output if all jobs succeeded, else 1 with the failed jobs. CODES: exit code by job number.
sub report {
    my ($call, $codes, $base) = @_;
    my @failed = grep { ($codes->{$_} // 'unknown') ne '0' } $call->{first} .. $call->{last};
    exit 0 unless @failed;
    my ($count, $worst) = ($call->{last} - $call->{first} + 1, $failed[0]);
    my $what = $count == 1 ? 'job failed with status ' . ($codes->{$worst} // 'unknown') : @failed . " / $count failed";
    print STDERR "$program: $what, log is in ", log_of($call, $count == 1 ? $worst : '*'), "\n";
    show_tail(log_of($call, $worst));
    show_tail("$base.out.$worst") if defined $base && !defined $codes->{$worst};  # the queue writes its reason there
    exit 1;
}

1;
