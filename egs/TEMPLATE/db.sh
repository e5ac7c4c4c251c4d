# shellcheck shell=bash
# Where the corpora are: one variable for each, the directory of its official download. A recipe links to this file.

export MINI=corpus  # the embedded corpus, egs/mini/corpus
