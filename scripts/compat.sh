#!/usr/bin/env bash
# The matrix of versions: Python 3.11, 3.12 and 3.13, each with the lowest and the newest packages that pyproject.toml allows
# and that have wheels for it. Each cell is a virtual environment of its own, in which a selection of the tests runs.
#
#   scripts/compat.sh                              all cells whose Python is there
#   scripts/compat.sh 3.13 newest                  one cell
#   TESTS="tests" scripts/compat.sh 3.11 lowest    other tests
#   EXTRA="numpy<2" scripts/compat.sh 3.13 lowest    a cell that fails, as it should
#
# Prints a table for docs/compatibility.md, a line per cell. Fails if a cell fails: because a test does, or none could be run.
#
#   COMPAT_DIR    folder of the environments; default: a new one. Those that are there are used again
#   TORCH_INDEX   index of torch alone, such as that of torch's own builds for the CPU, which are a tenth of the size
#
# A deprecation fails no test: old packages are bound to call what newer ones have deprecated, and an old requests does not
# know the urllib3 of today. Every other warning does.
#
# Packages are chosen by uv, which is installed if it is missing. Where they come from is the configuration of uv (UV_...).
set -u
root=$(cd "$(dirname "$0")/.." && pwd)
work=${COMPAT_DIR:-$(mktemp -d)}
# The network, its training, saved models, perturbations, the adaptive layer, evaluation, and RL Zoo's commands.
zoo=tests/test_zoo.py::test
selection=(tests/test_{golden,reference,policy,ppo,finite,export,normalization,safe,properties}.py
    tests/test_perturbations_{envs,kinds,own}.py tests/test_{adaptive_layer,adaptive_policy,adaptive_beside,evaluation}.py
    "${zoo}_train_writes_what_rl_zoo_reads" "${zoo}_train_logs_the_network_to_tensorboard" "${zoo}_enjoy_prints_returns"
    "${zoo}_training_continues_from_a_checkpoint_with_its_statistics" "${zoo}_the_agents_in_the_repository_walk"
    "${zoo}_every_configuration_makes_a_model"
    "${zoo}_films_figures_and_a_schedule_of_noise_are_asked_for_in_yaml"
    "${zoo}_a_kill_leaves_whole_files_and_no_model_without_its_statistics")
tests=${TESTS:-${selection[*]}}
test_packages=(sb3-contrib\>=2.6 pytest\>=8 pytest-timeout\>=2.3 hypothesis\>=6.100)
compiled=(arch matplotlib mujoco numba numpy pandas pillow pyyaml safetensors scipy torch)
failed=0
mkdir -p "$work"
export UV_PYTHON_DOWNLOADS=${UV_PYTHON_DOWNLOADS:-never} OMP_NUM_THREADS=1

uv=${UV:-$(command -v uv)}
if [ -z "$uv" ]; then
    uv=$work/uv/bin/uv
    [ -x "$uv" ] || { python3 -m venv "$work/uv" && "$work/uv/bin/pip" install -q uv; } || exit 1
fi

install() { # python, which, folder
    local resolution=highest options=()
    [ "$2" = lowest ] && resolution=lowest-direct
    [ -x "$3/bin/python" ] || "$uv" venv -q --python "$1" "$3" || return 1
    # shellcheck disable=SC2206
    [ -n "${TORCH_INDEX:-}" ] && options=(--index "$TORCH_INDEX" --index-strategy unsafe-best-match)
    # Of packages in C without a wheel for this Python the next version, in place of a compiler.
    printf '%s\n' "${test_packages[@]}" ${EXTRA:-} >"$3/test-packages.txt"
    "$uv" pip install -q --python "$3" "${compiled[@]/#/--only-binary=}" --resolution "$resolution" "${options[@]}" \
        -r "$root/pyproject.toml" --extra zoo -r "$3/test-packages.txt" || return 1
    "$uv" pip install -q --python "$3" --no-deps --reinstall-package sb3_plastic --editable "$root"
}

cell() { # python, which
    local venv=$work/$1-$2 versions result
    if ! "$uv" python find --system "$1" >/dev/null 2>&1; then
        echo "| $1 | $2 | not run: there is no Python $1 | |"
        return
    fi
    mkdir -p "$venv"
    if ! install "$1" "$2" "$venv" >"$venv.install.log" 2>&1; then
        echo "| $1 | $2 | cannot be installed: $(grep -m1 cause "$venv.install.log" || tail -1 "$venv.install.log") | |"
        failed=1
        return
    fi
    cd "$root" || exit 1
    versions=$("$venv/bin/python" -c "
from importlib.metadata import version
from platform import python_version
names = ('stable_baselines3', 'rl_zoo3', 'gymnasium', 'mujoco', 'numpy', 'torch', 'numba')
print(', '.join([python_version(), *(f'{name} {version(name)}' for name in names)]))" 2>&1 | tail -1)
    # shellcheck disable=SC2086
    PYTHONPATH=$root "$venv/bin/python" -m pytest -q -p no:cacheprovider \
        -W default::DeprecationWarning -W default::FutureWarning -W default:urllib3 $tests >"$venv.tests.log" 2>&1 || failed=1
    result=$(tail -1 "$venv.tests.log")
    echo "| $1 | $2 | $versions | $result |"
}

echo "| Python | versions | what was installed | tests |"
echo "|---|---|---|---|"
for python in ${1:-3.11 3.12 3.13}; do
    for which in ${2:-lowest newest}; do
        cell "$python" "$which"
    done
done
exit $failed
