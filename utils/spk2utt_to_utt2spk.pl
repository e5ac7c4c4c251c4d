#!/usr/bin/env perl
# spk2utt on standard input or in a file -> utt2spk, in the same order.
use strict;
use warnings;

while (<>) {
    my ($speaker, @utterances) = split;
    die "spk2utt_to_utt2spk.pl: error: line $. is not `speaker utterance ...`\n" unless @utterances;
    print "$_ $speaker\n" for @utterances;
}
