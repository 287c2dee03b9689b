"""The program `site-db`: the centre's command line. Every command gives an Answer to one place that renders it."""

import logging
import sys

import click

from reports.lazy_commands import Lazy
from reports.session import Program, common_options
from reports.version import VERSION

# Names, places, and the first sentence of each help: what `site-db --help` shows without importing any.
COMMANDS = {
    "serve": Lazy(
        "reports.serve_command:serve",
        "Run the collector, its API and its page until it is stopped (SIGTERM or Ctrl-C).",
    ),
    "worker": Lazy(
        "reports.worker_command:worker",
        "Store reports from the queue until stopped: SIGTERM or Ctrl-C finish the group under way.",
    ),
    "ingest": Lazy("reports.ingest_command:ingest", "Store reports from files, folders and standard input (-)."),
    "harvest": Lazy(
        "reports.harvest_commands:harvest",
        "Get reports out of glidein logs and machine ads: for nodes that cannot send them.",
    ),
    "sites": Lazy("reports.report_commands:sites", "List all sites with what works there."),
    "site": Lazy("reports.report_commands:site", "Report on one site: its capabilities and its entries."),
    "entry": Lazy("reports.report_commands:entry", "Report on one factory entry."),
    "node": Lazy("reports.report_commands:node", "Report on one worker node, by its machine id or host name."),
    "why": Lazy(
        "reports.report_commands:why",
        "Explain one verdict: in sentences, with evidence, and what the site and the factory can do.",
    ),
    "changes": Lazy(
        "reports.upkeep_commands:changes",
        "List what entries lost and gained, when, and from which node on.",
    ),
    "entries": Lazy(
        "reports.entries_cli:entries",
        "Factory entries: import and list them, check and propose their configuration, apply proposals.",
    ),
    "images": Lazy(
        "reports.images_commands:images",
        "Images: import and list them, see what they need, on which sites they run, which to pick.",
    ),
    "gpus": Lazy(
        "reports.gpu_commands:gpus",
        "Tell which GPUs there are: models, memory, the newest CUDA, whether containers reach them, on how many nodes.",
    ),
    "export": Lazy(
        "reports.export_commands:export",
        "Write what the centre knows as files: pages for a web server, one page to mail, history, site ads.",
    ),
    "publish": Lazy(
        "reports.site_ad_commands:publish",
        "Send an ad for each site and entry to the collector of a pool: what jobs can match on, and condor_status shows.",
    ),
    "token": Lazy(
        "reports.token_commands:token",
        "Make tokens, by which reports are signed for one entry, and the keys behind them.",
    ),
    "migrate": Lazy("reports.report_commands:migrate", "Bring an older database to this release's form."),
    "retention": Lazy(
        "reports.retention_command:retention",
        "Drop the raw text of reports, reports that are exported, and exported days, each after its number of days.",
    ),
    "backup": Lazy(
        "reports.upkeep_commands:backup",
        "Copy the database to FILE while collectors run (SQLite; for PostgreSQL use pg_dump).",
    ),
    "restore": Lazy(
        "reports.upkeep_commands:restore",
        "Put a copy that backup wrote in the database's place, while nothing uses it (SQLite; for PostgreSQL use pg_restore).",
    ),
    "doctor": Lazy(
        "reports.report_commands:doctor_command",
        "Look whether this centre can work: database, disk, memory, versions.",
    ),
    "completion": Lazy(
        "reports.completion:completion", "Write the script by which a shell completes commands and options."
    ),
}
_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.group(cls=Program, lazy=COMMANDS, context_settings=_SETTINGS)
@click.version_option(VERSION, prog_name="site-db")
@common_options
def cli() -> None:
    """What containers can do at each site: collects the probe's reports, explains them, proposes entry configuration.

    \b
    Examples:
      site-db serve                             take reports on this machine
      singularity-probe run | site-db ingest -  store one report by hand
      site-db sites                             all sites at a glance
      site-db site Example-T2                   one site: what works, what does not, why
      site-db why Example_T2_CE1 singularity    one verdict, with evidence and remedy
      site-db entries propose Example_T2_CE1 --as xml
      site-db entries check                     configuration against measurement
      site-db --format json sites | jq '.data'
    """


def main() -> None:
    """Run the program."""
    logging.captureWarnings(True)
    for stream in (sys.stdout, sys.stderr):
        # A terminal in a poorer encoding shows escapes, where it would end in a traceback.
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # they are text streams
    cli(prog_name="site-db")
