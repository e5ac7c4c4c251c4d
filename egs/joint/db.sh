# shellcheck shell=bash
# The folders of the official downloads, one variable for each corpus. Recipes link to this file; --downloads of a recipe
# overrides it.

export MINI=corpus  # the embedded corpus, egs/mini/corpus
export COVOST2=downloads  # CoVoST 2 and Common Voice 4; egs/covost2/README.md lists the files
export CVSS=downloads  # CVSS and Common Voice 4
export FILLETS=/usr/share/games/fillets-ng  # the folder of Debian's packages
export FLEURS=downloads
export JOINT=downloads  # all of these; egs/joint/README.md lists the files
export VOXPOPULI=downloads
