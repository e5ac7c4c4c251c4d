"""Rehearse on a machine without a GPU what this package does on one: devices, precisions, and who waits for whom.

    tools/rehearse_gpu.sh                       # fake CUDA tensors; makes an environment with torch's CUDA build
    python tools/rehearse_gpu.py --device meta  # tensors of the meta device, in any environment

Every step of rehearsal/scenarios.py runs on tensors without data, in float32 and under autocast to bfloat16: forward
pass, backward pass, optimizer. Tensors of two devices in one operator are an error, and each place in which the host
waits for the device is printed as file:line. Exit code 1 if there is any of both.

What this cannot show: whether kernels are right or fast. The kernels of FlashAttention are known by their shapes only,
and Flex attention, which is compiled on a GPU, is replaced by torch's own attention.
"""

import argparse
import sys
import traceback
import warnings
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import torch  # noqa: E402
from rehearsal.backward import backward  # noqa: E402
from rehearsal.host_syncs import HostSyncs  # noqa: E402
from rehearsal.scenarios import SCENARIOS  # noqa: E402
from torch._subclasses.fake_tensor import FakeTensorMode  # noqa: E402
from torch.utils import _foreach_utils  # noqa: E402

from audiopalm.lm import packed_attention  # noqa: E402

PLAIN_AUTOCAST = torch.autocast


def prepare(device: str) -> AbstractContextManager:
    """Have torch behave as on a machine with this device. Returns the context in which tensors are made."""
    warnings.simplefilter("ignore")

    def attention(queries, keys, values, score_mod, block_mask, scale, enable_gqa):
        return torch.nn.functional.scaled_dot_product_attention(queries, keys, values, scale=scale,
                                                                enable_gqa=enable_gqa)

    packed_attention.compiled_flex_attention = lambda: attention
    if device == "meta":
        torch.autocast = lambda kind, *options, **named: (
            nullcontext() if kind == "meta" else PLAIN_AUTOCAST(kind, *options, **named))
        supported = _foreach_utils._get_fused_kernels_supported_devices
        torch.optim.adamw.AdamW.__init__.__globals__["_get_fused_kernels_supported_devices"] = supported
        return nullcontext()
    if not torch.backends.cuda.is_built():
        sys.exit("this PyTorch has no CUDA: run tools/rehearse_gpu.sh, or give --device meta")
    torch.cuda.amp.common.amp_definitely_not_available = lambda: False
    torch.cuda.is_bf16_supported = lambda *_: True
    return FakeTensorMode(allow_non_fake_inputs=True)


def rehearse(name: str, device: str, bf16: bool) -> tuple[list[str], list[str]]:
    """One scenario: a line for each of its steps, and a line for each mistake."""
    done, wrong = [], []
    with prepare(device):
        torch.set_default_device(device)
        try:
            steps = list_steps(name, device)
        finally:
            torch.set_default_device(None)
        for step, run in steps:
            with HostSyncs() as syncs, autocast(device, bf16):
                try:
                    run()
                except Exception as error:  # every scenario is to be seen, whatever the one before it did
                    frame = [one for one in traceback.extract_tb(error.__traceback__) if "audiopalm" in one.filename]
                    place = f"{frame[-1].filename}:{frame[-1].lineno}" if frame else "?"
                    wrong.append(f"{step}: {type(error).__name__} at {place}: {str(error).splitlines()[0]}")
            wrong += [f"{step}: the host waits at {line}" for line in syncs.lines()]
            done.append(step)
    return done, wrong


def list_steps(name: str, device: str) -> list:
    return list(SCENARIOS[name](torch.device(device), backward))


def autocast(device: str, enabled: bool) -> AbstractContextManager:
    return PLAIN_AUTOCAST(device, torch.bfloat16) if enabled and device != "meta" else nullcontext()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "meta"), default="cuda")
    parser.add_argument("--scenarios", nargs="+", choices=SCENARIOS, default=list(SCENARIOS))
    arguments = parser.parse_args()
    mistakes = 0
    for name in arguments.scenarios:
        for bf16 in (False, True) if arguments.device == "cuda" else (False,):
            done, wrong = rehearse(name, arguments.device, bf16)
            print(f"{name}, {'bfloat16' if bf16 else 'float32'}: {len(done)} steps, {len(wrong)} mistakes")
            for line in wrong:
                print(f"  {line}")
            mistakes += len(wrong)
    print(f"{mistakes} mistakes on {arguments.device} tensors without data")
    sys.exit(mistakes > 0)


if __name__ == "__main__":
    main()
