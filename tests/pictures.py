"""The pictures that a piece of HTML shows, and what they say to those who cannot see them."""

import base64
import io
from html.parser import HTMLParser

from PIL import Image


class Pictures(HTMLParser):
    """The attributes of the images in a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[dict[str, str]] = []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        if tag == "img":
            self.found.append(dict(attributes))


def image_in(page: str) -> tuple[Image.Image, str]:
    """The only picture in a page, whose bytes are in the page, and its alt text."""
    (image,) = Pictures(page).found
    data = base64.b64decode(image["src"].removeprefix("data:image/png;base64,"), validate=True)
    return Image.open(io.BytesIO(data)), image["alt"]
