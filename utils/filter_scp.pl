#!/usr/bin/env perl
# Lines of a table whose id is (with --exclude: is not) in a list: [--exclude] [-f N] LIST [TABLE] > out
# -f N: the id is the N-th field of the table. LIST may have more fields; only the first is used.
use strict;
use warnings;

my ($exclude, $field) = (0, 1);
while (@ARGV && $ARGV[0] =~ /^-./) {
    my $option = shift @ARGV;
    if ($option eq '--exclude') { $exclude = 1; }
    elsif ($option eq '-f' && @ARGV && $ARGV[0] =~ /^[1-9]\d*$/) { $field = shift @ARGV; }
    else { die "filter_scp.pl: error: unknown option $option\n"; }
}
@ARGV == 1 || @ARGV == 2 or die "Usage: filter_scp.pl [--exclude] [-f N] LIST [TABLE] > out\n";

my %listed;
open my $list, '<', $ARGV[0] or die "filter_scp.pl: error: $ARGV[0]: $!\n";
while (<$list>) { $listed{$1} = 1 if /^\s*(\S+)/; }
my $table = \*STDIN;
if (@ARGV == 2) { undef $table; open $table, '<', $ARGV[1] or die "filter_scp.pl: error: $ARGV[1]: $!\n"; }
while (<$table>) {
    my @fields = split;
    die "filter_scp.pl: error: line $. has no field $field\n" if @fields < $field;
    print if $exclude xor $listed{$fields[$field - 1]};
}
