"""Configurations and inputs of stages 6 to 10 on the digit sets."""

from commands import call

CONFIG = """
mixture: [{task: asr, weight: 2}, {task: mt}, {task: s2st}, {task: "asr+ast+s2st"}]
model: {dim: 64, layers: 2, heads: 4, kv_heads: 2, hidden_dim: 128}
batch: {rows: 4, row_length: 128, validation_sequences: 8}
training: {steps: 500, log_every: 10, validate_every: 50, save_every: 10}
optimizer: {learning_rate: 4.0e-3, warmup_steps: 10}

"""
TEXT_CONFIG = CONFIG.replace('{task: asr, weight: 2}, {task: mt}, {task: s2st}, {task: "asr+ast+s2st"}',
                             "{task: lm}, {task: mt}").replace("steps: 500", "steps: 20")
DECODE = """
tasks: [{task: asr}, {task: mt}, {task: s2st, targets: [en]}, {task: "asr+ast+s2st", targets: [en]}]
decoding: {text_tokens: 12, audio_tokens: 20}
"""


class Prepared:
    """Vocabulary, text LM and configurations of the digit sets in the folder `path`. Tests only read them."""

    def __init__(self, path, digit_sets):
        self.path = path
        data, tokens, self.dev_data, self.dev_tokens = digit_sets
        for name, text in (("lm.yaml", CONFIG), ("textlm.yaml", TEXT_CONFIG), ("decode.yaml", DECODE),
                           ("vocabulary.yaml", "text_size: 400")):
            (path / name).write_text(text)
        call("make_vocabulary", "--data_dir", data, "--tokens", tokens, "--output", path / "vocabulary", "--config",
             path / "vocabulary.yaml")
        self.train_text = ["train_lm", "--config", path / "textlm.yaml", "--vocabulary", path / "vocabulary",
                           "--data_dir", data, "--dev_data_dir", self.dev_data]
        call(*self.train_text, "--output", path / "textlm")
        self.train_lm = ["train_lm", "--config", path / "lm.yaml", "--vocabulary", path / "vocabulary", "--data_dir",
                         data, "--tokens", tokens, "--dev_data_dir", self.dev_data, "--dev_tokens", self.dev_tokens,
                         "--init_lm", path / "textlm"]

    def decode(self, folder):
        """The name and arguments of the command that decodes with `folder`/lm into `folder`/decode."""
        return ["decode", "--lm", folder / "lm", "--vocabulary", self.path / "vocabulary", "--data_dir", self.dev_data,
                "--tokens", self.dev_tokens, "--config", self.path / "decode.yaml", "--output", folder / "decode"]
