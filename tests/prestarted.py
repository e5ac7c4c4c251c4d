"""A stand-in for Python: programs start as forks of a process that has imported the packages already.

A command of a stage imports torch and other packages for two to four seconds, and a recipe starts about twenty
commands. Here a server imports them once for all tests of a process of pytest. Each command is still a process of its
own, with its own folder, environment, standard streams and exit code, and imports audiopalm itself. Its parent is the
server: what is tested about groups of processes, or about a fresh interpreter, needs the real Python.
tests/recipes/test_mini_recipe.py runs stages by that one.
"""

import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import runpy
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

PACKAGES = ("faiss", "jiwer", "lightning_fabric", "matplotlib.pyplot", "numba", "numpy", "pyarrow.ipc", "sacrebleu",
            "scipy.signal", "scipy.stats", "sentencepiece", "soundfile", "tokenizers", "torch", "torch._dynamo",
            "torch.distributed.fsdp", "torch.utils.tensorboard", "yaml")
# What Python runs in place of itself: `-m MODULE` and `FILE.py` go to the server, all else to the real Python.
CLIENT = """#!{python} -IS
import json, os, signal, socket, sys
words = sys.argv[2:] if sys.argv[1:2] == ["-u"] else sys.argv[1:]
if words[:1] != ["-m"] and not "".join(words[:1]).endswith(".py"):
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
numbers = signal.SIGINT, signal.SIGTERM, signal.SIGUSR1
signal.pthread_sigmask(signal.SIG_BLOCK, numbers)  # a signal is passed on after the call
connection = socket.socket(socket.AF_UNIX)
connection.connect({address!r})
call = json.dumps([os.getcwd(), dict(os.environ), words]).encode()
socket.send_fds(connection, [len(call).to_bytes(4, "big")], [0, 1, 2])
connection.sendall(call)
def pass_on(number, frame):
    try:
        connection.sendall(bytes([number]))
    except OSError:  # it has just ended
        pass
for number in numbers:
    if signal.getsignal(number) != signal.SIG_IGN:
        signal.signal(number, pass_on)
signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)
code = int(connection.recv(8) or 1)
if code >= 0:
    os._exit(code)
if -code != signal.SIGKILL:
    signal.signal(-code, signal.SIG_DFL)
os.kill(os.getpid(), -code)
"""


