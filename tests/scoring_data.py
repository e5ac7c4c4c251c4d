"""A tiny decoded set with real audio files and all tasks, stand-ins for models, and the command of stage 12."""

import json
import shutil

import numpy as np
import soundfile
from commands import call

from audiopalm.core.files import read_json, write_json
from audiopalm.data.archive import write_ark
from audiopalm.data.datadir import write_table
from audiopalm.scoring import judge
from audiopalm.scoring.results import ResultRow
from audiopalm.stages.decode_record import spoken_fingerprint, write_record
from audiopalm.tasks import TASKS

SPANISH = {"ana-es-a": "tengo dos", "ana-es-b": "cuatro cinco", "luis-es-a": "tengo tres"}
ENGLISH = {"ana-es-a": "i have two", "ana-es-b": "four five", "luis-es-a": "i have three"}


def result_row(task, metric, value, **more):
    """A row of results.json for a task of one part."""
    usual = {"recipe": "mini", "set": "test", "part": task, "source": "es", "target": None, "low": value * 0.9,
             "high": value * 1.1, "n": 3, "system": "model", "seed": 0, "signature": "jiwer:4", "normaliser": "basic",
             "judge": None, "tag": "[X]", "decoding": {"beam": 1}, "model": "abc", "vocabulary": "def",
             "decode": "1", "ids": "1", "code": "audiopalm 0"}
    return ResultRow(**usual | {"task": task, "metric": metric, "value": value} | more)


def write_wav(path, pitch, seconds=0.5):
    path.parent.mkdir(parents=True, exist_ok=True)
    time = np.arange(int(16000 * seconds)) / 16000
    soundfile.write(path, 0.3 * np.sin(2 * np.pi * pitch * time) if pitch else np.zeros_like(time), 16000)
    return str(path)


def write_decode(root, name, task, source, target, parts, audio=None, seed=0):
    folder = root / "exp/decode/test" / name
    for part, table in parts.items():
        write_table(folder / part, table)
    if audio:
        write_speech(folder, audio)
    count = len(next(iter(parts.values()), audio))
    folder.mkdir(parents=True, exist_ok=True)
    meta = {"task": task, "source": source, "target": target, "tag": f"[{task}]", "set": "test", "model_seed": seed,
            "decoding": {"beam": 1}, "model_sha256": "a" * 64, "vocabulary_hash": "b" * 64}
    (folder / "meta.json").write_text(json.dumps(meta | {"count": count}))
    if task in TASKS:
        write_record(folder.parent, {name: meta})
    return folder


def remove_decode(folder):
    """Leave the set as if stage 10 had not decoded into `folder`."""
    shutil.rmtree(folder)
    record = folder.parent / "decodes.json"
    write_json(record, {name: meta for name, meta in read_json(record).items() if name != folder.name})


def write_speech(folder, audio):
    """The files of stages 10 and 11 for a decode that speaks: units, prompts, recordings."""
    units, prompts = {name: np.arange(4) for name in audio}, {name: name for name in audio}
    write_table(folder / "units.scp", write_ark(folder / "units.ark", units))
    write_table(folder / "prompt.scp", prompts)
    write_json(folder / "synthesis.json", {"input_sha256": spoken_fingerprint(units, prompts)})
    write_table(folder / "wav.scp", audio)


def write_set(tmp_path):
    """The files of a recipe folder that stages 12 and 13 read. The model's speech for the third utterance is silent."""
    data = tmp_path / "dump/raw/test"
    recordings = {name: write_wav(tmp_path / f"audio/{name}.wav", 200 + 50 * i) for i, name in enumerate(SPANISH)}
    true = {name: write_wav(tmp_path / f"audio/{name}.en.wav", 210 + 50 * i) for i, name in enumerate(SPANISH)}
    write_table(data / "wav.scp", recordings)
    write_table(data / "wav.scp.en", true)
    write_table(data / "text", SPANISH)
    write_table(data / "text.en", ENGLISH)
    write_table(data / "utt2lang", dict.fromkeys(SPANISH, "es"))
    write_table(data / "utt2spk", {name: name.split("-")[0] for name in SPANISH})
    write_decode(tmp_path, "asr_es", "asr", "es", None, {"asr": SPANISH | {"luis-es-a": "tengo dos"}})
    write_decode(tmp_path, "ast_es_en", "ast", "es", "en", {"ast": ENGLISH})
    output = {name: write_wav(tmp_path / f"audio/{name}.out.wav", 205 + 50 * i) for i, name in enumerate(SPANISH)}
    output["luis-es-a"] = write_wav(tmp_path / "audio/silent.wav", 0)
    write_decode(tmp_path, "s2st_es_en", "s2st", "es", "en", {}, output)
    write_decode(tmp_path, "asr+ast+s2st_es_en", "asr+ast+s2st", "es", "en", {"asr": SPANISH, "ast": ENGLISH}, output)
    return tmp_path


class Parrot:
    """A judge that hears the same words in all speech but silence."""

    package = "numpy"
    settings = ""

    def transcribe(self, samples):
        return "i have two" if samples.any() else ""


def same_voice(encoder, samples):
    """In place of Resemblyzer.embed: one speaker embedding for all speech."""
    return np.ones(2, dtype=np.float32)


def replace_models(patch, embed=same_voice):
    """Judge speech by Parrot, as the judge `parrot`, and take speaker embeddings from `embed`."""
    patch.setitem(judge.JUDGES, "parrot", Parrot)
    patch.setattr(judge, "_judges", {})
    patch.setattr("audiopalm.scoring.speaker_encoder.Resemblyzer.embed", embed)


def run_score(*options, judges=""):
    """Stage 12 in the folder of a recipe that write_set has made."""
    call("score", "--decode_dir", "exp/decode", "--data_dir", "dump/raw", "--output", "exp/score", "--results",
         "exp/results.json", "--report", "exp/RESULTS.md", "--processes", "1", "--judges", judges, *options)
