"""What the API answers about images: paths, questions and their description; the collector makes routes of them."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from starlette.requests import Request

from reports.openapi import Operation
from site_db.images import views
from site_db.store import Store

Question = Callable[[Request], Any]
_REFUSALS = (401, 403, 503)


def questions(store: Store, now: Callable[[], datetime]) -> list[tuple[str, Question, Operation]]:
    """Paths in OpenAPI's spelling, what is asked there, what the description says of it."""

    def listed(_request: Request) -> dict[str, Any]:
        return views.list_images(store, now()).to_dict()

    def matched(request: Request) -> dict[str, Any]:
        return views.match_image(store, request.path_params["name"], now()).to_dict()

    def of_site(request: Request) -> dict[str, Any]:
        return views.images_at_site(store, request.path_params["name"], now()).to_dict()

    about_list = Operation("All images: what each needs, how far its tests reach", "The images", refusals=_REFUSALS)
    about_match = Operation(
        "The sites at which one image runs, predicted and observed",
        "The match",
        parameter=("name", "The image: its reference, its name in a catalogue, or the end of its reference"),
        refusals=(*_REFUSALS, 404, 409),
    )
    about_site = Operation(
        "All images at one site",
        "The images, those that run on the most nodes first",
        parameter=("name", "The site's name, as the list gives it"),
        refusals=(*_REFUSALS, 404),
    )
    return [
        ("/api/v1/images", listed, about_list),
        ("/api/v1/images/{name}/sites", matched, about_match),
        ("/api/v1/sites/{name}/images", of_site, about_site),
    ]
