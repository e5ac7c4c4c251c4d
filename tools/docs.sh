#!/usr/bin/env bash
# Build the site of docs/ into site/, strictly, and check that its pages load nothing from other servers. The first call
# makes the small virtual environment .venv-docs at pinned versions; torch is not needed. `tools/docs.sh serve` shows the
# site while you write. PYTHON=python3.11 names the Python of the environment.
set -euo pipefail

cd -P "$(dirname "${BASH_SOURCE[0]}")/.."
venv=${AUDIOPALM_DOCS_VENV:-.venv-docs}
list=tools/requirements-docs.txt

die() { echo "docs.sh: error: $*" >&2; exit 1; }

if ! cmp -s "${list}" "${venv}/requirements.txt"; then
    "${PYTHON:-python3}" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || die "Python 3.11 or later is needed: PYTHON=..."
    if [ -e "${venv}" ] && [ ! -e "${venv}/pyvenv.cfg" ]; then die "${venv} exists and is not a virtual environment"; fi
    rm -rf "${venv}"
    "${PYTHON:-python3}" -m venv "${venv}"
    PIP_DISABLE_PIP_VERSION_CHECK=1 tools/install_packages.sh "${venv}/bin/python" --no-deps -r "${list}" > "${venv}/install.log" 2>&1 ||
        die "the packages of ${list} cannot be installed; details: ${venv}/install.log"
    cp "${list}" "${venv}/requirements.txt"
fi

# Without this, Material prints an advertisement of its successor.
export NO_MKDOCS_2_WARNING=1
if [ "${1:-}" = serve ]; then exec "${venv}/bin/mkdocs" serve; fi
[ $# -eq 0 ] || die "unexpected argument '$1'; known: serve"
"${venv}/bin/mkdocs" build --strict --quiet
# Addresses in the text are links that a reader may follow. Files that a browser loads by itself must be part of the site.
# A mermaid diagram would load its program from another server.
if found=$(grep -rnoE --include='*.html' 'class="mermaid|<(script|img|iframe|source|audio|video)[^>]* src="?(https?:)?//[^ >"]*|<link[^>]* href="?(https?:)?//[^ >"]*' site) ||
    found=$(grep -rnoE --include='*.css' '(url\(|@import )["'"'"']?(https?:)?//[^)"'"'"' ]*' site); then
    die "the site loads something from elsewhere: ${found}"
fi
echo "docs.sh: site/index.html, $(find site -name '*.html' | wc -l) pages"
