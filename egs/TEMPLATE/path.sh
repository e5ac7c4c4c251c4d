# shellcheck shell=bash
# Source this to get audiopalm and its Python on PATH: `. ./path.sh`, in a recipe directory.

AUDIOPALM_ROOT=$(CDPATH="" cd -P "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../.." && pwd)
export AUDIOPALM_ROOT
if [ -n "${AUDIOPALM_PYTHON:-}" ]; then
    PATH=$(dirname "${AUDIOPALM_PYTHON}"):${PATH}
else
    PATH=${AUDIOPALM_VENV:-${AUDIOPALM_ROOT}/.venv}/bin:${PATH}
fi
PATH=${AUDIOPALM_ROOT}/utils:${PATH}
export PATH
export PYTHONPATH=${AUDIOPALM_ROOT}${PYTHONPATH:+:${PYTHONPATH}}
# Many container images set it. Every command would then compile torch and its other imports again, which takes seconds.
unset PYTHONDONTWRITEBYTECODE
export LC_ALL=C.UTF-8  # tables are sorted by bytes, texts are UTF-8
# Waiting threads spin for a short time, then sleep. By libgomp's default they spin about 300 times as long. Beside another
# busy process they then take the core from the thread that they wait for (benchmarks/busy_machine.py).
if [ -z "${OMP_WAIT_POLICY:-}${GOMP_SPINCOUNT:-}" ]; then export GOMP_SPINCOUNT=1000; fi
export ARROW_DEFAULT_MEMORY_POOL=system  # Arrow's own pools keep freed pages that Python could use
# By default oneDNN caches compiled kernels of the last 1,024 shapes. Packed batches have many shapes, so this cache took
# 3.6 GiB of a training of the small LM in bfloat16. A cache of 128 is as fast.
export ONEDNN_PRIMITIVE_CACHE_CAPACITY=${ONEDNN_PRIMITIVE_CACHE_CAPACITY:-128}
