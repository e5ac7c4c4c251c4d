"""Plots of the page, as data URIs: loss curves, errors by length, scores by language, spectrograms, attention maps."""

import base64
import io
import json
from collections.abc import Iterable
from pathlib import Path

import matplotlib
import numpy as np
from scipy.signal import stft

from audiopalm.data.audio import SAMPLE_RATE, read_audio
from audiopalm.scoring.results import ResultRow

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402  (after the choice of backend)

LENGTHS = 4  # groups of utterances by length


def read_log(path: str | Path) -> list[dict]:
    """The lines of log.jsonl; an incomplete line, which a killed training leaves, is skipped."""
    lines = []
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(line))
        except ValueError:
            continue
    return lines


def loss_curves(log: list[dict], title: str) -> str | None:
    """Every field whose name ends in `loss`, and the loss on the dev set, over `step`; None without losses.

    A line with a validation has the field `dev`, {name: loss}; its `loss` is the mean that decides early stopping.
    """
    curves: dict[str, list[tuple[int, float]]] = {}
    for line in log:
        if "step" not in line:
            continue
        losses = {key: value for key, value in line.items() if key.endswith("loss")}
        losses["dev loss"] = (line.get("dev") or {}).get("loss")
        for name, value in losses.items():
            if isinstance(value, int | float):
                curves.setdefault(name, []).append((line["step"], value))
    if not curves:
        return None
    figure, axes = _small(title)
    for name in sorted(curves):
        points = curves[name]
        style = {"linestyle": "--", "color": "black"} if name == "dev loss" else {}
        axes.plot(*zip(*points, strict=True), label=name, linewidth=1.2, marker="." if len(points) < 20 else "",
                  **style)
    axes.set(xlabel="step")
    axes.legend(frameon=False, fontsize=8)
    return _picture(figure, "svg")


def errors_by_length(counts: dict[str, list[tuple[int, int]]], title: str) -> str | None:
    """The error rate by the length of utterances; None without utterances.

    counts: {label of a line: (errors, words of the reference) of each utterance}.
    """
    lengths = [length for rows in counts.values() for _, length in rows]
    if not lengths:
        return None
    edges = np.unique(np.quantile(lengths, np.linspace(0, 1, LENGTHS + 1)[1:-1]))
    figure, axes = _small(title)
    for label, rows in sorted(counts.items()):
        errors, words = np.array(rows).T
        groups = np.searchsorted(edges, words)
        present = [group for group in range(len(edges) + 1) if (groups == group).any()]
        axes.plot([words[groups == group].mean() for group in present],
                  [errors[groups == group].sum() / words[groups == group].sum() for group in present],
                  marker="o", markersize=4, linewidth=1.2, label=label)
    axes.set(xlabel="words of the reference", ylim=(0, None))
    axes.legend(frameon=False, fontsize=8, ncols=3)
    return _picture(figure, "svg")


def bars_by_language(rows: Iterable[ResultRow], title: str) -> str | None:
    """A bar for the value of each row, by language pair, with its interval if it has one; None without rows."""
    by_language = {row.languages: row for row in rows}
    if not by_language:
        return None
    figure, axes = _small(title)
    values = np.array([[row.value, 0.0 if row.low is None else row.value - row.low,
                        0.0 if row.high is None else row.high - row.value] for row in by_language.values()])
    axes.bar(list(by_language), values[:, 0], yerr=np.maximum(values[:, 1:].T, 0), color="#2456a6", alpha=0.85,
             capsize=3)
    axes.set_xlim(-1, len(by_language))
    axes.tick_params(axis="x", rotation=0 if len(by_language) < 8 else 90)
    return _picture(figure, "svg")


def lines_with_intervals(lines: dict[str, list[tuple[float, float, float, float]]], title: str, across: str,
                         upwards: str) -> str | None:
    """A line for each label, with the interval of every point; None without points.

    lines: {label: (x, value, low, high) of each point}. The axis `across` is logarithmic.
    """
    if not any(lines.values()):
        return None
    figure, axes = _small(title)
    for label, points in lines.items():
        if points:
            x, values, low, high = np.array(sorted(points)).T
            axes.errorbar(x, values, yerr=np.maximum([values - low, high - values], 0), label=label, marker="o",
                          markersize=4, linewidth=1.2, capsize=3)
    axes.set_xscale("log")
    ticks = sorted({point[0] for points in lines.values() for point in points})
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set(xlabel=across, ylabel=upwards)
    if len(lines) > 1:
        axes.legend(frameon=False, fontsize=8)
    return _picture(figure, "svg")


def before_and_after(values: dict[str, tuple[float, float]], title: str) -> str | None:
    """A line for each name with a point before and a point after, the first name on top; None without values."""
    if not values:
        return None
    figure, axes = pyplot.subplots(figsize=(6, 0.8 + 0.2 * len(values)), layout="constrained")
    axes.set_title(title, fontsize=9)
    places, (before, after) = np.arange(len(values)), np.array(list(values.values())).T
    axes.hlines(places, before, after, color="0.75", linewidth=2, zorder=1)
    for column, label, color in ((before, "before", "#2456a6"), (after, "after", "#d1661a")):
        axes.scatter(column, places, label=label, color=color, s=24, zorder=2)
    axes.set_yticks(places, list(values), fontsize=7)
    axes.set_ylim(len(values) - 0.5, -0.5)
    axes.grid(axis="x", alpha=0.3)
    figure.legend(loc="outside upper right", frameon=False, fontsize=8, ncols=2)
    return _picture(figure, "svg")


def heat_map(shares: np.ndarray, title: str, across: list[str] | float, upwards: list[str] | float) -> str:
    """A heat map of `shares` `[output, input]`, the first output on top.

    across, upwards: the labels of an axis, or its number of steps per second.
    """
    figure, axes = pyplot.subplots(figsize=(5, 3.4), layout="constrained")
    axes.imshow(shares, aspect="auto", cmap="magma", vmax=np.quantile(shares, 0.995), interpolation="nearest")
    axes.set_title(title, fontsize=9)
    for axis, labels, length in ((axes.xaxis, across, shares.shape[1]), (axes.yaxis, upwards, shares.shape[0])):
        if isinstance(labels, list):
            axis.set_ticks(range(length), labels, fontsize=max(4, min(8, 200 // length)),
                           rotation=90 if axis is axes.xaxis else 0)
        else:
            seconds = np.arange(0, length / labels, max(1, round(length / labels / 5)))
            axis.set_ticks(seconds * labels, [f"{second:g} s" for second in seconds], fontsize=8)
    axes.set(xlabel="input", ylabel="answer")
    return _picture(figure, "png")


def spectrograms(files: dict[str, str | Path]) -> str:
    """The spectrograms of {title: audio} side by side: 0 to 8 kHz, a range of 80 dB, a common time scale."""
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
    return _picture(figure, "png")


def _small(title: str) -> tuple[pyplot.Figure, pyplot.Axes]:
    """A small figure with one plot."""
    figure, axes = pyplot.subplots(figsize=(5, 2.8), layout="constrained")
    axes.set(title=title)
    axes.title.set_fontsize(10)
    axes.grid(alpha=0.25)
    return figure, axes


def _picture(figure: pyplot.Figure, kind: str) -> str:
    """Close the figure and return it as a data URI; `kind` is svg or png."""
    written = io.BytesIO()
    figure.savefig(written, format=kind, dpi=80, metadata={"Date": None} if kind == "svg" else None)
    pyplot.close(figure)
    mime = {"svg": "image/svg+xml", "png": "image/png"}[kind]
    return f"data:{mime};base64,{base64.b64encode(written.getvalue()).decode()}"
