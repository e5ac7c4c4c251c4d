#!/usr/bin/env bash
# Run the package's steps for a GPU on a machine without one (tools/rehearse_gpu.py).
#
#   tools/rehearse_gpu.sh [DIR] [--scenarios ...]
#
# DIR (default: .venv_gpu at the repository root) is an environment with the CUDA build of torch, 5 GB. The first call makes
# it. All other packages are those of the environment of tools/setup.sh; AUDIOPALM_PYTHON=FILE names another environment.
set -euo pipefail

root=$(CDPATH="" cd -P "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=${root}/.venv_gpu
if [ $# -gt 0 ] && [ "${1#--}" = "$1" ]; then venv=$1; shift; fi
version=$(sed -n 's/^TORCH=//p' "${root}/tools/setup.sh")
"${root}/tools/setup.sh"
python=${AUDIOPALM_PYTHON:-${AUDIOPALM_VENV:-${root}/.venv}/bin/python}
stamp=${venv}/audiopalm.stamp
wanted="${version} ${python}"

die() { echo "rehearse_gpu.sh: error: $*" >&2; exit 1; }

if [ ! -f "${stamp}" ] || [ "$(cat "${stamp}")" != "${wanted}" ]; then
    if [ -e "${venv}" ] && [ ! -e "${venv}/pyvenv.cfg" ]; then die "${venv} exists and is not a virtual environment"; fi
    echo "rehearse_gpu.sh: making ${venv} with the CUDA build of torch ${version}; some minutes, 5 GB" >&2
    rm -rf "${venv}"
    "${python}" -m venv "${venv}" || die "${python} -m venv failed"
    # With === pip takes no build with a local version. The builds for the CPU have one.
    "${venv}/bin/python" -m pip install --no-compile --quiet "torch===${version}" ||
        die "the CUDA build of torch ${version} cannot be installed; see above"
    packages=$("${venv}/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
    "${python}" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])' > "${packages}/zz_other_packages.pth"
    echo "${wanted}" > "${stamp}"
fi
PYTHONPATH=${root} exec "${venv}/bin/python" "${root}/tools/rehearse_gpu.py" "$@"
