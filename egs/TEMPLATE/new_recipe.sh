#!/usr/bin/env bash
# Make a recipe: egs/TEMPLATE/new_recipe.sh NAME
# Stage 1 of egs/NAME makes data directories of a folder of recordings with a text beside each: docs/new_recipe.md.
set -euo pipefail

die() { echo "new_recipe.sh: error: $*" >&2; exit 1; }

[ $# -eq 1 ] || die "it takes one argument, the name of the recipe"
name=$1
[[ "${name}" =~ ^[a-z][a-z0-9_]*$ ]] || die "'${name}' is no name for a recipe: small letters, digits and _ only"
here=$(CDPATH="" cd -P "$(dirname "${BASH_SOURCE[0]}")" && pwd)
recipe=$(dirname "${here}")/${name}
[ ! -e "${recipe}" ] || die "${recipe} exists already"

partial=${recipe}.partial
rm -rf "${partial}"
mkdir -p "${partial}/local"
cp "${here}/cmd.sh" "${partial}/"
ln -s ../TEMPLATE/path.sh "${partial}/path.sh"
ln -s ../TEMPLATE/db.sh "${partial}/db.sh"
cat > "${partial}/run.sh" << EOF
#!/usr/bin/env bash
# The recipe ${name}: ./run.sh --langs CODE, or "CODE CODE" for recordings in a folder for each language. --help lists all
# options; --init_pack shipped finetunes the shipped model (docs/finetune.md).
# Data come from local/data.sh. A configuration that is missing in conf/ is taken from ../../conf/small.
set -euo pipefail

called_as=\$(printf '%q ' "\$0" "\$@")
cd "\$(dirname "\${BASH_SOURCE[0]}")"

exec ../TEMPLATE/audiopalm.sh \\
    --scale small \\
    --pretrained ../mini/pretrained/pack \\
    --called_as "\${called_as% }" "\$@"
EOF
cat > "${partial}/local/data.sh" << EOF
#!/usr/bin/env bash
# Stage 1: downloads/{train,dev,test}, recordings with a text beside each, for several languages
# downloads/<set>/<language> -> data/{train,dev,test}. Any other commands that write these directories may replace it. The
# driver gives these options:
#
#   --output DIR --unpacked DIR           data directories [data], and a folder for the contents of archives
#   --downloads DIR --langs "CODES"       if run.sh was called with them
set -euo pipefail

cd "\$(dirname "\${BASH_SOURCE[0]}")/.."
# shellcheck source=egs/TEMPLATE/path.sh
. ./path.sh

exec python -m audiopalm.bin.prepare --corpus folder --downloads downloads --output data "\$@"
EOF
chmod +x "${partial}/run.sh" "${partial}/local/data.sh"
printf '# egs/%s\n\nDescribe the corpus, how to obtain it, its licence, and the results of run.sh.\n' \
    "${name}" > "${partial}/README.md"
mv "${partial}" "${recipe}"
echo "made ${recipe}; next: put recordings and texts into ${recipe}/downloads/{train,dev,test}, then"
echo "${recipe}/run.sh --langs en --stop_stage 2"
