"""Where a parser stands in its tokens."""

from __future__ import annotations

from verifiers._latex_tokens import COMMAND, SIGN, Malformed, Token

END: Token = ("end", "", False)


class Cursor:
    """Recursive descent over the tokens; `depth` bounds how far it nests."""

    def __init__(self, tokens: list[Token], variables: frozenset[str] | None) -> None:
        self.tokens = tokens
        self.variables = variables
        self.at = 0
        self.depth = 0
        self.bars = 0
        self.mixed = False
        self.unit = ""  # of the side being read: from a currency sign before it
        self.kind, self.value, self.spaced = tokens[0] if tokens else END

    def next(self) -> None:
        self.at += 1
        self.kind, self.value, self.spaced = self.tokens[self.at] if self.at < len(self.tokens) else END

    def peek(self, offset: int = 1) -> Token:
        return self.tokens[self.at + offset] if self.at + offset < len(self.tokens) else END

    def is_sign(self, value: str) -> bool:
        return self.kind == SIGN and self.value == value

    def is_command(self, value: str) -> bool:
        return self.kind == COMMAND and self.value == value

    def take(self, value: str) -> bool:
        if self.kind == SIGN and self.value == value:
            self.next()
            return True
        return False

    def expect(self, value: str) -> None:
        if not self.take(value):
            raise Malformed(f"{value} expected")
