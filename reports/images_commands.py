"""The commands `site-db images ...`: which images there are, what they need, where they run."""

from pathlib import Path

import click

from reports import images_answers
from reports.intake import utc_now
from reports.progress import working
from reports.session import Session, common_options
from site_db.errors import SiteDbError
from site_db.images import catalogues, classads, inspection, views
from site_db.images.bounded_files import read_file
from site_db.images.compatibility import SIZE_LIMIT, parse_specification
from site_db.images.declaring import parse_declarations
from site_db.images.registering import Given, add_image, import_catalogue
from site_db.images.selection import parse_conditions

_session = click.make_pass_decorator(Session, ensure=True)
_FILE = click.Path(path_type=Path)
_REFERENCE_LIMIT = 2048
_gpu_option = click.option("--gpu", is_flag=True, help="Count only nodes that also meet what an image asks of GPUs.")
_site_option = click.option("--site", "sites", multiple=True, metavar="NAME", help="Only this site (may be repeated).")
_require_option = click.option(
    "--require", "conditions", metavar="EXPR", help="Only images of which this is known: glibc>=2.28,os=rocky,cuda>=12."
)


@click.group()
def images() -> None:
    """Images: import and list them, see what they need, on which sites they run, which to pick."""


@images.command("import")
@click.argument("paths", metavar="FILE...", nargs=-1, required=True, type=_FILE)
@click.option("--kind", type=click.Choice(catalogues.KINDS), help="What the files are.  [default: by what is in them]")
@common_options
@_session
@click.pass_context
def images_import(context: click.Context, session: Session, paths: tuple[Path, ...], kind: str | None) -> None:
    """Import catalogues: cvmfs-singularity-sync's docker_images.txt, DUCC's recipe, OSPool's apptainer-sync.yaml.

    A wrong line is named and left out. Importing again brings the database to what the file says now; what is gone
    from it stays known, marked. Exit code 1 if a line was wrong.

    \b
    Examples:
      site-db images import docker_images.txt
      site-db images import recipe.yaml apptainer-sync.yaml
    """
    found = []
    with session.store() as store, working(len(paths)) as show:
        for number, path in enumerate(paths):
            show(number, str(path))
            found.append(import_catalogue(store, path, utc_now(), kind))
    session.show(images_answers.imported(found))
    context.exit(1 if any(item.wrong for item in found) else 0)


@images.command("add")
@click.argument("reference", metavar="REF")
@click.option("--inspect", "path", type=_FILE, metavar="PATH", help="Read its needs from this copy of it.")
@click.option("--arch", metavar="NAME", help="Which of several images in an OCI layout: x86_64, aarch64.")
@click.option(
    "--compatibility", "specification", type=_FILE, metavar="FILE", help="NFD image compatibility (v1alpha1)."
)
@click.option("--declare", "declared", multiple=True, metavar="FACT=VALUE", help="Say a fact, e.g. arch=aarch64.")
@common_options
@_session
def images_add(
    session: Session,
    reference: str,
    path: Path | None,
    arch: str | None,
    specification: Path | None,
    declared: tuple[str, ...],
) -> None:
    """Add an image by the reference that jobs use, or new facts about one that is known.

    What is declared counts before what is read from the image, and stays when the image is inspected again.

    \b
    Examples:
      site-db images add /cvmfs/unpacked.cern.ch/registry.example.org/vo/app:1 --inspect /cvmfs/unpacked.../app:1
      site-db images add osdf:///vo/images/app.sif --inspect app.sif --declare microarch=x86_64-v3
    """
    if not reference or len(reference) > _REFERENCE_LIMIT:
        raise click.UsageError(f"REF has to have 1 to {_REFERENCE_LIMIT} characters.")
    facts: list[Given] = []
    if path is not None:
        facts.append(Given("inspected", inspection.inspect(path, arch), str(path.absolute())))
    if specification is not None:
        text = read_file(specification, SIZE_LIMIT).decode("utf-8", "replace")
        facts.append(Given("declared", parse_specification(text, str(specification)), str(specification.absolute())))
    if declared and specification is not None:
        raise click.UsageError("--declare and --compatibility both declare: give one of them.")
    if declared:
        facts.append(Given("declared", parse_declarations(declared), "--declare"))
    with session.store() as store:
        session.show(images_answers.added(reference, add_image(store, reference, facts, utc_now())))


@images.command("inspect")
@click.argument("path", metavar="PATH", type=_FILE)
@click.option("--arch", metavar="NAME", help="Which of several images in an OCI layout: x86_64, aarch64.")
@common_options
@_session
def images_inspect(session: Session, path: Path, arch: str | None) -> None:
    """Tell what an image needs of a node: of a folder, a SIF, an OCI layout, archive or configuration.

    Every fact says its evidence: read from the image, derived, declared by somebody, or unknown. Nothing is stored;
    `images add REF --inspect PATH` does that.

    \b
    Examples:
      site-db images inspect /cvmfs/singularity.opensciencegrid.org/htc/rocky:9
      site-db --format json images inspect app.sif
    """
    session.show(images_answers.inspected(str(path), inspection.inspect(path, arch)))


