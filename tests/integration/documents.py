"""README, CONTRIBUTING and docs/, as data: their fenced blocks and tables. Nothing here knows pytest.

The convention for fenced blocks:

    sh        runs, in order, with a POSIX shell in the directory of the repository, next to an instance
              of `make run` on port 8080. `curl -N` is left running
    sql       runs, in order with these, in the instance's database, where no table orders is before
    js        a part of a page
    console   cannot be run here: it needs another terminal, root, a database of yours
    text      is no command"""

import pathlib
import re
import typing

ROOT = pathlib.Path(__file__).resolve().parents[2]
NAMES = ["README.md", "CONTRIBUTING.md",
         *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("*.md"))]
LANGUAGES = {"sh", "sql", "js", "console", "text"}


class Block(typing.NamedTuple):
    language: str
    text: str
    line: int


def read(name):
    return (ROOT / name).read_text()


def blocks(name):
    """The fenced blocks, also those in lists, without their indentation."""
    found, block = [], None
    for number, line in enumerate(read(name).splitlines(), 1):
        fence = re.fullmatch(r"( *)```(\w*)", line)
        if block is not None and fence:
            found.append(Block(block[0], "\n".join(block[2]) + "\n", block[3]))
            block = None
        elif fence:
            block = (fence[2], len(fence[1]), [], number)
        elif block is not None:
            block[2].append(line[block[1]:])
    assert block is None, f"{name}: a block does not end"
    return found


def section(name, heading):
    """The text below a heading, up to the next one of its level or above."""
    lines = read(name).splitlines()
    start = lines.index(heading)
    level = len(heading) - len(heading.lstrip("#"))
    is_end = re.compile("#{1,%d} " % level).match
    end = next((i for i in range(start + 1, len(lines)) if is_end(lines[i])), len(lines))
    return "\n".join(lines[start + 1:end])


def rows(text, first):
    """The cells of all tables whose first column is called so."""
    found, is_wanted = [], False
    for line in text.splitlines():
        if not line.startswith("|"):
            is_wanted = False
            continue
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if is_wanted and not cells[0].startswith("---"):
            found.append(cells)
        is_wanted = is_wanted or cells[0] == first
    return found


def quoted(cell):
    """What stands in `backquotes`."""
    return re.findall(r"`([^`]+)`", cell)


# --- the texts of the code -----------------------------------------------------------------------

_STRING = r'"(?:[^"\\\n]|\\.)*"'
_PIECES = rf"(?:(?:{_STRING}|\b[A-Z][A-Z0-9_]+\b)\s*)+"


def _source(*rooms):
    return "\n".join(path.read_text() for room in rooms
                     for path in sorted((ROOT / room).rglob("*.[ch]"))).replace("\\\n", "\n")


def _join(pieces, macros):
    text = ""
    for piece in re.findall(rf"{_STRING}|[A-Z][A-Z0-9_]+", pieces):
        if not piece.startswith('"') and piece not in macros:
            return None
        text += macros[piece] if piece in macros else piece[1:-1]
    return text


def _unescape(text):
    return re.sub(r"\\(.)", r"\1", text)


def _macros(source):
    """Those that are strings, or strings and other such macros."""
    macros = {}
    for _ in range(3):
        for name, pieces in re.findall(rf"#define ([A-Z][A-Z0-9_]+)\s+({_PIECES})", source):
            pieces = pieces.split("#define")[0]
            text = _join(pieces, macros)
            if text:
                macros[name] = text
    return macros


def code_texts():
    """All strings of the code, those that are put together from pieces and macros as one."""
    source = _source("common", "broker", "fcgi")
    macros = _macros(source)
    known = "|".join(sorted(macros, key=len, reverse=True))
    piece = rf"(?:{_STRING}|\b(?:{known})\b)"
    return {_unescape(_join(text, macros)) for text in re.findall(rf"{piece}(?:\s*{piece})*", source)}


def refusals():
    """What handlers say to clients where they refuse something, as far as it stands in one string."""
    found = set()
    for pattern in (r"\*reason =\s*", r"_refuse\(\s*\w+,\s*\w+,\s*", r"_complain\([^,;]*,\s*",
                    r"client_give_up\(\s*\w+,\s*", r"reply_text\(\s*\w+,\s*\w+,\s*"):
        found |= set(re.findall(pattern + f"({_STRING})", _source("fcgi")))
    return {_unescape(text[1:-1]) for text in found} - {""}
