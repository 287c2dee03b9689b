"""A host that notes all that detectors get from it.

The notes are the file host.json of a captured host; docs/captured-hosts.md describes it. Written for Python 3.6:
scripts/capture-host runs it on the nodes that are captured.
"""

import os

from probe import alternatives
from probe.detectors.places import MODULE_VARIABLES
from probe.host import Host
from probe.settings import GLIDEIN_NAMES, GLIDEIN_SETTINGS
from probe.workers import Result

# The only names of the environment that are noted with their values: those that the probe asks for. Addresses of proxies
# are left out, for the passwords in them; so are the values of Singularity's own variables, whose names alone count.
ENVIRONMENT = (
    "PATH", "HOME", "TMPDIR", "LMOD_CMD", "MODULESHOME", "MODULEPATH", "KUBERNETES_SERVICE_HOST", "APPTAINER_CONTAINER",
    "SINGULARITY_CONTAINER", "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL",
    "HIP_VISIBLE_DEVICES",
    *(name for name in GLIDEIN_SETTINGS if name != "PROXY_URL"), *GLIDEIN_NAMES.values(),
)  # fmt: skip
FORMAT = 1


def noted_environment(environment: "dict") -> "dict":
    """What of an environment is noted."""
    noted = {name: environment[name] for name in ENVIRONMENT if name in environment}
    for name in [*alternatives.runtime_variables(environment), *environment.keys() & set(MODULE_VARIABLES)]:
        noted.setdefault(name, "(not noted)")
    return noted


class RecordingHost(Host):
    """The live machine; ``notes`` holds what was asked and answered."""

    def __init__(self, environment: "dict") -> None:
        super().__init__(environment)
        self.notes = {
            "format": FORMAT,
            "environment": noted_environment(environment),
            "facts": Host.facts(self),
            "now": Host.now(self),
            "nonces": [],
            "outside": {"libc": _confstr("CS_GNU_LIBC_VERSION"), "writable": {}},
            "reads": {},
            "lists": {},
            "exists": {},
            "attempts": {},
        }

    def facts(self) -> "dict":
        """As of the beginning."""
        return dict(self.notes["facts"])

    def now(self) -> float:
        """As of the beginning."""
        return float(self.notes["now"])

    def nonce(self) -> str:
        """A new word, noted."""
        self.notes["nonces"].append(super().nonce())
        return str(self.notes["nonces"][-1])

    def read(self, path: str) -> str:
        """The file's text, noted; what fails is noted by its errno."""
        try:
            text = super().read(path)
        except OSError as error:
            self.notes["reads"][path] = {"errno": error.errno}
            raise
        if path == "/proc/cpuinfo":
            text = text.split("\n\n", 1)[0] + "\n\n"  # one processor tells all; a node may have hundreds
        self.notes["reads"][path] = text
        return text

    def list(self, path: str) -> "list":
        """The folder's names, noted."""
        self.notes["lists"][path] = super().list(path)
        return list(self.notes["lists"][path])

    def exists(self, path: str) -> bool:
        """Whether the path exists, noted."""
        self.notes["exists"][path] = super().exists(path)
        return bool(self.notes["exists"][path])

    def at(self, path: str) -> str:
        """Where the path lies; who asks is about to look by itself, so what it may find is noted."""
        if path.startswith("/sys/fs/cgroup/"):
            self.notes["outside"]["writable"][path] = os.access(path, os.W_OK)
        return super().at(path)

    def run_each(self, runs: "dict", limit_s: float, at_once: int = 64) -> "dict":
        """What became of the programs, noted as attempts."""
        outcomes = super().run_each(runs, limit_s, at_once)
        results = {name: Result("done", list(of), "", None, of.duration_s) for name, of in outcomes.items()}
        self._noted_results(runs, results)
        return outcomes

    def attempt_all(self, limit_s: float, calls: "dict", at_once: int = 64) -> "dict":
        """What became of the calls, noted by their names, in the order in which a name was used again."""
        return self._noted_results(calls, super().attempt_all(limit_s, calls, at_once))

    def attempt_together(self, limit_s: float, calls: "dict") -> "dict":
        """As attempt_all: what is noted is the same."""
        return self._noted_results(calls, super().attempt_all(limit_s, calls))

    def attempt_each(self, calls: "dict", limits_s: "dict") -> "dict":
        """As attempt_all: what is noted is the same."""
        return self._noted_results(calls, super().attempt_each(calls, limits_s))

    def attempt_by_place(self, calls: "dict", limits_s: "dict", places: "dict") -> "dict":
        """As attempt_each."""
        return self._noted_results(calls, super().attempt_by_place(calls, limits_s, places))

    def _noted_results(self, calls: "dict", results: "dict") -> "dict":
        for name in calls:
            noted = results[name]._replace(duration_s=round(results[name].duration_s, 3))
            self.notes["attempts"].setdefault(name, []).append(dict(noted._asdict()))
        return results


def _confstr(name: str) -> "object":
    try:
        return os.confstr(name)
    except (ValueError, OSError):  # musl knows no such name
        return None
