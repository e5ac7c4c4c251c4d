#!/usr/bin/env perl
# Lines of a table whose id is (with --exclude: is not) in a list: [--exclude] [-f N] LIST [TABLE] > out
# -f N: the id is the N-th field of the table. LIST may have more fields; only the first is used. LIST or TABLE may be -.
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

sub input {
    my ($name) = @_;
    return \*STDIN if $name eq '-';
    open my $file, '<', $name or die "filter_scp.pl: error: $name: $!\n";
    return $file;
}

my ($list, $table) = map { input($_) } $ARGV[0], $ARGV[1] // '-';
die "filter_scp.pl: error: LIST and TABLE cannot both be standard input\n" if $list == $table;
my %listed;
while (<$list>) { $listed{$1} = 1 if /^\s*(\S+)/; }
while (<$table>) {
    my @fields = split;
    die "filter_scp.pl: error: line $. has no field $field\n" if @fields < $field;
    print if $exclude xor $listed{$fields[$field - 1]};
}
