# Sourced by quickstart and test: makes what they need, says what it does, changes nothing twice.
# Sets: ROOT (the repository), PYTHON (its virtual environment's). Functions return non-zero and name what is missing.
# shellcheck shell=bash

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
VENV=$ROOT/.venv
PYTHON=$VENV/bin/python

say() { printf '%s\n' "$*" >&2; }

am_root() { [ "$(id -u)" = 0 ]; }

# have_all_packages NAME...: true when dpkg knows all as installed.
missing_packages() {
    local name
    for name in "$@"; do
        dpkg-query -W -f '${db:Status-Status}\n' "$name" 2>/dev/null | grep -qx installed || printf '%s ' "$name"
    done
}

# install_packages DEB... : what is missing of these, by apt as root; elsewhere it says what to install.
install_packages() {
    local missing
    if ! command -v dpkg-query >/dev/null; then
        say "not a Debian system: if something is missing below, install your system's packages for: $*"
        return 0
    fi
    missing=$(missing_packages "$@")
    [ -n "$missing" ] || return 0
    if ! am_root; then
        say "missing packages, to be installed by root: apt-get install $missing"
        return 0
    fi
    say "installing packages: $missing"
    # An old list of packages names files that are gone: a failed try is repeated with a fresh list.
    # shellcheck disable=SC2086  # a list of words
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $missing >/dev/null 2>&1 ||
        { apt-get update -qq >/dev/null && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $missing >/dev/null; }
}

# A Python for the server side: 3.11 or later, with venv.
find_python() {
    local name
    for name in python3 python3.14 python3.13 python3.12 python3.11; do
        if "$name" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$name"
            return 0
        fi
    done
    return 1
}

# make_environment EXTRA: the virtual environment with this project and an extra's dependencies ("" for none).
make_environment() {
    local extra=$1 python wanted stamp=$VENV/.made-from
    wanted=$(sha256sum "$ROOT/pyproject.toml" | cut -d ' ' -f 1)
    # An environment with the test extra serves for all.
    if [ -x "$PYTHON" ] && grep -qx "$wanted \(test\|$extra\)" "$stamp" 2>/dev/null; then
        return 0
    fi
    find_python >/dev/null || install_packages python3 python3-venv
    python=$(find_python) || {
        say "no Python 3.11 or later with venv; install python3 and python3-venv (Debian 12) or python3.11 (EL 9)"
        return 1
    }
    say "making the Python environment .venv with $("$python" --version)"
    [ -x "$PYTHON" ] || "$python" -m venv "$VENV"
    (cd "$ROOT" && "$PYTHON" -m pip install --quiet --disable-pip-version-check --editable ".${extra:+[$extra]}") >"$VENV/pip.log" 2>&1 || {
        tail -n 20 "$VENV/pip.log" >&2
        say "pip could not install what pyproject.toml names (above; the whole log is $VENV/pip.log)"
        return 1
    }
    echo "$wanted $extra" >"$stamp"
}
