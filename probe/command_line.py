"""The command line by which a glidein starts a container, built from its configuration.

Source: GlideinWMS, singularity_lib.sh: singularity_exec, singularity_exec_simple and singularity_get_binds. Options and
order are the factory's own; whatever our payload needs besides goes after it.
"""

import shlex
from typing import List, NamedTuple, Optional

from probe.settings import Settings

PID_OPTION = "--pid"
DEFAULT_BINDS = ["/etc/hosts", "/etc/localtime"]


class Launch(NamedTuple):
    """One container start. ``binds`` are SOURCE[:TARGET[:OPTIONS]]; ``options`` excludes them."""

    binary: str
    options: List[str]
    binds: List[str]
    global_options: List[str] = []

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

    def with_binds(self, *binds: str) -> "Launch":
        """The same start with more binds."""
        return self._replace(binds=self.binds + list(binds))


def as_text(command: List[str]) -> str:
    """A command as one would type it."""
    return " ".join(shlex.quote(word) for word in command)


def requested_binds(settings: Settings) -> List[str]:
    """The binds that a glidein asks for, duplicates left out; those whose source does not exist are dropped later."""
    mount_dir = settings.cvmfs_mount_dir
    binds = [mount_dir + ":/cvmfs" if mount_dir and mount_dir != "/cvmfs" else "/cvmfs", *DEFAULT_BINDS]
    for name in ("GLIDEIN_SINGULARITY_BINDPATH", "GLIDEIN_SINGULARITY_BINDPATH_DEFAULT"):
        binds += (settings.configured(name) or "").split(",")
    return [bind for number, bind in enumerate(binds) if bind and bind not in binds[:number]]


def source_of(bind: str) -> str:
    """The host's side of a bind."""
    return bind.split(":", 1)[0]


def factory_launch(settings: Settings, binary: str, folder: str, binds: List[str]) -> Launch:
    """The start that a glidein with these settings makes, with ``folder`` as the job's /srv."""
    options = ["--home", folder + ":/srv", "--pwd", "/srv", "--ipc", "--contain"]
    options += (settings.configured("GLIDEIN_SINGULARITY_OPTS") or "").split()
    if settings.configured("SINGULARITY_DISABLE_PID_NAMESPACES") != "1":
        options.append(PID_OPTION)
    return Launch(binary, options, binds, (settings.configured("GLIDEIN_SINGULARITY_GLOBAL_OPTS") or "").split())


def bare_launch(binary: str, options: Optional[List[str]] = None) -> Launch:
    """A start with nothing but the given options, to find out which of them fails."""
    return Launch(binary, options or [], [])
