"""Shop: products for the keywords. It is free, and it never fails a task: what went wrong becomes a warning."""

from __future__ import annotations

import structlog
from pydantic import BaseModel

from deskterior.errors import DeskteriorError
from deskterior.makeover.journal import Journal, Run
from deskterior.providers import Found, ProductSearch
from deskterior.schemas import Description, Product

log = structlog.get_logger(__name__)


class Basket(BaseModel):
    products: list[Product]
    problems: list[str]


class Shop:
    def __init__(self, search: ProductSearch) -> None:
        self._search = search

    async def __call__(self, run: Run, journal: Journal, description: Description) -> Basket:
        """The products found; fewer or none, with the reasons, when the search is away."""
        if done := run.done.get("shop"):
            return Basket.model_validate_json(done)
        number = await journal.begin(run, "shop")
        try:
            found = await self._search.find(description.keywords)
        except DeskteriorError as error:
            found = Found([], [error.detail])
        except Exception:
            log.exception("shop.crashed")
            found = Found([], ["The product search failed"])
        basket = Basket(products=found.products, problems=found.problems)
        await journal.done(run, "shop", number, basket.model_dump_json())
        return basket
