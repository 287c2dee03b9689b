"""What a run is asked to do: command line, environment, configuration file and glidein_config, in that order of weight.

Names in the environment and in files carry the prefix ``PROBE_``. Files have glidein_config's format: one
``NAME value with spaces`` a line, ``#`` comments, the last line of a name wins.
"""

from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Tuple

DEADLINE_S = 60.0
# How long a periodic run may go by what an earlier one found.
FULL_EVERY_S = 6 * 3600.0
# Seconds and number of the images that one run tries; with more of them the fleet covers them all.
IMAGE_BUDGET = (20.0, 50)

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
    "CVMFS_MOUNT_DIR", "GLIDEIN_USE_CVMFSEXEC", "GLIDEIN_WORK_DIR", "CONDOR_DIR", "PROXY_URL", "GLIDEIN_CONTAINER_ENV",
    "GLIDEIN_CONTAINER_ENV_CLEARLIST",
)  # fmt: skip

# What may be published besides our own attributes (peers.py).
GROUPS = ("gwms", "ospool", "start")


class WrongUse(Exception):
    """Something that the caller wrote can't be used; the text says where, what and what to write instead."""


class Settings(NamedTuple):
    """One run's instructions. ``glidein`` is the whole glidein_config; ``identity`` what the report says of the glidein."""

    trigger: str
    deadline_s: float
    singularity: Optional[str]
    images: List[str]
    cvmfs_repositories: List[str]
    cvmfs_sets: List[str]
    cvmfs_min_revisions: Dict[str, int]
    cvmfs_mount_dir: Optional[str]
    only: List[str]
    skip: List[str]
    require: List[str]
    network_targets: List[str]
    collector: Optional[str]
    token_file: Optional[str]
    ca_file: Optional[str]
    spool: Optional[str]
    glidein: Dict[str, str]
    identity: Dict[str, Optional[str]]
    warnings: List[str]
    publish: List[str] = []
    stdout_report: bool = False
    report_attribute: bool = False
    require_known: bool = False
    full_every_s: float = FULL_EVERY_S
    image_budget: Tuple[float, int] = IMAGE_BUDGET
    image_pull: bool = False
    image_http: List[str] = []

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


