"""Text from a server or a file name, made safe for a terminal: every text that a client prints goes through here."""

import sys

MAX_CHARACTERS = 1000  # of one printed text; a server can send megabytes


def printable(text: object) -> str:
    r"""Return the text in one line, with escape sequences such as \x1b for all characters that cannot be seen.

    A terminal obeys escape and control characters (C0 and C1), and a bidirectional override changes the order of the
    characters. A text of more than MAX_CHARACTERS is cut, and ends with `...`.
    """
    characters = str(text)
    shown = "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in characters[:MAX_CHARACTERS]
    )
    return shown + "..." if len(characters) > MAX_CHARACTERS else shown


def print_problem(text: object, source: object = "nervemask") -> None:
    """Print one line to standard error. source: what the text is about."""
    print(f"{printable(source)}: {printable(text)}", file=sys.stderr)