@images.command("list")
@common_options
@_session
def images_list(session: Session) -> None:
    """List all images: catalogued, added, or reported by nodes; what is known of them, how far their tests reach.

    \b
    Example:
      site-db --format csv images list > images.csv
    """
    with session.store() as store:
        session.show(images_answers.listed(views.list_images(store, utc_now())))


@images.command("match")
@click.argument("image", metavar="IMAGE")
@click.option("--disagreements", is_flag=True, help="Only where prediction and observation contradict each other.")
@common_options
@_session
def images_match(session: Session, image: str, disagreements: bool) -> None:
    """Tell on which sites an image runs: predicted and observed, and why not where not.

    IMAGE is its reference, its name in a catalogue, or the end of its reference (htc/rocky:9).

    \b
    Examples:
      site-db images match htc/rocky:9
      site-db images match htc/rocky:9 --disagreements
    """
    with session.store() as store:
        session.show(images_answers.matched(views.match_image(store, image, utc_now()), disagreements))


@images.command("pick")
@click.argument("patterns", metavar="[IMAGE]...", nargs=-1)
@_site_option
@_require_option
@_gpu_option
@common_options
@_session
def images_pick(
    session: Session, patterns: tuple[str, ...], sites: tuple[str, ...], conditions: str | None, gpu: bool
) -> None:
    """Pick images for sites: the smallest set that is found to cover most nodes, and how each one does.

    IMAGE may be a pattern (*pytorch*); without one all images are looked at. The set is found greedily.

    \b
    Examples:
      site-db images pick '*/htc/*' --site Example-T2 --site Other-T2
      site-db images pick --require 'os=rocky,glibc>=2.34' --gpu
    """
    with session.store() as store:
        found = views.pick_images(store, utc_now(), _wanted(patterns, conditions, sites, gpu))
    session.show(images_answers.picked(found))


@images.command("matrix")
@click.argument("patterns", metavar="[IMAGE]...", nargs=-1)
@_site_option
@_require_option
@_gpu_option
@click.option("--disagreements", is_flag=True, help="Only where prediction and observation contradict each other.")
@common_options
@_session
def images_matrix(
    session: Session,
    patterns: tuple[str, ...],
    sites: tuple[str, ...],
    conditions: str | None,
    gpu: bool,
    disagreements: bool,
) -> None:
    """Show images by sites, with the share of nodes that run each. CSV has a column for every site.

    \b
    Examples:
      site-db --format csv images matrix > matrix.csv
      site-db images matrix --site Example-T2 --site Other-T2
    """
    wanted = _wanted(patterns, conditions, sites, gpu)
    with session.store() as store:
        if disagreements:
            session.show(images_answers.disagreeing(views.all_disagreements(store, utc_now(), wanted)))
        else:
            session.show(images_answers.matrix(views.image_matrix(store, utc_now(), wanted)))


@images.command("requirements")
@click.argument("image", metavar="IMAGE")
@click.option("--gpu", is_flag=True, help="With what it asks of GPUs.")
@click.option(
    "--unknown",
    type=click.Choice(["no", "yes"]),
    default="no",
    show_default=True,
    help="What a machine that does not say something counts as.",
)
@common_options
@_session
def images_requirements(session: Session, image: str, gpu: bool, unknown: str) -> None:
    """Write an image's needs as a ClassAd expression, for a job's requirements or a frontend's match.

    \b
    Example:
      condor_submit job.sub -append "requirements = $(site-db images requirements htc/rocky:9 2>/dev/null)"
    """
    with session.store() as store:
        known = views.known_image(store, image)
    passes = unknown == "yes"
    clauses = classads.clauses(known.need, gpu=gpu, unknown_passes=passes)
    if known.need.arch is None:
        raise _NotKnown(
            f"The architecture of {known.reference} is not known: any expression would be a guess.",
            f"Tell what it needs: site-db images add {known.reference} --inspect PATH, or --declare arch=x86_64.",
        )
    text = classads.expression(known.need, gpu=gpu, unknown_passes=passes)
    session.show(images_answers.required(known, clauses, text, gpu))


class _NotKnown(SiteDbError):
    """Too little is known of an image."""


def _wanted(patterns: tuple[str, ...], conditions: str | None, sites: tuple[str, ...], gpu: bool) -> views.Wanted:
    return views.Wanted(patterns, parse_conditions(conditions) if conditions else (), sites, gpu)
