"""Needs: what a job waits for, from the one person who can give it."""

from __future__ import annotations


class Needs(Exception):
    """`what` is the answer's name, `text` the question.

    Names: password, auth_factor (together with the password), plc_code, accept_missing, document.
    """

    def __init__(self, what: str, text: str) -> None:
        super().__init__(text)
        self.what = what
        self.text = text
