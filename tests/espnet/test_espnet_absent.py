"""Everything but the adapter of ESPnet works without espnet."""

from prestarted import run_python

HIDDEN = "import sys; sys.modules.update({'espnet': None, 'espnet2': None}); "  # an import of these fails
IMPORT_ALL = HIDDEN + """
import importlib, pkgutil, audiopalm
names = [module.name for module in pkgutil.walk_packages(audiopalm.__path__, "audiopalm.")]
adapter = ("audiopalm.espnet.", "audiopalm.codec.soundstream_quantiser")  # SoundStream is made of ESPnet's parts
core = [name for name in names if not name.startswith(adapter)]
for name in core:
    importlib.import_module(name)
print(len(core), len(names))
"""


def run(folder, program, *arguments):
    (folder / "program.py").write_text(program)
    return run_python(folder / "program.py", *arguments)


def test_the_core_imports_without_espnet(tmp_path):
    done = run(tmp_path, IMPORT_ALL)
    assert done.returncode == 0, done.stderr
    core, all_modules = map(int, done.stdout.split())
    assert 90 < core < all_modules


def test_commands_of_the_adapter_name_the_missing_package(tmp_path):
    for name, arguments in (("espnet_train_lm", []), ("espnet_convert", ["--model_file", "x", "--output", "y"])):
        program = HIDDEN + (f"import runpy; sys.argv = ['{name}', *sys.argv[1:]]; "
                            f"runpy.run_module('audiopalm.bin.{name}', run_name='__main__')")
        done = run(tmp_path, program, *arguments)
        assert done.returncode == 1 and done.stderr == f"{name}: error: espnet is not installed; run tools/setup.sh\n"
