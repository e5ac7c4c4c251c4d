#!/usr/bin/env bash
# Make the virtual environment .venv at the repository root: torch, espnet and the packages of tools/requirements.txt,
# all at pinned versions, and audiopalm itself (editable). It needs Python 3.11, 3.12 or 3.13 with pip, and no root.
# It does nothing when everything is installed. After an interruption, the next call starts from the beginning.
#
# Environment:
#   PYTHON=python3.11           the Python of the environment
#   AUDIOPALM_VENV=DIR          put the environment there instead of .venv
#   AUDIOPALM_PYTHON=FILE       use this Python unchanged and set nothing up (conda, clusters with modules)
#   AUDIOPALM_DEVICE=cpu|gpu    the build of torch; default: gpu where this machine shows a GPU or .venv has that build, which
#                               runs on CPUs too, so that the nodes of a cluster share one environment
#   AUDIOPALM_TORCH_INDEX=URL   the package index of torch; give the address of PyTorch's CPU wheels if the default
#                               index has none, because torch is then a CUDA build of several GB
set -euo pipefail

TORCH=2.13.0
root=$(CDPATH="" cd -P "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=${AUDIOPALM_VENV:-${root}/.venv}
stamp=${venv}/audiopalm.stamp

die() { echo "setup.sh: error: $*" >&2; exit 1; }
say() { echo "setup.sh: $*" >&2; }

if [ -n "${AUDIOPALM_PYTHON:-}" ]; then
    [ -x "${AUDIOPALM_PYTHON}" ] || die "AUDIOPALM_PYTHON=${AUDIOPALM_PYTHON} is not a program"
    [ "$(dirname "${AUDIOPALM_PYTHON}")/python" -ef "${AUDIOPALM_PYTHON}" ] ||
        die "AUDIOPALM_PYTHON=${AUDIOPALM_PYTHON}: the commands run the program python of its folder, which is missing or another" \
            "one; name the Python of a virtual or conda environment"
    exit 0
fi

# A GPU needs another build of torch, so the stamp states the build.
device=${AUDIOPALM_DEVICE:-cpu}
[[ "${device}" =~ ^(cpu|gpu)$ ]] || die "AUDIOPALM_DEVICE takes cpu or gpu, not '${device}'"
if [ -z "${AUDIOPALM_DEVICE:-}" ]; then
    if [ -f "${stamp}" ] && [[ "$(cat "${stamp}")" = "${root} gpu "* ]]; then device=gpu; fi
    if command -v nvidia-smi > /dev/null && nvidia-smi -L > /dev/null 2>&1; then device=gpu; fi
fi
hash=$(cat "${root}/tools/requirements.txt" "${root}"/tools/{setup,install_packages,install_espnet}.sh "${root}/pyproject.toml" | cksum)
wanted="${root} ${device} ${AUDIOPALM_TORCH_INDEX:-} ${hash}"
in_place() { [ -f "${stamp}" ] && [ "$(cat "${stamp}")" = "${wanted}" ]; }
if in_place; then exit 0; fi

# One set-up at a time: a second one waits here, and then everything is installed. The lock is on this file itself.
exec 9< "${BASH_SOURCE[0]}"
if command -v flock > /dev/null; then flock 9; fi
if in_place; then exit 0; fi

find_python() {
    local candidate
    for candidate in ${PYTHON:-python3.11 python3 python}; do
        if "${candidate}" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null; then
            echo "${candidate}"
            return
        fi
    done
    die "no Python 3.11 or later found; name one: PYTHON=/path/to/python3.11 $0"
}

start=${SECONDS}
log=${venv}/setup.log
if [ -f "${stamp}" ] && [ "$(cut -d ' ' -f 1-2 "${stamp}")" = "${root} ${device}" ]; then
    say "the pinned packages changed: updating ${venv}"
    rm "${stamp}"  # until the end, a killed update becomes a new set-up
else
    python=$(find_python)
    say "making ${venv} with $("${python}" --version 2>&1); one or two minutes, 2 GB"
    if [ -e "${venv}" ] && [ ! -e "${venv}/pyvenv.cfg" ] && [ -n "$(ls -A "${venv}")" ]; then
        die "${venv} exists and is not a virtual environment"
    fi
    rm -rf "${venv}"
    "${python}" -m venv "${venv}" || die "${python} -m venv failed (on Debian and Ubuntu, the package python3-venv brings it)"
fi
"${venv}/bin/python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' ||
    say "warning: the versions are pinned for Python 3.11; this is $("${venv}/bin/python" --version)"

export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_REQUIRE_VIRTUALENV=1
# install WHAT ARGUMENTS...: one line on the screen, the details in the log.
install() {
    local what=$1 began=${SECONDS}
    shift
    "${root}/tools/install_packages.sh" "${venv}/bin/python" "$@" >> "${log}" 2>&1 || return 1
    say "${what}: $((SECONDS - began)) s"
}
# failed MESSAGE: ends the set-up after a failed `install`, with uv's reasons.
failed() {
    grep -iE '^ *(error|×|╰)' "${log}" | tail -n 3 >&2 || true
    die "$1; details: ${log}"
}

# The list comes first, so that torch's requirements are installed and AUDIOPALM_TORCH_INDEX serves torch alone.
install "packages of tools/requirements.txt" --no-deps -r "${root}/tools/requirements.txt" || failed "packages cannot be installed"
index=()
if [ -n "${AUDIOPALM_TORCH_INDEX:-}" ]; then index=(--default-index "${AUDIOPALM_TORCH_INDEX}"); fi
if [ "${device}" = gpu ]; then
    # Never run so far: no machine with both a GPU and a package index was available.
    install "torch ${TORCH} for the GPU" ${index[@]+"${index[@]}"} "torch==${TORCH},!=${TORCH}+cpu" || failed "torch cannot be installed"
elif ! install "torch ${TORCH}, CPU build" ${index[@]+"${index[@]}"} "torch==${TORCH}+cpu"; then
    say "there is no CPU build of torch at hand (see AUDIOPALM_TORCH_INDEX in tools/setup.sh): taking the usual build"
    install "torch ${TORCH}" ${index[@]+"${index[@]}"} "torch==${TORCH}" || failed "torch cannot be installed"
fi
"${root}/tools/install_espnet.sh" "${venv}/bin/python" >> "${log}" 2>&1 || die "espnet cannot be installed; details: ${log}"
install "audiopalm (editable)" --no-deps --no-build-isolation -e "${root}" || failed "audiopalm cannot be installed"

unset PYTHONDONTWRITEBYTECODE # so that what this imports is compiled once, and not by every command again
"${venv}/bin/python" "${root}/tools/check_install.py" > "${venv}/check_install.log" 2>&1 || {
    cat "${venv}/check_install.log" >&2
    die "the environment is incomplete"
}
printf '%s\n' "${wanted}" > "${stamp}.partial"
mv "${stamp}.partial" "${stamp}"
say "done in $((SECONDS - start)) s; details: tools/check_install.py, ${log}"