def _period(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 7 * 86400:
        raise ValueError
    return value


def _yes(text: str) -> bool:
    return {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}[text.strip().lower()]


def _groups(text: str) -> List[str]:
    words = _words(text)
    if set(words) - set(GROUPS):
        raise ValueError
    return words


def _words(text: str) -> List[str]:
    return text.replace(",", " ").split()


def _lines(text: str) -> List[str]:
    # An image reference may hold blanks in theory, never a comma: the comma separates.
    return [word.strip() for word in text.split(",") if word.strip()]


def _text(text: str) -> str:
    if not text:
        raise ValueError
    return text


def _budget(text: str) -> Tuple[float, int]:
    seconds, _, count = text.partition(":")
    found = (float(seconds), int(count) if count else IMAGE_BUDGET[1])
    if not (0 <= found[0] <= 3600 and 0 <= found[1] <= 1000):
        raise ValueError
    return found


def _sets(text: str) -> List[str]:
    from probe import repository_sets

    found = _words(text)
    if not set(found) <= set(repository_sets.names()):
        raise ValueError
    return found


def _revisions(text: str) -> Dict[str, int]:
    pairs = [word.partition("=") for word in _words(text)]
    return {name: int(revision) for name, _, revision in pairs}


# Setting: how its text is read, and what a wrong one is told.
READERS: Dict[str, Tuple[Callable[[str], Any], str]] = {
    "deadline": (_seconds, "a number of seconds from 1 to 3600, such as 60"),
    "singularity": (_text, "the path of a binary"),
    "images": (_lines, "image references separated by commas"),
    "image_budget": (_budget, "SECONDS or SECONDS:NUMBER, such as 20:50"),
    "image_pull": (_yes, "yes or no"),
    "image_http": (_words, "host:port of registries without TLS, separated by commas"),
    "cvmfs_repos": (_words, "repository names separated by commas"),
    "cvmfs_sets": (_sets, "names of sets of data/cvmfs_repositories.json separated by commas, such as default,atlas"),
    "cvmfs_min_revisions": (_revisions, "NAME=REVISION pairs separated by commas"),
    "cvmfs_mount_dir": (_text, "a folder"),
    "only": (_words, "names of detectors separated by commas"),
    "skip": (_words, "names of detectors separated by commas"),
    "require": (_words, "names of capabilities separated by commas"),
    "network_targets": (_words, "host:port pairs separated by commas"),
    "collector": (_text, "a URL"),
    "token_file": (_text, "a path"),
    "ca_file": (_text, "the path of a file with CA certificates"),
    "spool": (_text, "a folder"),
    "site": (_text, "a name"),
    "entry": (_text, "a name"),
    "publish": (_groups, "one or more of gwms, ospool, start, separated by commas"),
    "stdout_report": (_yes, "yes or no"),
    "report_attribute": (_yes, "yes or no"),
    "require_known": (_yes, "yes or no"),
    "full_every": (_period, "a number of seconds from 0 to 604800, such as 21600"),
}

PREFIX = "PROBE_"
# Read elsewhere: by the shell preamble, and before there are settings.
OTHERS = ("PROBE_PYTHON", "PROBE_CONFIG", "PROBE_STATE")


def environment_name(setting: str) -> str:
    """The name that a setting has in the environment and in files."""
    return PREFIX + setting.upper()


def _line_of(name: str, text: str) -> str:
    """ ":LINE" of the last line in a file that sets a name, nothing where it is no file's."""
    lines = [number for number, line in enumerate(text.split("\n"), 1) if line.split()[:1] == [name]]
    return ":{}".format(lines[-1]) if lines else ""


def read_values(
    source: str, values: Mapping[str, str], text: str = "", wrong: Optional[List[str]] = None
) -> Dict[str, Any]:
    """The settings among named values; ``source`` names them in the error, ``text`` is the file's, for the line.

    A wrong value raises WrongUse; where ``wrong`` is given it is told there, and is as if it were not set.
    """
    found = {}
    for setting, (reader, expected) in READERS.items():
        name = environment_name(setting)
        value = values.get(name)
        if not value:
            continue
        try:
            found[setting] = reader(value)
        except (ValueError, KeyError):
            complaint = "{}: {} is {!r}; write {}".format(source + _line_of(name, text), name, value, expected)
            if wrong is None:
                raise WrongUse(complaint) from None
            wrong.append(complaint)
    return found


def unknown_names(values: Mapping[str, str]) -> List[str]:
    """Names that look like settings of ours and are none, misspelt most likely."""
    known = {environment_name(setting) for setting in READERS} | set(OTHERS)
    found = sorted(name for name in values if name.startswith(PREFIX) and name not in known)
    if found:
        from probe import classad

        # A glidein_config holds what an earlier run published, too.
        found = [name for name in found if name not in classad.ATTRIBUTES]
    return found


def combine(
    trigger: str,
    options: Dict[str, Any],
    environment: Mapping[str, str],
    file_name: Optional[str],
    file_text: str,
    glidein: Dict[str, str],
) -> Settings:
    """Merge all sources. The file may be a glidein_config itself: then it is one.

    Raises WrongUse for a wrong value of a run by hand; in a glidein that is a warning, and the default stands.
    """
    in_file = parse_name_value_lines(file_text)
    of_glidein = dict(glidein)
    of_environment = {name: environment[name] for name in GLIDEIN_SETTINGS if environment.get(name)}
    glidein = dict(of_environment, **dict(in_file, **glidein))
    known = ", ".join(environment_name(setting) for setting in READERS)
    warnings = [
        "{}: {} is not a setting of this probe; known are {}".format(source, name, known)
        for source, values in (("glidein_config", of_glidein), (file_name, in_file))
        for name in unknown_names(values)
    ]
    # Nobody is there to correct what a glidein was given, and it must not end for it.
    wrong = None if trigger == "manual" else warnings
    chosen: Dict[str, Any] = {}
    for layer in (
        read_values("glidein_config", of_glidein, "", wrong),
        read_values(file_name or "the file", in_file, file_text, wrong),
        read_values("the environment", environment, "", wrong),
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
        cvmfs_sets=chosen.get("cvmfs_sets", []),
        cvmfs_min_revisions=chosen.get("cvmfs_min_revisions", {}),
        cvmfs_mount_dir=chosen.get("cvmfs_mount_dir") or glidein.get("CVMFS_MOUNT_DIR") or None,
        only=chosen.get("only", []),
        skip=chosen.get("skip", []),
        require=chosen.get("require", []),
        network_targets=chosen.get("network_targets", []),
        collector=chosen.get("collector"),
        token_file=chosen.get("token_file"),
        ca_file=chosen.get("ca_file"),
        spool=chosen.get("spool"),
        glidein=glidein,
        identity=identity,
        warnings=warnings,
        publish=chosen.get("publish", []),
        stdout_report=chosen.get("stdout_report", False),
        report_attribute=chosen.get("report_attribute", False),
        require_known=chosen.get("require_known", False),
        full_every_s=chosen.get("full_every", FULL_EVERY_S),
        image_budget=chosen.get("image_budget", IMAGE_BUDGET),
        image_pull=chosen.get("image_pull", False),
        image_http=chosen.get("image_http", []),
    )
