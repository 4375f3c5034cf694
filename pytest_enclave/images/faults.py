"""Why an image cannot be had, in the words that users read. Imported by the unpacking process too: nothing else is."""

from __future__ import annotations


class ImageFault(Exception):
    """What is wrong with an image, a source of images or an archive, and what to do about it."""

    def __init__(self, meaning: str, remedy: str = "") -> None:
        super().__init__(meaning)
        self.meaning = meaning
        self.remedy = remedy
