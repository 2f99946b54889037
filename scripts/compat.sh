#!/usr/bin/env bash
# The matrix of versions: Python 3.11, 3.12 and 3.13, each with the lowest and the newest packages that pyproject.toml allows.
# Each cell is a virtual environment of its own (about 2 GB), in which a selection of the tests runs.
#
#   scripts/compat.sh                          all cells whose Python is there
#   scripts/compat.sh 3.13 newest              one cell
#   TESTS="tests" scripts/compat.sh 3.11 lowest    the whole suite
#
# Fails if a cell fails. Prints a line per cell for docs/compatibility.md.
set -u
cd "$(dirname "$0")/.."
root=$PWD
work=${COMPAT_DIR:-$(mktemp -d)}
tests=${TESTS:-tests/test_golden.py tests/test_export.py tests/test_reference.py tests/test_policy.py tests/test_ppo.py tests/test_safe.py}
torch_index=${TORCH_INDEX:-}   # for instance https://download.pytorch.org/whl/cpu
failed=0

# The lowest versions that pyproject.toml allows, as pip's constraints: "name>=1.2" becomes "name==1.2.*".
lowest() {
    "$1" - <<'PY'
import re, tomllib
project = tomllib.load(open("pyproject.toml", "rb"))["project"]
wanted = project["dependencies"] + project["optional-dependencies"]["mujoco"]
for line in wanted:
    match = re.match(r"([A-Za-z0-9_-]+)(?:\[[^]]*\])?>=([0-9.]+)", line)
    if match:
        print(f"{match[1]}=={match[2]}.*")
PY
}

cell() {
    local python=$1 which=$2 venv=$work/$1-$2
    command -v "python$python" >/dev/null || { echo "| $python | $which | not run: there is no python$python | |"; return; }
    "python$python" -m venv "$venv" || { failed=1; return; }
    local pip="$venv/bin/pip install -q --disable-pip-version-check"
    : >"$work/constraints"
    [ "$which" = lowest ] && lowest "$venv/bin/python" 2>/dev/null >"$work/constraints"
    [ -n "$torch_index" ] && $pip torch --index-url "$torch_index" -c "$work/constraints"
    if ! $pip -e ".[mujoco]" sb3-contrib pytest pytest-timeout hypothesis -c "$work/constraints" >"$venv/pip.log" 2>&1; then
        echo "| $python | $which | cannot be installed: $(grep -m1 ERROR "$venv/pip.log") | |"
        failed=1
        return
    fi
    local versions result
    versions=$("$venv/bin/python" -c "
from sb3_plastic.versions import versions
found = versions()
print(', '.join(f'{name} {found[name]}' for name in ('stable_baselines3', 'gymnasium', 'mujoco', 'numpy', 'torch', 'numba')))" 2>&1 | tail -1)
    result=$(cd "$root" && OMP_NUM_THREADS=1 PYTHONPATH=$root "$venv/bin/python" -m pytest -q -p no:cacheprovider $tests 2>&1 | tee "$venv/tests.log" | tail -1)
    case $result in *failed* | *error*) failed=1 ;; esac
    echo "| $python | $which | $versions | $result |"
}

for python in ${1:-3.11 3.12 3.13}; do
    for which in ${2:-lowest newest}; do
        cell "$python" "$which"
    done
done
exit $failed
