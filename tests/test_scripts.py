"""The scripts run, at their smallest size. Figures of such runs mean nothing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[1] / "scripts"
LAYER = SCRIPTS.parent / "docs/results/adaptive/HalfCheetah-v5"
AGENT = SCRIPTS.parent / "docs/results/learning/agents/exported/HalfCheetah-v5-seed0"


@pytest.mark.parametrize(
    ("command", "printed"),
    [
        ("bench/env.py --robots HalfCheetah --n-envs 2 --n-steps 32 --rounds 1", "of the limit"),
        pytest.param(
            "bench/callback.py --n-steps 32 --rollouts 1 --repeats 1 --video 2",
            "a film alone: ",
            marks=pytest.mark.slow,
        ),
        ("bench/evaluate.py --tier smoke --rounds 1 --steps 30", "times as fast"),
        pytest.param("bench/train.py --n-steps 32 --repeats 1", "PlasticPPO is", marks=pytest.mark.slow),
        pytest.param(
            "bench/roofline.py --repeats 1 --neurons 16 --kilobytes 24", "share of the limit", marks=pytest.mark.slow
        ),
        pytest.param(
            "bench/es.py --only speed --repeats 1 --population 4 --steps 20", "PlasticES is", marks=pytest.mark.slow
        ),
        pytest.param(f"bench/adaptive.py {LAYER} --n-envs 1", "motors reversed", marks=pytest.mark.slow),
        pytest.param(f"gait_in_mlp.py {AGENT} --steps 4096 --out mlp", "student: ", marks=pytest.mark.slow),
        pytest.param(
            "analog_actor.py --neurons analog lif --ticks 2 --readout leaky --steps 2048",
            "deterministic: ",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "slope_schedule.py --start 8 --end 2 --steps 8192 --episodes 1", "deterministic: ", marks=pytest.mark.slow
        ),
        pytest.param(
            f"two_faults.py {LAYER} --episodes 1 --steps 520",
            "| motors reversed, sensors off |",
            marks=pytest.mark.slow,
        ),
        pytest.param("bench/scan.py --only rollout --repeats 1 --threads 1", "fused us", marks=pytest.mark.slow),
        pytest.param(
            "quickstart.py --steps 2048 --episodes 1", "The plastic robot, 10 seconds", marks=pytest.mark.slow
        ),
    ],
)
def test_a_script_runs_at_its_smallest_size(command, printed, tmp_path):
    script, *arguments = command.split()
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    done = subprocess.run(
        [sys.executable, str(SCRIPTS / script), *arguments],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert printed in done.stdout


def test_the_matrix_of_versions_names_tests_that_there_are():
    """They run with versions that are not installed here: a name that is gone would fail every cell."""
    lines = (SCRIPTS / "compat.sh").read_text().splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("zoo="))
    last = next(i for i, line in enumerate(lines) if line.startswith("tests="))
    script = "\n".join([*lines[first : last + 1], 'printf "%s\\n" $tests'])
    names = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert len(names) > 10
    for name in names:
        file, _, test = name.partition("::")
        text = (SCRIPTS.parent / file).read_text()
        assert f"def {test}(" in text if test else text, name
