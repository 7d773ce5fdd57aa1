"""Captions as the web writes them, made into what a tagger expects."""

from __future__ import annotations

import html
import re

MARKUP = re.compile(r"<[^<>]{1,40}>")  # CC12M writes <PERSON> for a name
ADDRESS = re.compile(r"(?:https?://|www\.)\S+", re.IGNORECASE)
TITLE_CASE_SHARE = 0.7  # of the words after the first; fewer are names in a sentence


def clean_caption(text: str) -> str:
    """Remove markup and addresses, join white space, and put titles and capitals in lower case.

    A tagger takes a capital for a proper name, so that "White Dog On A Beach" would lose every label.
    """
    text = html.unescape(text)
    text = ADDRESS.sub(" ", MARKUP.sub(" ", text))
    text = " ".join(text.split())
    words = [word for word in text.split()[1:] if word[0].isalpha()]
    capitals = sum(word[0].isupper() for word in words)
    if len(words) >= 2 and capitals >= TITLE_CASE_SHARE * len(words):
        return text.lower()
    return text
