"""What a run is asked to do: command line, environment, configuration file and glidein_config, in that order of weight.

Names in the environment and in files carry the prefix ``PROBE_``. Files have glidein_config's format: one
``NAME value with spaces`` a line, ``#`` comments, the last line of a name wins.
"""

import re
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Tuple

DEADLINE_S = 60.0

# The glidein's own facts that the report repeats, and the names that glidein_config has for them.
GLIDEIN_NAMES = {
    "factory": "GLIDEIN_Factory",
    "entry": "GLIDEIN_Entry_Name",
    "site": "GLIDEIN_Site",
    "resource": "GLIDEIN_ResourceName",
    "frontend": "GLIDECLIENT_Name",
    "group": "GLIDECLIENT_Group",
    "schedd": "GLIDEIN_Schedd",
    "cluster": "CONDORG_CLUSTER",
    "subcluster": "CONDORG_SUBCLUSTER",
    "gwms_version": "GLIDEIN_Version",
}


# The glidein's settings that change how containers are started; by hand they come from the environment.
GLIDEIN_SETTINGS = (
    "GLIDEIN_SINGULARITY_BINARY_OVERRIDE", "SINGULARITY_BIN", "OSG_SINGULARITY_BINARY", "GLIDEIN_SINGULARITY_OPTS",
    "GLIDEIN_SINGULARITY_GLOBAL_OPTS", "GLIDEIN_SINGULARITY_BINDPATH", "GLIDEIN_SINGULARITY_BINDPATH_DEFAULT",
    "SINGULARITY_DISABLE_PID_NAMESPACES", "SINGULARITY_IMAGES_DICT", "GLIDEIN_LOCAL_TMP_DIR", "TMP_DIR",
    "CVMFS_MOUNT_DIR", "GLIDEIN_USE_CVMFSEXEC", "GLIDEIN_WORK_DIR", "CONDOR_DIR", "PROXY_URL",
)  # fmt: skip


class WrongUse(Exception):
    """Something that the caller wrote can't be used; the text says where, what and what to write instead."""


class Settings(NamedTuple):
    """One run's instructions. ``glidein`` is the whole glidein_config; ``identity`` what the report says of the glidein."""

    trigger: str
    deadline_s: float
    singularity: Optional[str]
    images: List[str]
    cvmfs_repositories: List[str]
    cvmfs_mount_dir: Optional[str]
    only: List[str]
    skip: List[str]
    require: List[str]
    network_targets: List[str]
    collector: Optional[str]
    token_file: Optional[str]
    spool: Optional[str]
    glidein: Dict[str, str]
    identity: Dict[str, Optional[str]]
    warnings: List[str]

    def configured(self, name: str) -> Optional[str]:
        """A glidein_config value; None where it is not set or empty."""
        return self.glidein.get(name) or None


def parse_name_value_lines(text: str) -> Dict[str, str]:
    """glidein_config's format to a dict: CR+LF and blanks at line ends dropped, comments skipped, the last one wins."""
    values = {}
    for line in text.lstrip("\ufeff").split("\n"):
        name, _, value = line.strip().partition(" ")
        if name and not name.startswith("#"):
            values[name] = value.strip()
    return values


def _seconds(text: str) -> float:
    value = float(text)
    if not 1 <= value <= 3600:
        raise ValueError
    return value


def _words(text: str) -> List[str]:
    return [word for word in re.split(r"[,\s]+", text.strip()) if word]


def _lines(text: str) -> List[str]:
    # An image reference may hold blanks in theory, never a comma: the comma separates.
    return [word.strip() for word in text.split(",") if word.strip()]


def _text(text: str) -> str:
    if not text:
        raise ValueError
    return text


