"""Pictures of the page as SVG or PNG files: loss curves and spectrograms."""

import json
from pathlib import Path

import matplotlib
import numpy as np
from scipy.signal import stft

from audiopalm.data.audio import SAMPLE_RATE, read_audio
from audiopalm.data.files import atomic_path

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402  (after the choice of backend)


def read_log(path: str | Path) -> list[dict]:
    """Lines of log.jsonl; the half line that a killed training leaves is skipped."""
    lines = []
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(line))
        except ValueError:
            continue
    return lines


def loss_curves(log: list[dict], title: str, output: str | Path) -> bool:
    """Every field named `loss` or `...loss` over `step`; False, and no file, when the log has none."""
    names = sorted({key for line in log if "step" in line for key, value in line.items()
                    if key.endswith("loss") and isinstance(value, int | float)})
    if not names:
        return False
    figure, axes = pyplot.subplots(figsize=(5, 2.8), layout="constrained")
    for name in names:
        points = [(line["step"], line[name]) for line in log if "step" in line and name in line]
        axes.plot(*zip(*points, strict=True), label=name, linewidth=1.2, marker="." if len(points) < 20 else "")
    axes.set(title=title, xlabel="step")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=8)
    _save(figure, output)
    return True


def spectrograms(files: dict[str, str | Path], output: str | Path) -> None:
    """{title: audio} side by side, 0 to 8 kHz, 80 dB, one time scale."""
    figure, grid = pyplot.subplots(1, len(files), figsize=(3.4 * len(files), 2.1), layout="constrained", squeeze=False,
                                   sharey=True)
    samples = {title: read_audio(path) for title, path in files.items()}
    longest = max(map(len, samples.values())) / SAMPLE_RATE
    for axes, (title, signal) in zip(grid[0], samples.items(), strict=True):
        _, _, spectrum = stft(signal, SAMPLE_RATE, nperseg=400, noverlap=240, nfft=512)
        level = 20 * np.log10(np.abs(spectrum) + 1e-6)
        axes.imshow(level, origin="lower", aspect="auto", cmap="magma", vmin=level.max() - 80, vmax=level.max(),
                    extent=(0, len(signal) / SAMPLE_RATE, 0, SAMPLE_RATE / 2000))
        axes.set(title=title, xlim=(0, longest))
        axes.title.set_fontsize(9)
    grid[0][0].set_ylabel("kHz")
    _save(figure, output)


def _save(figure: pyplot.Figure, output: str | Path) -> None:
    with atomic_path(output) as temporary:
        figure.savefig(temporary, dpi=90, metadata={"Date": None} if Path(output).suffix == ".svg" else None)
    pyplot.close(figure)
