#!/usr/bin/env bash
# Set up the project's environment and run its tests. Arguments go to pytest: bash scripts/test.sh -m slow
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/setup_venv.sh
source scripts/setup_venv.sh zoo,test
# Two workers with a thread each; a file's tests stay together, since they share what takes long to make.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
exec python -m pytest --numprocesses "${PYTEST_WORKERS:-2}" --dist loadfile "$@"
