"""Which program this is: a command that somebody typed, or a GlideinWMS custom script."""

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:  # a periodic run starts its container before it has time for typing
    from typing import List, Optional

COMMANDS = ("run", "explain", "startd-cron")


def main(arguments: "Optional[List[str]]" = None) -> int:
    """Run the program; returns its exit code."""
    import gc

    from probe import single_file

    single_file.install()
    keep_standard_descriptors()
    # A daemon that ignores its children's ends hands that on, and how ours ended would be lost. The module signal is slow.
    signals = __import__("_signal")
    signals.signal(signals.SIGCHLD, signals.SIG_DFL)
    gc.disable()  # a short life with little garbage; each child would copy what a collection touches
    given = sys.argv[1:] if arguments is None else arguments
    if len(given) == 2 and given[0] not in COMMANDS and not given[0].startswith("-"):
        from probe import glidein_call

        if glidein_call.is_config(given[0]):
            return _custom_script(given[0])
    from probe import by_hand

    return by_hand.main(given)


def run_program() -> None:
    """Run and end the process, without the interpreter's own way to end: that takes 5 ms to free what ends with us."""
    code = main()
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):  # closed, or its reader went away: there is nobody left to tell
            pass
    os._exit(code)


def _custom_script(config: str) -> int:
    """What takes longest begins first: the remembered container start, in the keeper; only then the rest is imported."""
    from probe import glidein_call, keeper

    kept, periodic = None, glidein_call.is_periodic(config)
    try:
        folder = glidein_call.folder_of(config)
        kept = keeper.Keeper(folder, config, periodic)
        if periodic:
            from probe import bytecode_cache

            bytecode_cache.install(folder)
        from probe import glidein

        return glidein.run(config, kept, periodic)
    except Exception as error:  # noqa: BLE001  whatever is wrong with us must not end a glidein
        from probe.messages import print_whole, say

        say("probe_error: {!r}; the glidein goes on".format(error))
        if periodic:
            print_whole('PROBE_STATUS = "probe_error"\n')
        return 0
    finally:
        if kept:
            kept.release()


def keep_standard_descriptors() -> None:
    """Put /dev/null where a standard stream was closed: else the next file opened would take its place."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
