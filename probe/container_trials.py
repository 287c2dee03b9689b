"""Starting containers and judging the starts, several side by side."""

from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

from probe import command_line, payload_run
from probe.command_line import Launch
from probe.host import Host, Run
from probe.minimal_image import PAYLOAD_PATH
from probe.payload_run import Verdict
from probe.process import Outcome

RUN_LIMIT_S = 20.0
LOOK_LIMIT_S = 3.0
# Container starts side by side; more only get in each other's way, and in that of a low process limit.
AT_ONCE = 3

# What our payload prints, by the shell of an image that is not ours.
SHELL = 'while read -r l; do echo "$0 uid_map $l"; done </proc/self/uid_map; echo "$0 end"'


class Start(NamedTuple):
    """One container start to try: how, with which image, which paths to open inside, variables to leave out.

    ``ours``: the image has our payload; another one's shell is asked instead.
    """

    launch: Launch
    image: str
    inside: Tuple[str, ...] = ()
    unset: Tuple[str, ...] = ()
    ours: bool = True

    def program(self, nonce: str) -> List[str]:
        """What runs inside."""
        return [PAYLOAD_PATH, nonce, *self.inside] if self.ours else ["/bin/sh", "-c", SHELL, nonce]


class Trials:
    """Runs and judges starts. ``label`` keeps the records of several apart; ``facts`` gives what stderr_rules may ask.

    ``ran`` is what ``early`` gave in another process: these commands are not run again.
    """

    def __init__(
        self,
        host: Host,
        work_folder: Optional[str],
        facts: Callable[[], Dict[str, Any]],
        label: str,
        ran: Optional[Dict[str, Any]] = None,
    ) -> None:
        self._host, self._work_folder, self._facts, self._label = host, work_folder, facts, label
        self._ran: Dict[str, List[Any]] = ran["outcomes"] if ran else {}
        self._nonce = str(ran["nonce"]) if self._ran and ran else host.nonce()

    def run(self, starts: Dict[str, Start], limit_s: float = RUN_LIMIT_S, share: float = 0.6) -> Dict[str, Verdict]:
        """Try starts side by side, each within the limit and a share of what is left of the deadline."""
        limit_s = self._host.limit(limit_s, share)
        texts = {name: command_line.as_text(self._command(start)) for name, start in starts.items()}
        outcomes = {name: Outcome(*self._ran[text]) for name, text in texts.items() if text in self._ran}
        outcomes.update(self._outcomes({name: starts[name] for name in starts if name not in outcomes}, limit_s))
        maps = self._host.read_or_none("/proc/self/uid_map") is not None
        return {
            name: payload_run.judge(outcomes[name], self._nonce, texts[name], self._facts, limit_s, maps)
            for name in starts
        }

    def early(self, starts: Dict[str, Start], limit_s: float) -> Dict[str, Any]:
        """Try starts side by side: {"nonce": word, "outcomes": {command as text: Outcome as a list, ..}}.

        A failure is left out, since it may be owed to what runs beside; one that cannot be killed is not, since it would
        be one more such process.
        """
        outcomes = self._outcomes(starts, self._host.limit(limit_s, 0.3))
        kept = {name: outcome for name, outcome in outcomes.items() if outcome.succeeded or outcome.left_running}
        return {
            "nonce": self._nonce,
            "outcomes": {command_line.as_text(self._command(starts[name])): list(kept[name]) for name in kept},
        }

    def _command(self, start: Start) -> List[str]:
        return start.launch.command(start.image, start.program(self._nonce))

    def _outcomes(self, starts: Dict[str, Start], limit_s: float) -> Dict[str, Outcome]:
        names = {name: "singularity.{}.{}".format(self._label, name) for name in starts}
        runs = {names[name]: Run(self._command(start), self._changes(start)) for name, start in starts.items()}
        outcomes = self._host.run_each(runs, limit_s, AT_ONCE)
        return {name: outcomes[names[name]] for name in starts}

    def _changes(self, start: Start) -> Dict[str, Optional[str]]:
        changes = dict(start.launch.changes, **dict.fromkeys(start.unset))
        if start.image.endswith(".sif"):
            changes.update(kept_in(self._work_folder, "TMPDIR"))
        return changes


def kept_in(work_folder: Optional[str], *names: str) -> Dict[str, Optional[str]]:
    """The changes by which what Singularity unpacks (TMPDIR) and pulls (CACHEDIR) goes with our work folder, killed or not."""
    return {product + name: work_folder for product in ("APPTAINER_", "SINGULARITY_") for name in names}
