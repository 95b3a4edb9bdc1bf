"""A report card as a page that needs nothing else."""

from base64 import b64encode
from pathlib import Path

from jinja2 import Environment

from mtlkit.report.card import Card

TEMPLATE = Path(__file__).with_name("card.html")


def page_of(card: Card) -> str:
    """Return a card as HTML in one file: pictures and styles are in it, and nothing is fetched."""
    template = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(
        TEMPLATE.read_text(encoding="utf-8")
    )
    pictures = [
        (title, picture.alt, b64encode(picture.png()).decode("ascii")) for title, picture in card.pictures.items()
    ]
    return template.render(card=card, pictures=pictures)
