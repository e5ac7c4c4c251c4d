#!/usr/bin/env bash
# Installs packages into the environment of a Python by uv, in a tenth of the time that pip needs:
# tools/install_packages.sh PYTHON ARGUMENTS... (those of `uv pip install`)
# uv itself is installed there by pip. It does not read pip's configuration, so pip's package indexes, folders of wheels and
# certificates are passed on to it.
set -euo pipefail

UV=0.13.9
python=$1
shift

"${python}" -c 'import uv' 2> /dev/null || "${python}" -m pip install --quiet "uv==${UV}"

settings=$("${python}" -m pip config list)
# setting NAME: its words. PIP_* variables are listed first, and count.
setting() { sed -n "s/^[a-z:]*\.$1=['\"]\(.*\)['\"]\$/\1/p" <<< "${settings}" | head -n 1 | sed 's/\\n/ /g'; }
index=${UV_DEFAULT_INDEX:-$(setting index-url)}
certificates=$(setting cert)
options=(--index-strategy unsafe-best-match) # pip's own: the best version that any index has
others=$(setting extra-index-url)
if [ -n "${others}" ] && [[ " $* " != *" --default-index "* ]]; then
    # If several indexes have this version, uv takes the file of the first. That must be pip's main index, because another one
    # may have only a wheel without its compiled library.
    [ -n "${index}" ] || index=$("${python}" -c 'from pip._internal.models.index import PyPI; print(PyPI.simple_url)')
    others="${index} ${others}"
fi
for address in ${others}; do options+=(--index "${address}"); done
for folder in $(setting find-links); do options+=(--find-links "${folder}"); done
if [ -n "${index}" ]; then export UV_DEFAULT_INDEX=${index}; fi
if [ -n "${certificates}" ]; then export SSL_CERT_FILE=${SSL_CERT_FILE:-${certificates}}; fi
export UV_HTTP_TIMEOUT=${UV_HTTP_TIMEOUT:-120} UV_NO_PROGRESS=1

exec "${python}" -m uv pip install --python "${python}" "${options[@]}" "$@"
