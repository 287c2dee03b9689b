#!/bin/sh
# singularity-probe @VERSION@: finds out what containers can do on this node.
# This file is this script (POSIX sh) followed by a zip archive with the program. The script finds a Python that can
# run the archive; where there is none, it says so in the terms of whoever called. It relies on builtins alone.

# GlideinWMS before 3.10.11 hands every script its open list of scripts as stdin: who reads from it drops the rest.
# Only explain, which people type, may be given a report that way.
case ${1-} in
    explain) ;;
    *) if [ -r /dev/null ]; then exec </dev/null; else exec <&-; fi ;;
esac

# Places come first: at a folder of PATH that hangs a shell waits for ever, and a name that is nowhere leads it to each.
# Without any PATH only places can be named.
places='/usr/bin/python3 /usr/libexec/platform-python'
names='python3 python3.13 python3.12 python3.11 python3.10 python3.9 python3.8 python3.7 python3.6 python'
[ -n "${PATH:-}" ] || names=/usr/local/bin/python3

# What ends a shell at once: a process that cannot be started (dash, busybox, bash) and an exec that fails. A glidein
# goes on; who typed "run" gets 3.
case ${1-} in run | explain | -* | '') ending=3 ;; *) ending=0 ;; esac
stopped() {
    echo "singularity-probe: this shell could not start a process (too many?), so nothing was tested." >&2
    [ "$ending" = 3 ] || echo 'PROBE_STATUS = "probe_error"'
    exit "$ending"
}
trap stopped EXIT

# become PYTHON [ARGUMENT...]: returns if PYTHON can't run the program.
# Any name may stand for Python 2, for a version before 3.6, for one without its library (Debian's python3-minimal), or for
# one that doesn't start, so ask before exec, which can't be undone. And exec it must be: HTCondor signals this process only.
# -I: what is asked looks for nothing in the working folder, which may hang.
# -E, -s: a glidein's environment often carries a PYTHONHOME or PYTHONPATH meant for another Python.
# -S: without site-packages Python starts in half the time. -B: leave no files behind.
become() {
    [ -n "$1" ] && command -v "$1" >/dev/null 2>&1 || return
    "$1" -ISB -c 'import sys, zlib; sys.exit(sys.version_info < (3, 6) or not sys.meta_path[-1].find_spec("json"))' \
        </dev/null >/dev/null 2>&1 || return
    python=$1
    shift
    start "$@"
}

# start [ARGUMENT...]: become $python. Told to run the archive, Python would import 7 ms of modules to do so. The first
# place to import from would be the working folder.
start() {
    exec "$python" -EsSB -c '
import gc, sys
gc.disable()
sys.argv.pop(0)
sys.path[0] = sys.argv[0]
import os
if "PROBE_LIBRARIES" in os.environ:
    os.environ["LD_LIBRARY_PATH"] = os.environ.pop("PROBE_LIBRARIES")
    sys.executable = ""
from probe.cli import run_program
run_program()' "$0" "$@"
}

# remembered [ARGUMENT...]: an earlier run of this glidein left the path of the Python that it ran with, and the
# LD_LIBRARY_PATH that this one starts with (probe/memory.py). It needs no test, and so a periodic run begins sooner.
# What is not ours doesn't count; a shell sees no modes, but whose a file is. PROBE_STATE may name what hangs.
remembered() {
    [ "${GLIDEIN_PERIODIC_SCRIPT-}" = true ] && [ -z "${PROBE_PYTHON:-}${PROBE_STATE:-}" ] || return
    case ${1-} in */glidein_config) state=${1%/*}/.singularity-probe ;; *) return ;; esac
    [ -O "$state" ] && [ -O "$state/python" ] && [ ! -h "$state/python" ] && [ -r "$state/python" ] || return
    { IFS= read -r python && IFS= read -r libraries; } <"$state/python" || return
    [ "$libraries" = "${LD_LIBRARY_PATH:-}" ] || return
    case $python in /*python*) [ -x "$python" ] && start "$@" ;; esac
}

# config_value NAME FILE: the last line for a name wins; a value may hold spaces; a file may have DOS line ends.
config_value() {
    value=
    while IFS= read -r line || [ -n "$line" ]; do
        case $line in "$1 "*) value=${line#"$1 "} ;; esac
    done <"$2"
    printf '%s' "${value%"$(printf '\r')"}"
}

is_file() {
    [ -f "${1:-}" ] && [ -r "$1" ]
}

# search [ARGUMENT...]: GlideinWMS 3.9.6 and later have gwms-python in the folder that GWMS_PATH begins with; it looks for
# names in PATH itself.
search() {
    become "${PROBE_PYTHON:-}" "$@"
    for candidate in $places; do
        become "$candidate" "$@"
    done
    become "${GWMS_PATH:+${GWMS_PATH%%:*}/gwms-python}" "$@"
    is_file "$@" && become "$(config_value PROBE_PYTHON "$1")" "$@"
    for candidate in $names; do
        become "$candidate" "$@"
    done
}

remembered "$@"
search "$@"
# Libraries that are meant for other programs keep every Python from starting. The probe gets the variable back, since
# containers are started with it.
if [ -n "${LD_LIBRARY_PATH:-}" ]; then
    export PROBE_LIBRARIES="$LD_LIBRARY_PATH"
    unset LD_LIBRARY_PATH
    search "$@"
fi
trap - EXIT

complain() {
    echo "singularity-probe: python_missing: found no Python 3.6 or later on this node, so nothing was tested."
    echo "  Looked for: ${PROBE_PYTHON:-} $places $names"
    echo "  PATH: ${PATH:-}"
    echo "  Site: install python3 on the worker nodes (dnf install python3, apt-get install python3)."
    echo "  Factory: set PROBE_PYTHON, as an attribute of the entry, to the path of a Python that the glidein can reach."
} >&2

# The helpers that glidein_config names write glidein_config, the condor vars file and the test's result. They are
# bash, and old ones print; stdout may be on its way to become ClassAd lines.
tell_glidein() {
    if [ -r "$helpers" ] && command -v bash >/dev/null; then
        glidein_config=$1 condor_vars_file=$(config_value CONDOR_VARS_FILE "$1") bash -c '
            . "$1"
            add_config_line PROBE_STATUS python_missing
            [ -f "$condor_vars_file" ] && add_condor_vars_line PROBE_STATUS S - + N Y -
        ' singularity-probe "$helpers" >&2
    fi
    if [ -x "$error_gen" ]; then
        "$error_gen" -ok singularity-probe PROBE_STATUS python_missing >&2
    fi
    echo 'PROBE_STATUS = "python_missing"'
}

case ${1:-} in
    --version | --help | -h)
        echo 'singularity-probe @VERSION@'
        [ "$1" = --version ] || echo 'It needs Python 3.6 or later to run and to say more, and found none on this node.'
        exit 0
        ;;
    startd-cron)
        complain
        echo 'PROBE_STATUS = "python_missing"'
        exit 0
        ;;
esac

if is_file "$@"; then
    helpers=$(config_value ADD_CONFIG_LINE_SOURCE "$1")
    error_gen=$(config_value ERROR_GEN_PATH "$1")
    if [ -n "$helpers$error_gen" ]; then
        complain
        tell_glidein "$1"
        exit 0
    fi
fi
complain
exit 3
