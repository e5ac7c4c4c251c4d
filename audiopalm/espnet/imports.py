"""All imports from ESPnet: after the stand-ins for optional packages, with the module names of each release."""

# ruff: noqa: E402
from audiopalm.core import optional

optional.install()

from espnet import __version__ as ESPNET
from espnet2.iterators.abs_iter_factory import AbsIterFactory
from espnet2.main_funcs.pack_funcs import pack, unpack
from espnet2.tasks.abs_task import AbsTask
from espnet2.torch_utils.device_funcs import force_gatherable
from espnet2.train.abs_espnet_model import AbsESPnetModel
from espnet2.train.preprocessor import AbsPreprocessor
from espnet2.utils.nested_dict_action import NestedDictAction
from espnet2.utils.types import str_or_none

try:
    from espnet.nets.batch_beam_search import BatchBeamSearch
    from espnet.nets.scorer_interface import BatchScorerInterface
except ImportError:  # releases from 202609 on
    from espnet2.legacy.nets.batch_beam_search import BatchBeamSearch
    from espnet2.legacy.nets.scorer_interface import BatchScorerInterface

__all__ = ["ESPNET", "AbsESPnetModel", "AbsIterFactory", "AbsPreprocessor", "AbsTask", "BatchBeamSearch",
           "BatchScorerInterface", "NestedDictAction", "force_gatherable", "pack", "str_or_none", "unpack"]
