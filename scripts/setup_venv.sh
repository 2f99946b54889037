# Sourced by the other scripts: `source scripts/setup_venv.sh <extras>` makes the project's virtual environment, installs
# the project with these extras, and activates it. Quick if nothing has changed.
#
#   SB3_PLASTIC_VENV   where the environment is; default .venv in the repository
#   PYTHON             interpreter to make it from; default the first of python3, python3.13, ... that is 3.11 to 3.13
#
# Where packages come from is pip's own configuration.

setup_venv() {
    local extras=$1 root venv stamp state python
    root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
    venv=${SB3_PLASTIC_VENV:-$root/.venv}
    if ! [ -x "$venv/bin/python" ] || ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
        python=$(find_python) || return 1
        make_venv "$python" "$venv" || return 1
    fi
    stamp=$venv/.installed-${extras//,/-}
    state="$root $(sha256sum <"$root/pyproject.toml")"
    if [ "$(cat "$stamp" 2>/dev/null)" != "$state" ]; then
        echo "Installing sb3_plastic[$extras] into $venv: some minutes, most of them for PyTorch ..."
        "$venv/bin/python" -m pip install --quiet --editable "$root[$extras]" </dev/null || return 1
        echo "$state" >"$stamp.new" && mv "$stamp.new" "$stamp"
    fi
    # shellcheck disable=SC1091
    source "$venv/bin/activate"
    ensure_egl
}

find_python() {
    local name
    for name in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
        if "$name" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then
            echo "$name"
            return
        fi
    done
    echo "No Python 3.11, 3.12 or 3.13 found: install one, or name it: PYTHON=/path/to/python bash $0" >&2
    return 1
}

make_venv() { # python, folder
    local was_there=
    if [ -e "$2" ]; then was_there=yes; fi
    # Debian packs ensurepip apart; what venv then prints is said below, in fewer words.
    "$1" -m venv "$2" >/dev/null 2>&1 && return
    [ -n "$was_there" ] || rm -rf "$2" # half of an environment; a folder of somebody else's stays
    local version
    version=$("$1" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
    echo "$1 cannot make virtual environments: its venv module is not complete." >&2
    if apt_install "$version-venv"; then
        "$1" -m venv "$2"
    else
        return 1
    fi
}

ensure_egl() { # what MuJoCo draws with where there is no display
    [ "$(uname)" = Linux ] || return 0
    python -c 'import sys; from ctypes.util import find_library as f; sys.exit(not (f("EGL") and f("OpenGL")))' && return
    apt_install libegl1 libopengl0 || echo "Without them everything works but videos (sb3-plastic record)." >&2
}

apt_install() {
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "Installing $* ..."
        { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes "$@"; } </dev/null >/dev/null
    else
        echo "Please install $* (on Debian: sudo apt-get install $*)." >&2
        return 1
    fi
}

setup_venv "$1"
