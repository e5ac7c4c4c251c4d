#!/usr/bin/env perl
# Print the lines of standard input or of a file in random order, which depends on the seed: [--srand N] [FILE]
use strict;
use warnings;

my $seed = 0;
if (@ARGV && $ARGV[0] eq '--srand') {
    shift @ARGV;
    $seed = shift @ARGV;
    defined $seed && $seed =~ /^\d+$/ or die "shuffle_list.pl: error: --srand takes a number\n";
}
die "Usage: shuffle_list.pl [--srand N] [FILE] > out\n" if @ARGV > 1 || @ARGV && $ARGV[0] =~ /^-./;
my @lines = <>;
srand $seed;
for (my $last = $#lines; $last > 0; $last--) {
    my $other = int rand($last + 1);
    @lines[$last, $other] = @lines[$other, $last];
}
print @lines;
