"""What a call by GlideinWMS, ``singularity-probe GLIDEIN_CONFIG ID``, says by itself: nothing has been read yet."""

import os

READ_LIMIT_S = 8.0
MARKS = (b"ADD_CONFIG_LINE_SOURCE ", b"ERROR_GEN_PATH ", b"CONDOR_VARS_FILE ")


def folder_of(config: str) -> str:
    """Where the runs of this glidein remember things; PROBE_STATE in the environment says otherwise."""
    return os.environ.get("PROBE_STATE") or os.path.join(os.path.dirname(os.path.abspath(config)), ".singularity-probe")


def is_config(path: str) -> bool:
    """Whether a first argument is a glidein_config: by its name, or by what the file says."""
    if os.path.basename(path) == "glidein_config":
        return True
    from probe.workers import call_all

    result = call_all(READ_LIMIT_S, {"config": [_looks_like_config, path]}, 1)["config"]
    return bool(result.value)


def _looks_like_config(path: str) -> bool:
    with open(path, "rb") as stream:
        lines = stream.read(1 << 20).split(b"\n")
    return any(line.startswith(MARKS) for line in lines)


def is_periodic(config: str) -> bool:
    """Whether this is a periodic run: newer releases say so, older ones give it a folder of its own below the glidein's."""
    said = os.environ.get("GLIDEIN_PERIODIC_SCRIPT")
    if said is not None:
        return said.lower() == "true"
    try:
        return os.path.isabs(config) and os.path.dirname(os.getcwd()) == os.path.dirname(os.path.normpath(config))
    except OSError:  # the folder was removed under us
        return False
