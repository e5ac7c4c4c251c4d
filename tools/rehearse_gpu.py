"""Run the package's steps for a GPU on a machine without one: devices, precisions, and where the host waits.

    tools/rehearse_gpu.sh                       # fake CUDA tensors; makes an environment with torch's CUDA build
    python tools/rehearse_gpu.py --device meta  # tensors of the meta device, in any environment

Every step of rehearsal/scenarios.py runs on tensors without data, in float32 and under autocast to bfloat16: forward
pass, backward pass, optimizer. Tensors of two devices in one operator are an error, and each place in which the host
waits for the device is printed as file:line. The exit code is 1 after an error or such a place.

This does not show whether kernels are right or fast. Only the shapes of FlashAttention are computed. Flex
attention, which is compiled on a GPU, and the CTC loss, which has no shapes without data, are replaced.
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

from audiopalm.lm import cuda_attention  # noqa: E402

PLAIN_AUTOCAST = torch.autocast
# {part of a step's name: why the host waits in code that is not ours}; printed, but no error
KNOWN = {"adafactor": "torch's Adafactor reads the norm of every parameter"}


def prepare(device: str) -> AbstractContextManager:
    """Make torch behave as on a machine with this device. Returns the context in which tensors are made."""
    warnings.simplefilter("ignore")

    def attention(queries, keys, values, score_mod, block_mask, scale, enable_gqa):
        return torch.nn.functional.scaled_dot_product_attention(queries, keys, values, scale=scale,
                                                                enable_gqa=enable_gqa)

    def ctc_loss(scores, targets, lengths, target_lengths, reduction, zero_infinity):
        if {scores.device.type, targets.device.type} != {device} or not lengths.is_cpu or not target_lengths.is_cpu:
            raise RuntimeError("ctc_loss takes scores and targets on the device and lengths on the host")
        return scores.sum()

    flash = cuda_attention.varlen_attn

    def varlen_attn(queries, keys, values, starts, *others, **options):
        if not queries.dtype == keys.dtype == values.dtype or starts.dtype != torch.int32 or queries.stride(2) != 1:
            raise RuntimeError(f"FlashAttention has no kernel for {queries.dtype}, {keys.dtype}, {values.dtype}")
        return flash(queries, keys, values, starts, *others, **options)

    cuda_attention.varlen_attn = varlen_attn
    cuda_attention.compiled_flex_attention = lambda: attention
    torch.nn.functional.ctc_loss = ctc_loss
    if device == "meta":
        torch.autocast = lambda kind, *options, **named: (
            nullcontext() if kind == "meta" else PLAIN_AUTOCAST(kind, *options, **named))
        sys.modules["torch.optim.optimizer"]._get_fused_kernels_supported_devices = lambda: ["meta"]
        return nullcontext()
    if not torch.backends.cuda.is_built():
        sys.exit("this PyTorch has no CUDA: run tools/rehearse_gpu.sh, or give --device meta")
    torch.cuda.amp.common.amp_definitely_not_available = lambda: False
    torch.cuda.is_bf16_supported = lambda *_: True
    torch.backends.cudnn.enabled = False  # an LSTM would ask the driver for the version of the device
    return FakeTensorMode(allow_non_fake_inputs=True)


def rehearse(name: str, device: str, bf16: bool) -> tuple[list[str], list[str]]:
    """Run one scenario. Returns a line for each of its steps, and a line for each error."""
    done, wrong = [], []
    with prepare(device), HostSyncs() as syncs:
        for step, run in SCENARIOS[name](torch.device(device), backward):
            syncs.found.clear()  # the places of the scenario's preparation
            with autocast(device, bf16):
                try:
                    run()
                except Exception as error:  # the next scenarios run after any error
                    frame = [one for one in traceback.extract_tb(error.__traceback__) if "audiopalm" in one.filename]
                    place = f"{frame[-1].filename}:{frame[-1].lineno}" if frame else "?"
                    wrong.append(f"{step}: {type(error).__name__} at {place}: {str(error).splitlines()[0]}")
            known = next((why for part, why in KNOWN.items() if part in step), None)
            lines = [f"{step}: the host waits at {line}" for line in syncs.lines()]
            if known is None:
                wrong += lines
            else:
                done += [f"{line} (known: {known})" for line in lines]
            done.append(step)
    return done, wrong


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
            known = [line for line in done if "(known: " in line]
            print(f"{name}, {'bfloat16' if bf16 else 'float32'}: {len(done) - len(known)} steps, {len(wrong)} mistakes")
            for line in known + wrong:
                print(f"  {line}")
            mistakes += len(wrong)
    print(f"{mistakes} mistakes on {arguments.device} tensors without data")
    sys.exit(mistakes > 0)


if __name__ == "__main__":
    main()
