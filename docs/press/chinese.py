"""Search in Chinese: pairs of characters, in the index and in what is asked for alike."""

from __future__ import annotations

import re

from sphinx.search import SearchLanguage

_WORD = re.compile(r"[a-z0-9_]+|[\u4e00-\u9fff]+", re.IGNORECASE)
SPLITTER = r"""
function splitQuery(query) {
  const words = query.match(/[a-z0-9_]+|[\u4e00-\u9fff]+/gi) || [];
  return words.flatMap((word) =>
    /[\u4e00-\u9fff]/.test(word) && word.length > 2
      ? Array.from({ length: word.length - 1 }, (_, at) => word.slice(at, at + 2))
      : [word]
  );
}
"""


def split(text: str) -> list[str]:
    """Return the words of a text: Latin ones, and each pair of neighbouring Chinese characters.

    >>> split("安装 torch 失败了")
    ['安装', 'torch', '失败', '败了']
    """
    words: list[str] = []
    for word in _WORD.findall(text):
        if word.isascii() or len(word) <= 2:
            words.append(word)
        else:
            words += [word[at : at + 2] for at in range(len(word) - 1)]
    return words


class Chinese(SearchLanguage):
    """What Sphinx asks of a language; its own one needs a dictionary that nobody keeps."""

    lang = "zh"
    language_name = "Chinese"
    js_splitter_code = SPLITTER

    def split(self, input: str) -> list[str]:  # noqa: A002 - as the base class has it
        """Return the words to index."""
        return split(input)

    def stem(self, word: str) -> str:
        """Leave words as they are."""
        return word.lower()

    def word_filter(self, word: str) -> bool:
        """Take every word."""
        return bool(word)
