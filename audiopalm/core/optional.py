"""Lets espnet2 be imported where some of its requirements are absent, by stand-ins that say so when they are used."""

import importlib
import importlib.abc
import importlib.machinery
import sys
from types import ModuleType
from typing import Any

from audiopalm.core.errors import AudioPaLMError

OPTIONAL = ("torchaudio", "g2p_en", "jamo", "tacotron_cleaner", "jaconv", "torch_complex", "librosa", "h5py")


class _StandIn(ModuleType):
    """A module of which every attribute is a class that raises when it is called; isinstance() with it is False."""

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
        """Nothing to run."""


def install() -> set[str]:
    """Prepare `import espnet2...`; return the names that stand-ins replace. Raises AudioPaLMError without espnet."""
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
