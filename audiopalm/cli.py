"""The console script `audiopalm`. Large packages are imported only when they are needed, so that --help is fast."""

import argparse
import ast
import json
import os
import runpy
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from audiopalm import __version__
from audiopalm.cli_answers import load_model, speak, transcribe, translate
from audiopalm.core.command import take_sigterm_as_ctrl_c
from audiopalm.core.errors import AudioPaLMError, nearest
from audiopalm.languages import LANGUAGES, language_name

EXAMPLES = """examples:
  audiopalm translate in.wav --from Spanish --to English -o out.wav
  audiopalm transcribe recordings/ --from Spanish --json
  audiopalm speak "two new messages" --in English --voice voice.wav -o out.wav
  audiopalm demo
"""


class Parser(argparse.ArgumentParser):
    """A parser that reports wrong arguments in one line, with exit code 2."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}; see {self.prog} --help\n")


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command. Exit codes: 0 for success, 2 for wrong input of any kind, 130 after Ctrl-C."""
    arguments = sys.argv[1:] if arguments is None else arguments
    # As in path.sh: beside another busy process, threads that wait by spinning take the core from those that work.
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys():
        os.environ["GOMP_SPINCOUNT"] = "1000"  # read when torch is imported, which is later
    if arguments[:1] == ["stage"]:
        sys.exit(run_stage(arguments[1:]))
    take_sigterm_as_ctrl_c()
    try:
        options = make_parser().parse_args(arguments)
        sys.exit(options.run(options))
    except AudioPaLMError as error:
        print(f"audiopalm: error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:  # for example by `| head`
        sys.stderr.close()
        sys.exit(0)
    except KeyboardInterrupt:
        print("audiopalm: interrupted", file=sys.stderr)
        sys.exit(130)


def make_parser() -> Parser:
    """The parser of all commands and their options."""
    parser = Parser(prog="audiopalm", description="Recognise, translate and speak with an AudioPaLM.", epilog=EXAMPLES,
                    formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--version", action="version", version=f"audiopalm {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    inputs = "recordings: files, folders of files, or - for a file on standard input"

    def add(name: str, run: Callable[[Any], int], what: str, answers: bool = True) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=what, description=f"{what[0].upper()}{what[1:]}.")
        command.set_defaults(run=run)
        if name != "upload":
            command.add_argument("--model", metavar="PACK",
                                 help="folder, zip or hub id of a packed model "
                                 "(default: the model that comes with the repository)")
            command.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1 or auto (default: %(default)s)")
        if answers:
            command.add_argument("--decoding", action="append", default=[], metavar="KEY=VALUE",
                                 help="a setting of the search, for example beam=8; may be repeated")
            command.add_argument("--seed", type=int, default=0, help="of sampling (default: %(default)s)")
            command.add_argument("--json", action="store_true", help="print one JSON object a line for each input")
        return command

    command = add("translate", translate, "translate speech into speech (with -o) and text, or text into text")
    command.add_argument("inputs", nargs="+", metavar="INPUT", help=inputs)
    command.add_argument("--to", required=True, type=language, metavar="LANGUAGE", help="language of the translation")
    command.add_argument("--from", dest="source", required=True, type=language, metavar="LANGUAGE",
                         help="language of the input")
    command.add_argument("--text", action="store_true", help="the inputs are texts")
    command.add_argument("--voice", metavar="FILE", help="a recording of the voice to speak in (default: the input)")
    _add_output(command)
    command.add_argument("--srt", action="store_true", help="print subtitles")

    command = add("transcribe", transcribe, "write down speech")
    command.add_argument("inputs", nargs="+", metavar="INPUT", help=inputs)
    command.add_argument("--from", dest="source", required=True, type=language, metavar="LANGUAGE",
                         help="language of the input")
    command.add_argument("--srt", action="store_true", help="print subtitles")

    command = add("speak", speak, "speak texts in the voice of a recording")
    command.add_argument("inputs", nargs="+", metavar="TEXT", help="texts, or - for a text on standard input")
    command.add_argument("--voice", required=True, metavar="FILE", help="a recording of the voice, 3 s of clear speech")
    command.add_argument("--in", dest="source", type=language, default="en", metavar="LANGUAGE",
                         help="language of the text (default: English)")
    _add_output(command, required=True)

    command = add("info", info, "print what a model was trained on, and the hashes of its parts", answers=False)
    command.add_argument("--json", action="store_true", help="print one JSON object")

    command = add("demo", demo, "serve a web page on which the model can be tried", answers=False)
    command.add_argument("--host", default="127.0.0.1", help="address to serve on; 0.0.0.0: all (default: %(default)s)")
    command.add_argument("--port", type=int, default=7860, help="(default: %(default)s)")

    command = add("upload", upload, "send a packed model to the Hugging Face hub", answers=False)
    command.add_argument("folder", help="folder of stage 14 (pack)")
    command.add_argument("repo_id", help="user/model or organisation/model")
    command.add_argument("--private", action="store_true", help="a new repository is visible to its owner only")

    commands.add_parser("stage", help="run the command of a recipe's stage: audiopalm stage decode --help")
    return parser


def _add_output(command: argparse.ArgumentParser, required: bool = False) -> None:
    command.add_argument("-o", "--out", required=required, metavar="OUT",
                         help="where to write the speech: .wav or .flac; for several inputs a folder")


def language(word: str) -> str:
    """The code of a language that is given by its name or its code. Raises ArgumentTypeError for an unknown one."""
    codes = {name.lower(): code for code, name in LANGUAGES.items()} | {code: code for code in LANGUAGES}
    if word.lower() not in codes:
        raise argparse.ArgumentTypeError(f"unknown language {word!r}; {nearest(word.title(), LANGUAGES.values())}")
    return codes[word.lower()]


def info(options: Any) -> int:
    """Print the facts about a model; returns the exit code."""
    values = load_model(options).info()
    if options.json:
        print(json.dumps(values, ensure_ascii=False))
        return 0
    print(f"languages: {', '.join(map(language_name, values['languages']))}")
    for tag in values["tasks"] or ():
        print(f"task: {tag}")
    for name, number in values["parameters"].items():
        print(f"parameters of {name}: {number:,}")
    for name, digest in values["sha256"].items():
        print(f"sha256 of {name}: {digest}")
    return 0


def demo(options: Any) -> int:
    """Serve the web page until Ctrl-C. Raises AudioPaLMError if its packages are missing or the port is taken."""
    try:
        from audiopalm.demo import make_page, serve
    except ImportError as error:
        raise AudioPaLMError(f"the web page needs {error.name}, which is not installed; pip install "
                             "'audiopalm[demo]'") from None
    serve(make_page(load_model(options)), options.host, options.port)
    while True:
        time.sleep(3600)


def upload(options: Any) -> int:
    """Upload a pack to the hub and print its address; returns the exit code."""
    from audiopalm.core.hub import upload_pack

    print(upload_pack(options.folder, options.repo_id, options.private))
    return 0


def stages() -> dict[str, str]:
    """{command of bin/: the first line of its docstring}."""
    files = sorted((Path(__file__).parent / "bin").glob("[!_]*.py"))
    return {file.stem: (ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "").split("\n")[0]
            for file in files}


def run_stage(arguments: list[str]) -> int:
    """Run a command of bin/ with its own arguments and exit codes; without a name, list the commands."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print("usage: audiopalm stage NAME [ARGUMENTS]; audiopalm stage NAME --help\n")
        for name, what in stages().items():
            print(f"  {name:18} {what}")
        return 0
    name = arguments[0]
    if name not in (names := stages()):
        print(f"audiopalm stage: error: unknown stage {name!r}; {nearest(name, names)}", file=sys.stderr)
        return 2
    sys.argv = [f"audiopalm stage {name}", *arguments[1:]]
    runpy.run_module(f"audiopalm.bin.{name}", run_name="__main__", alter_sys=False)
    return 0


if __name__ == "__main__":
    main()
