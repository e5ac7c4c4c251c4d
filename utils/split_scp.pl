#!/usr/bin/env perl
# Split a table into parts of equal size, in order: TABLE OUT1 OUT2 ...
# --utt2spk=FILE puts all lines of a speaker into one part, speaker after speaker. TABLE may be -. -j N I: part I of N, counted from 0 or with --one-based from 1,
# into OUT or to standard output.
use strict;
use warnings;

my ($parts, $part, $utt2spk);
my $first = 0;
while (@ARGV && $ARGV[0] =~ /^-./) {
    my $option = shift @ARGV;
    if ($option eq '-j' && @ARGV >= 2) { ($parts, $part) = splice @ARGV, 0, 2; }
    elsif ($option eq '--one-based') { $first = 1; }
    elsif ($option =~ /^--utt2spk=(.+)/) { $utt2spk = $1; }
    else { die "split_scp.pl: error: unknown option $option\n"; }
}
if (defined $parts) {
    die "split_scp.pl: error: -j N I wants $first <= I < N" . ($first ? ' + 1' : '') . "\n"
        if "$parts$part" !~ /^\d+$/ || $part < $first || $part >= $parts + $first;
    $part -= $first;
}
my ($table, @out) = @ARGV;
die "Usage: split_scp.pl [--utt2spk=FILE] TABLE OUT1 OUT2 ... | -j N I [--one-based] TABLE [OUT]\n"
    if !defined $table || (defined $parts ? @out > 1 : @out < 1);
$parts = @out unless defined $parts;

my %speaker;
if (defined $utt2spk) {
    open my $map, '<', $utt2spk or die "split_scp.pl: error: $utt2spk: $!\n";
    while (<$map>) { my @fields = split; $speaker{$fields[0]} = $fields[1] if @fields == 2; }
}
my $in = \*STDIN;
if ($table ne '-') { undef $in; open $in, '<', $table or die "split_scp.pl: error: $table: $!\n"; }
my (@groups, %group_of);  # lines that belong together
while (<$in>) {
    my ($id) = split;
    die "split_scp.pl: error: $table:$.: empty line\n" unless defined $id;
    my $group = $id;
    if (defined $utt2spk) {
        $group = $speaker{$id};
        die "split_scp.pl: error: $id is not in $utt2spk\n" unless defined $group;
    }
    if (defined $utt2spk && $group_of{$group}) { push @{$group_of{$group}}, $_; next; }
    push @groups, $group_of{$group} = [$_];
}
die "split_scp.pl: error: $table has " . @groups . (defined $utt2spk ? ' speakers' : ' lines') . ", too few for $parts parts\n"
    if @groups < $parts;

my $lines = 0;
$lines += @$_ for @groups;
my @split = map { [] } 1 .. $parts;
my ($filled, $number) = (0, 0);
for my $index (0 .. $#groups) {
    my $left = @groups - $index;  # every part gets a group
    $number++ if @{$split[$number]} && $number < $parts - 1
        && ($filled + @{$groups[$index]} / 2 > $lines * ($number + 1) / $parts || $left < $parts - $number);
    push @{$split[$number]}, @{$groups[$index]};
    $filled += @{$groups[$index]};
}
if (defined $part) {
    my $to = \*STDOUT;
    if (@out) { undef $to; open $to, '>', $out[0] or die "split_scp.pl: error: $out[0]: $!\n"; }
    print $to @{$split[$part]};
    exit 0;
}
for my $index (0 .. $#out) {
    open my $to, '>', $out[$index] or die "split_scp.pl: error: $out[$index]: $!\n";
    print $to @{$split[$index]};
    close $to or die "split_scp.pl: error: $out[$index]: $!\n";
}
