"""`manage.py accept_prices [DIGEST]`: look at fetched prices that wait for an operator, and accept them."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from providers import price_refresh
from providers.tasks import publish


class Command(BaseCommand):
    """Without a digest it fetches and shows what waits; with the digest that it showed, these very prices are used."""

    help = "Fetch prices from CATALOG_URL. Show which wait for an operator, or accept those with DIGEST."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("digest", nargs="?", default="", help="the SHA-256 that this command showed")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            is_new = price_refresh.refresh(accepted=options["digest"])
        except price_refresh.PricesWait as fault:
            self.stdout.write("\n".join(fault.places))
            raise CommandError(f"{fault}. Accept them: manage.py accept_prices {fault.digest}") from None
        except (price_refresh.PricesRefused, OSError) as fault:
            raise CommandError(f"The prices were not taken: {fault}") from None
        if is_new:
            publish()
        self.stdout.write("The prices are in use." if is_new else "There are no newer prices.")
