"""Where a keyword's products come from: the team's own catalogue first, Naver for the rest.

1. A keyword that the catalogue matches is served by it alone; Naver is not asked.
2. Any other keyword is asked of Naver.
3. Where Naver is away, the catalogue serves what loosely fits, and Naver's failure stays in `problems`.
"""

from __future__ import annotations

from deskterior.providers import Found, ProductSearch
from deskterior.providers.catalogue import Catalogue
from deskterior.providers.naver import distinct
from deskterior.schemas import Product, ProductDetail


class Shop:
    """A `ProductSearch` over the catalogue and another search."""

    def __init__(self, catalogue: Catalogue, elsewhere: ProductSearch, *, per_keyword: int) -> None:
        self._catalogue = catalogue
        self._elsewhere = elsewhere
        self._per_keyword = per_keyword

    async def find(self, keywords: list[str]) -> Found:
        """Products in the order of the keywords; none is shown under two of them."""
        wanted = distinct(keywords)
        own = {keyword: self._catalogue.find(keyword, limit=len(self._catalogue)) for keyword in wanted}
        rest = [keyword for keyword in wanted if not own[keyword]]
        found = await self._elsewhere.find(rest) if rest else Found([])
        bought = {product.keyword: product.details for product in found.products}
        products, shown = [], set[str]()
        for keyword in wanted:
            details = own[keyword] or bought.get(keyword, [])
            if not details and found.problems:
                details = self._catalogue.find(keyword, limit=len(self._catalogue), loosely=True)
            if details := self._unseen(details, shown):
                products.append(Product(keyword=keyword, details=details))
        return Found(products, found.problems)

    def _unseen(self, details: list[ProductDetail], shown: set[str]) -> list[ProductDetail]:
        unseen = [detail for detail in details if detail.link not in shown][: self._per_keyword]
        shown.update(detail.link for detail in unseen)
        return unseen
