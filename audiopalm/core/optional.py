"""Imports of espnet2 and peft where some of their requirements are absent: stand-ins replace these and raise when used.
"""

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from audiopalm.core.errors import AudioPaLMError

OPTIONAL = ("torchaudio", "g2p_en", "jamo", "tacotron_cleaner", "jaconv", "torch_complex", "librosa", "h5py")


class _StandIn(ModuleType):
    """A module whose attributes are classes that raise ImportError when called; isinstance() with them is False."""

    __path__: list[str] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        full = f"{self.__name__}.{name}"

        def refuse(*arguments: Any, **options: Any) -> None:
            raise ImportError(f"{full} was used, but {full.partition('.')[0]} is not installed")

        return type(name, (), {"__new__": refuse})


class _StandInFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def __init__(self, absent: set[str]):
        self.absent = absent

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if fullname.partition(".")[0] in self.absent:
            return importlib.machinery.ModuleSpec(fullname, self, is_package=True)
        return None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        return _StandIn(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Do nothing: a stand-in has no code."""


def install() -> set[str]:
    """Prepare `import espnet2...`; return the names of the packages that stand-ins replace.

    Raises AudioPaLMError where espnet is not installed.
    """
    for finder in sys.meta_path:
        if isinstance(finder, _StandInFinder):
            return finder.absent
    absent = set()
    for name in OPTIONAL:
        try:
            importlib.import_module(name)
        except (ImportError, OSError):  # OSError: a torchaudio that was built for another torch
            absent.add(name)
            for loaded in [module for module in sys.modules if module.partition(".")[0] == name]:
                del sys.modules[loaded]
    try:
        importlib.import_module("espnet2")
    except ImportError:
        raise AudioPaLMError("espnet is not installed; run tools/setup.sh") from None
    sys.meta_path.insert(0, _StandInFinder(absent))
    return absent


def load_peft() -> ModuleType:
    """The package peft. Raises AudioPaLMError where it is not installed.

    peft imports accelerate, to move parts of a model between devices. This package never does that, so a stand-in
    replaces accelerate where it is absent.
    """
    try:
        # transformers looks for accelerate, so it is imported before there is a stand-in.
        importlib.import_module("transformers.modeling_utils")
        with _stand_in_for("accelerate"):
            return importlib.import_module("peft")
    except ImportError as error:
        raise AudioPaLMError(f"lora: adapters need the package {error.name or 'peft'}, which is not installed: pip "
                             "install peft (or this package with its extra `lora`)") from None


@contextmanager
def _stand_in_for(name: str) -> Iterator[None]:
    """Within the block, `import name` gives a stand-in of version 0, unless the package is installed."""
    if importlib.util.find_spec(name) is not None:
        yield
        return
    finder = _StandInFinder({name})
    sys.meta_path.insert(0, finder)
    try:
        vars(importlib.import_module(name))["__version__"] = "0"
        yield
    finally:
        sys.meta_path.remove(finder)
        for loaded in [module for module in sys.modules if module.partition(".")[0] == name]:
            del sys.modules[loaded]
