"""The command line by which a glidein starts a container, built from its configuration.

Source: GlideinWMS, singularity_lib.sh: singularity_exec, env_clear and env_process_options. Options and order are the
factory's own; whatever our payload needs besides goes after it.
"""

import shlex
from typing import Dict, List, Mapping, NamedTuple, Optional, Set

from probe.settings import Settings

PID_OPTION = "--pid"
# What a glidein changes of its environment for a start; None removes a name. Newer releases do so in singularity_exec, and
# so for their own test too; older ones for jobs alone. The former also name folders for what Singularity unpacks and
# pulls; an image that is there starts whatever these are (Apptainer 1.4.5, run).
CLEARED: Dict[str, Optional[str]] = {
    "PATH": "/usr/bin:/bin", "LD_LIBRARY_PATH": None, "PYTHONPATH": None, "LD_PRELOAD": None,
}  # fmt: skip


class Launch(NamedTuple):
    """One container start. ``binds`` are SOURCE[:TARGET[:OPTIONS]]; ``options`` excludes them; ``changes`` are those of the
    environment."""

    binary: str
    options: List[str]
    binds: List[str]
    global_options: List[str] = []
    changes: Mapping[str, Optional[str]] = CLEARED

    def command(self, image: str, program: List[str]) -> List[str]:
        """The arguments to run a program in an image."""
        bind = ["--bind", ",".join(self.binds)] if self.binds else []
        return [self.binary, *self.global_options, "exec", *self.options, *bind, image, *program]

    def text(self, image: str, program: List[str]) -> str:
        """The command as one would type it."""
        return as_text(self.command(image, program))

    def without(self, *options: str) -> "Launch":
        """The same start with some options left out."""
        return self._replace(options=[option for option in self.options if option not in options])

    def with_options(self, *options: str) -> "Launch":
        """The same start with more options."""
        return self._replace(options=self.options + list(options))

    def bare(self, *options: str) -> "Launch":
        """A start with nothing but the given options, to find out which of them fails."""
        return self._replace(options=list(options), binds=[], global_options=[])

    def with_binds(self, *binds: str) -> "Launch":
        """The same start with more binds."""
        return self._replace(binds=self.binds + list(binds))


def as_text(command: List[str]) -> str:
    """A command as one would type it."""
    return " ".join(shlex.quote(word) for word in command)


def factory_launch(settings: Settings, binary: str, folder: str, binds: List[str]) -> Launch:
    """The start that a glidein with these settings makes, with ``folder`` as the job's /srv."""
    options = ["--home", folder + ":/srv", "--pwd", "/srv", "--ipc", "--contain"]
    options += (settings.configured("GLIDEIN_SINGULARITY_OPTS") or "").split()
    if settings.configured("SINGULARITY_DISABLE_PID_NAMESPACES") != "1":
        options.append(PID_OPTION)
    if _cleaning(settings) & {"clear", "clearall"}:
        options.append("--cleanenv")
    global_options = (settings.configured("GLIDEIN_SINGULARITY_GLOBAL_OPTS") or "").split()
    return Launch(binary, options, binds, global_options, changes(settings))


def changes(settings: Settings) -> Dict[str, Optional[str]]:
    """What a glidein with these settings changes of its environment for a start."""
    found = dict(CLEARED) if _cleaning(settings) & {"clear", "clearall", "clearpaths"} else {}
    names = (settings.configured("GLIDEIN_CONTAINER_ENV_CLEARLIST") or "").replace(",", " ").split()
    found.update((name, CLEARED.get(name)) for name in names)
    return found


def _cleaning(settings: Settings) -> Set[str]:
    return set((settings.configured("GLIDEIN_CONTAINER_ENV") or "clearpaths").split(","))
