"""What the API answers about GPUs: paths, questions and their description; the collector makes routes of them."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from starlette.requests import Request

from reports.images_routes import Question
from reports.openapi import Operation
from site_db.gpus import gpus_of, list_gpus
from site_db.store import Store

_REFUSALS = (401, 403, 503)
_OF_ONE_PLACE: dict[str, Any] = {
    "parameters": [
        {
            "name": "name",
            "in": "query",
            "description": "Only this site with its entries, or this entry (NAME or NAME@FACTORY); without it all sites",
            "schema": {"type": "string"},
        }
    ]
}


def questions(store: Store, now: Callable[[], datetime]) -> list[tuple[str, Question, Operation]]:
    """Paths in OpenAPI's spelling, what is asked there, what the description says of it."""

    def gpus(request: Request) -> dict[str, Any]:
        name = request.query_params.get("name")
        return (gpus_of(store, name, now()) if name else list_gpus(store, now())).to_dict()

    about = Operation(
        "GPUs as jobs meet them: models, drivers, the newest CUDA, container access",
        "The places with a sign of GPUs",
        refusals=(*_REFUSALS, 404, 409),
        extra=_OF_ONE_PLACE,
    )
    return [("/api/v1/gpus", gpus, about)]