# Setting: how its text is read, and what a wrong one is told.
READERS: Dict[str, Tuple[Callable[[str], Any], str]] = {
    "deadline": (_seconds, "a number of seconds from 1 to 3600, such as 60"),
    "singularity": (_text, "the path of a binary"),
    "images": (_lines, "image references separated by commas"),
    "cvmfs_repos": (_words, "repository names separated by commas"),
    "cvmfs_mount_dir": (_text, "a folder"),
    "only": (_words, "names of detectors separated by commas"),
    "skip": (_words, "names of detectors separated by commas"),
    "require": (_words, "names of capabilities separated by commas"),
    "network_targets": (_words, "host:port pairs separated by commas"),
    "collector": (_text, "a URL"),
    "token_file": (_text, "a path"),
    "spool": (_text, "a folder"),
    "site": (_text, "a name"),
    "entry": (_text, "a name"),
}

PREFIX = "PROBE_"


def environment_name(setting: str) -> str:
    """The name that a setting has in the environment and in files."""
    return PREFIX + setting.upper()


def _line_of(name: str, text: str) -> str:
    """ ":LINE" of the last line in a file that sets a name, nothing where it is no file's."""
    lines = [number for number, line in enumerate(text.split("\n"), 1) if line.split()[:1] == [name]]
    return ":{}".format(lines[-1]) if lines else ""


def read_values(source: str, values: Mapping[str, str], text: str = "") -> Dict[str, Any]:
    """The settings among named values; ``source`` names them in the error, ``text`` is the file's, for the line."""
    found = {}
    for setting, (reader, expected) in READERS.items():
        name = environment_name(setting)
        value = values.get(name)
        if not value:
            continue
        try:
            found[setting] = reader(value)
        except ValueError:
            place = source + _line_of(name, text)
            raise WrongUse("{}: {} is {!r}; write {}".format(place, name, value, expected)) from None
    return found


def unknown_names(values: Mapping[str, str]) -> List[str]:
    """Names that look like settings of ours and are none, misspelt most likely."""
    known = {environment_name(setting) for setting in READERS}
    return sorted(name for name in values if name.startswith(PREFIX) and name not in known)


def combine(
    trigger: str,
    options: Dict[str, Any],
    environment: Mapping[str, str],
    file_name: Optional[str],
    file_text: str,
    glidein: Dict[str, str],
) -> Settings:
    """Merge all sources; raises WrongUse. The file may be a glidein_config itself: then it is one."""
    in_file = parse_name_value_lines(file_text)
    of_glidein = dict(glidein)
    of_environment = {name: environment[name] for name in GLIDEIN_SETTINGS if environment.get(name)}
    glidein = dict(of_environment, **dict(in_file, **glidein))
    warnings = [
        "{}: {} is not a setting of this probe; known are {}".format(
            file_name, name, ", ".join(environment_name(setting) for setting in READERS)
        )
        for name in unknown_names(in_file)
    ]
    chosen: Dict[str, Any] = {}
    for layer in (
        read_values("glidein_config", of_glidein),
        read_values(file_name or "the file", in_file, file_text),
        read_values("the environment", environment),
        {name: value for name, value in options.items() if value not in (None, [])},
    ):
        chosen.update(layer)
    identity = {field: glidein.get(name) or environment.get(name) for field, name in GLIDEIN_NAMES.items()}
    identity.update({field: chosen[field] for field in ("site", "entry") if field in chosen})
    return Settings(
        trigger=trigger,
        deadline_s=chosen.get("deadline", DEADLINE_S),
        singularity=chosen.get("singularity"),
        images=chosen.get("images", []),
        cvmfs_repositories=chosen.get("cvmfs_repos", []),
        cvmfs_mount_dir=chosen.get("cvmfs_mount_dir") or glidein.get("CVMFS_MOUNT_DIR") or None,
        only=chosen.get("only", []),
        skip=chosen.get("skip", []),
        require=chosen.get("require", []),
        network_targets=chosen.get("network_targets", []),
        collector=chosen.get("collector"),
        token_file=chosen.get("token_file"),
        spool=chosen.get("spool"),
        glidein=glidein,
        identity=identity,
        warnings=warnings,
    )