class Server:
    """It ends with this process, or by `stop()`. `python` is the program to start in place of Python."""

    def __init__(self):
        folder = Path(tempfile.mkdtemp(prefix="prestarted"))  # a short path, as addresses of sockets need
        self.python = folder / "python"
        self.python.write_text(CLIENT.format(python=sys.executable, address=str(folder / "server")))
        self.python.chmod(0o755)
        # For utils/run_logged.py and other helpers of the shell. A link would lose the environment's packages.
        (folder / "python3").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        (folder / "python3").chmod(0o755)
        self._process = subprocess.Popen([sys.executable, __file__, str(folder / "server"), str(self.python)],
                                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
        assert self._process.stdout.readline() == b"ready\n"

    def stop(self) -> None:
        self._process.stdin.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:  # a process that the tests have forked and left holds the pipe
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


@functools.cache
def _server() -> Server:
    server = Server()
    atexit.register(server.stop)
    return server


def prestarted(**variables: str) -> dict[str, str]:
    """The environment for recipes and torchrun, which then start this stand-in; with other `variables`."""
    python = str(_server().python)
    return {**os.environ, "AUDIOPALM_PYTHON": python, "PYTHON_EXEC": python, **variables}


def run_python(*words, **variables: str) -> subprocess.CompletedProcess:
    """`python WORDS...` with its output."""
    return subprocess.run([str(_server().python), *map(str, words)], capture_output=True, text=True,
                          env=prestarted(**variables))


def receive(connection: socket.socket) -> tuple[list[int], str, dict[str, str], list[str]]:
    """(the three standard streams, folder, environment, arguments of Python) of a call.

    Raises EOFError where the caller has been killed before it sent all.
    """
    head, streams, _, _ = socket.recv_fds(connection, 4, 3)
    left, call = int.from_bytes(head, "big"), b""
    while len(call) < left or len(head) < 4:
        if not (block := connection.recv(left - len(call))):
            raise EOFError
        call += block
    return streams, *json.loads(call)


def become(streams: list[int], folder: str, environment: dict[str, str], words: list[str], python: str) -> None:
    """Run the program of a call in this fork, which ends with it."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.setsid()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    sys.stdout.reconfigure(line_buffering=True)
    os.chdir(folder)
    before = ["", *os.environ.get("PYTHONPATH", "").split(":"), str(Path(__file__).parent)]
    added = [*filter(None, environment.get("PYTHONPATH", "").split(":"))]
    installed = [path for path in sys.path if path not in before]
    os.environ.clear()
    os.environ.update(environment)
    module = words[1] if words[0] == "-m" else None
    sys.path[:] = [folder if module else str(Path(words[0]).resolve().parent), *added, *installed]
    importlib.invalidate_caches()
    sys.modules.pop("sitecustomize", None)  # of the server
    if threads := environment.get("OMP_NUM_THREADS"):  # which torch has read already
        sys.modules["torch"].set_num_threads(int(threads))
    sys.executable, sys.argv, sys.orig_argv = python, words[1:] if module else words, [python, *words]
    code = None
    try:
        if any(Path(path, "sitecustomize.py").is_file() for path in added):
            importlib.import_module("sitecustomize")  # as Python does at its start
        if module:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(words[0], run_name="__main__")
    except SystemExit as ended:
        code = ended.code
    end(code)


def end(code: object) -> None:
    """End as by sys.exit(code), except that objects are not destroyed, which takes half a second with all packages."""
    threading._shutdown()
    atexit._run_exitfuncs()
    if not (code is None or isinstance(code, int)):
        print(code, file=sys.stderr)
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit((code or 0) & 0xFF)


class Calls:
    """The running commands of a server by the connections to their callers."""

    def __init__(self, selector: selectors.BaseSelector):
        self._selector = selector
        self._running: dict[socket.socket, int] = {}

    def add(self, connection: socket.socket, child: int) -> None:
        self._running[connection] = child
        self._selector.register(connection, selectors.EVENT_READ)

    def pass_on(self, connection: socket.socket) -> None:
        """A signal that a caller received, or the end of a caller."""
        if connection not in self._running:
            return
        number = connection.recv(1)
        os.kill(self._running[connection], number[0] if number else signal.SIGKILL)
        if not number:
            self._selector.unregister(connection)

    def report_ended(self) -> None:
        """Tell the callers of commands that have ended their exit codes; minus the signal where one ended a command."""
        for connection, child in list(self._running.items()):
            ended, status = os.waitpid(child, os.WNOHANG)
            if not ended:
                continue
            del self._running[connection]
            if connection.fileno() in self._selector.get_map():
                self._selector.unregister(connection)
                with contextlib.suppress(OSError):  # the caller has just been killed
                    connection.sendall(str(os.waitstatus_to_exitcode(status)).encode())
            connection.close()

    def kill_all(self) -> None:
        for child in self._running.values():
            os.kill(child, signal.SIGKILL)


def serve(address: str, python: str) -> None:
    """Answer calls until the standard input is closed; then remove the folder of the address."""
    for name in PACKAGES:
        with contextlib.suppress(ImportError):  # an optional one; a command that needs it says so
            importlib.import_module(name)
    gc.collect()
    gc.freeze()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen(16)
    woken, waker = socket.socketpair()
    waker.setblocking(False)
    signal.set_wakeup_fd(waker.fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    selector = selectors.DefaultSelector()
    for file in (listener, woken, sys.stdin):
        selector.register(file, selectors.EVENT_READ)
    calls = Calls(selector)
    print("ready", flush=True)
    while True:
        for key, _ in selector.select():
            if key.fileobj is listener:
                connection, _ = listener.accept()
                try:
                    call = receive(connection)
                except EOFError:
                    connection.close()
                    continue
                if (child := os.fork()) == 0:
                    connection.close()
                    become(*call, python)
                for stream in call[0]:
                    os.close(stream)
                calls.add(connection, child)
            elif key.fileobj is woken:
                woken.recv(64)
                calls.report_ended()
            elif key.fileobj is sys.stdin:
                calls.kill_all()
                return shutil.rmtree(Path(address).parent)
            else:
                calls.pass_on(key.fileobj)


if __name__ == "__main__":
    serve(*sys.argv[1:])
