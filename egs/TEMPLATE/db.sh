# shellcheck shell=bash
# Where the corpora are: one variable for each, the folder of its official download. A recipe links to this file; the
# recipe's --downloads wins over it.

export MINI=corpus  # the embedded corpus, egs/mini/corpus
export COVOST2=downloads  # CoVoST 2 and Common Voice 4; egs/covost2/README.md says what lies where
export CVSS=downloads  # CVSS and Common Voice 4
export FILLETS=/usr/share/games/fillets-ng  # where Debian's packages put it
export FLEURS=downloads
export JOINT=downloads  # all of these; egs/joint/README.md says what lies where
export VOXPOPULI=downloads
