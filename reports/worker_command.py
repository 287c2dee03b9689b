"""`site-db worker`: takes reports from the queue and stores them."""

import signal
from pathlib import Path

import click

from reports.logs import FORMATS, log_to_stderr
from reports.queue.options import choose_queue, queue_options
from reports.queue.settings import QueueSettings
from reports.serve_configuration import read_document
from reports.session import Session, common_options

_session = click.make_pass_decorator(Session, ensure=True)
_file = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.option("--config", "config_file", type=_file, metavar="FILE", help="The collectors' file: its [queue] counts.")
@queue_options
@click.option(
    "--group", type=click.IntRange(1, 10_000), default=500, show_default=True, help="Reports in one commit at most."
)
@click.option("--metrics-port", type=click.IntRange(0, 65535), help="Figures for Prometheus on this port; 0: any.")
@click.option("--metrics-host", default="127.0.0.1", show_default=True, help="Address of that port.")
@click.option("--log-format", type=click.Choice(FORMATS), default="text", show_default=True, help="The log on stderr.")
@click.option("--dead-letters", is_flag=True, help="Try once more what could not be stored, then end.")
@common_options
@_session
def worker(
    session: Session,
    /,
    config_file: Path | None,
    queue_addresses: tuple[str, ...],
    queue_password_file: Path | None,
    group: int,
    metrics_port: int | None,
    metrics_host: str,
    log_format: str,
    dead_letters: bool,
) -> None:
    """Store reports from the queue until stopped: SIGTERM or Ctrl-C finish the group under way.

    Any number of workers may run, here and elsewhere. A report is acknowledged to the queue after its commit; what comes
    twice is stored once. What cannot be stored goes to the queue of dead letters, NAME.dead.

    \b
    Examples:
      site-db --database postgresql+psycopg://sitedb@db/sitedb worker --config /etc/site-db/serve.toml
      site-db worker --queue amqp://site-db@mq1/reports --queue-password-file FILE --metrics-port 9642
      site-db worker --config /etc/site-db/serve.toml --dead-letters
    """
    table = read_document(config_file).get("queue", {}) if config_file else {}
    settings = choose_queue(queue_addresses, queue_password_file, table)
    if settings is None:
        raise click.UsageError("Which queue? Give --queue URL, or --config FILE with [queue].")
    log_to_stderr(output_format=log_format)
    if dead_letters:
        _replay(session, settings)
        return
    _work(session, settings, group, (metrics_host, metrics_port))


def _work(session: Session, settings: QueueSettings, group: int, metrics: tuple[str, int | None]) -> None:
    from reports.queue.worker import Worker  # its library is an extra
    from reports.queue.worker_metrics import WorkerMetrics

    figures = WorkerMetrics()
    host, port = metrics
    if port is not None:
        click.echo(f"figures on http://{host}:{figures.serve(host, port)}/metrics", err=True)
    with session.store() as store:
        worker = Worker(settings, store.add, figures, group=group)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: worker.stop())
        click.echo(f"storing reports of {settings.name} in {store.place}", err=True)
        worker.run()


def _replay(session: Session, settings: QueueSettings) -> None:
    from reports.queue.worker import replay  # its library is an extra

    with session.store() as store:
        done = replay(settings, store.add)
    click.echo(f"{done.stored} dead letters are stored now, {done.left} stay")
