#!/usr/bin/env perl
# utt2spk on standard input or in a file -> spk2utt; speakers in the order of their first utterance.
use strict;
use warnings;

my (@speakers, %utterances);
while (<>) {
    my @fields = split;
    die "utt2spk_to_spk2utt.pl: error: line $. is not `utterance speaker`: $_" if @fields != 2;
    push @speakers, $fields[1] unless $utterances{$fields[1]};
    push @{$utterances{$fields[1]}}, $fields[0];
}
print "$_ @{$utterances{$_}}\n" for @speakers;
