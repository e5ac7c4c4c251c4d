"""egs/TEMPLATE/path.sh chooses how OpenMP threads wait, unless the user has chosen."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")


@pytest.mark.parametrize(("chosen", "expected"), [
    ({}, {"GOMP_SPINCOUNT": "1000"}), ({"OMP_WAIT_POLICY": "ACTIVE"}, {"OMP_WAIT_POLICY": "ACTIVE"}),
    ({"GOMP_SPINCOUNT": "7"}, {"GOMP_SPINCOUNT": "7"})])
def test_a_policy_of_the_user_is_left_alone(chosen, expected):
    environment = {name: value for name, value in os.environ.items() if name not in NAMES}
    result = subprocess.run(["bash", "-euc", ". egs/TEMPLATE/path.sh; env"], cwd=ROOT, text=True, capture_output=True,
                            env=environment | chosen, check=True)
    variables = dict(line.split("=", 1) for line in result.stdout.splitlines() if "=" in line)
    assert {name: variables[name] for name in NAMES if name in variables} == expected
