#!/usr/bin/env bash
# From a clone to trained agents: sets up the project's environment, then runs scripts/quickstart.py in it.
#
#   QUICKSTART_STEPS   training steps of each agent; default 150000
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/setup_venv.sh
source scripts/setup_venv.sh zoo
exec python scripts/quickstart.py --steps "${QUICKSTART_STEPS:-150000}" "$@"
