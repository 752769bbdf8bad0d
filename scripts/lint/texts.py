"""Reads the prose of the tree for the two checks beside this file: documents, comments, strings and identifiers, each with its line.

It knows Markdown, Rust, SQL, Lua, shell, Python, TypeScript and JavaScript well enough for that. It is no parser: a string inside of a macro is
a string, and a comment sign inside of a string is recognised by the string that surrounds it.
"""

import re
from dataclasses import dataclass
from pathlib import Path

# Pages that a program writes. Their sentences belong to the program.
GENERATED = {
    "docs/costs.md", "docs/failover.md", "docs/http-conformance.md", "docs/resilience.md", "docs/rolling.md", "docs/speed.md", "docs/windows.md",
}
# Folders that tools fill.
FOREIGN = {"target", "node_modules", ".git", ".run", "mutants.out"}


LINK = "\u200b"


@dataclass
class Piece:
    """A part of a file: what kind of text it is, where it stands, and the text."""

    kind: str  # "comment", "string" or "code"
    path: str
    line: int
    text: str


def paths(root, endings, folders=None):
    """Files below `root` that end so, without what tools left there, in order."""
    for path in sorted(root.rglob("*")):
        parts = path.relative_to(root).parts
        if path.suffix in endings and not FOREIGN & set(parts) and path.is_file():
            if folders is None or any("/".join(parts).startswith(folder) for folder in folders):
                yield path


COMMENT = {".rs": "//", ".ts": "//", ".js": "//", ".mjs": "//", ".vcl": "#", ".sql": "--", ".lua": "--", ".sh": "#", ".py": "#", ".yml": "#", ".toml": "#"}


def pieces(path, root):
    """The comments, strings and code of a source file, line by line."""
    name, text = path.relative_to(root).as_posix(), path.read_text(encoding="utf-8")
    sign = re.escape(COMMENT[path.suffix])
    raw = r'|b?r(?P<hash>#*)"(?P<raw>.*?)"(?P=hash)' if path.suffix == ".rs" else ""
    # In Rust a single quote begins a character or a lifetime.
    quotes = r"|(?:'(?:[^'\\\n]|\\[^\n]{1,8})')" if path.suffix == ".rs" else r"|'(?P<single>(?:[^'\\\n]|\\.)*)'"
    # `#` begins a comment of a shell only after a space or at the start.
    before = r"(?<![^\s;])" if sign == "\\#" else ""
    token = re.compile(rf'{before}{sign}(?P<comment>[^\n]*)|/\*(?P<block>.*?)\*/{raw}|"(?P<string>(?:[^"\\]|\\.)*)"{quotes}', re.S)
    at, found = 0, []
    for match in token.finditer(text):
        found.append(Piece("code", name, 1 + text.count("\n", 0, at), text[at : match.start()]))
        groups = match.groupdict()
        line = 1 + text.count("\n", 0, match.start())
        if groups.get("comment") is not None:
            found.append(Piece("comment", name, line, groups["comment"].lstrip("/!").strip()))
        elif groups.get("block") is not None:
            found.append(Piece("comment", name, line, groups["block"]))
        else:
            said = next((groups[kind] for kind in ("raw", "string", "single") if groups.get(kind) is not None), None)
            if said is not None:
                found.append(Piece("string", name, line, said))
        at = match.end()
    found.append(Piece("code", name, 1 + text.count("\n", 0, at), text[at:]))
    return [piece for piece in found if piece.text.strip()]


def comment_lines(path, root):
    """The comments as (line, text), an empty text where a comment ends."""
    lines, last = [], None
    for piece in pieces(path, root):
        if piece.kind != "comment":
            continue
        if last is not None and piece.line > last + 1:
            lines.append((last + 1, ""))
        lines.extend((piece.line + offset, text.strip().lstrip("*")) for offset, text in enumerate(piece.text.split("\n")))
        last = lines[-1][0]
    return lines


def sentences(lines, markdown=True):
    """Sentences as (line, text). Fenced and indented blocks are left out; inline code and bare addresses become the word CODE; a heading, an item of
    a list and a cell of a table each end a sentence; so does a full stop, question mark or exclamation mark before a space."""
    paragraphs, current, fenced = [], [], False
    for number, line in lines:
        stripped = line.strip()
        if stripped.startswith("```"):
            fenced = not fenced
            paragraphs.append(current)
            current = []
            continue
        if fenced or stripped.startswith(("<!--", "![")):
            continue
        if stripped.startswith("#") and markdown and re.match(r"#+\s", stripped):
            paragraphs.append(current)
            current = []
            continue  # A heading is no sentence.
        if stripped.startswith("|"):
            paragraphs.append(current)
            paragraphs.extend([(number, cell.strip())] for cell in re.split(r"(?<!\\)\|", stripped) if re.search(r"[A-Za-z]", cell))
            current = []
            continue
        if not stripped:
            paragraphs.append(current)
            current = []
            continue
        if re.match(r"([*\-+]|\d+\.)\s", stripped):
            paragraphs.append(current)
            current = []
            stripped = re.sub(r"^([*\-+]|\d+\.)\s+", "", stripped)
        current.append((number, stripped))
    paragraphs.append(current)
    for paragraph in paragraphs:
        if not paragraph:
            continue
        text, starts = "", []
        for number, line in paragraph:
            starts.append((len(text), number))
            text += plain(line) + " "
        at = 0
        for part in re.split(rf"(?<=[.?!])(?<!e\.g\.)(?<!i\.e\.)[\"')\]*_]*\s+(?=[\"'(*_\[]*[A-Z0-9{LINK}])", text):
            start = text.index(part, at) if part else at
            at = start + len(part)
            line = [number for begin, number in starts if begin <= start][-1]
            if re.search(r"[A-Za-z]", part):
                yield line, part.replace(LINK, "").strip()


def plain(line):
    """A line of Markdown as it is read aloud."""
    line = re.sub(r"`[^`]*`", "CODE", line)
    # A link may begin a sentence in small letters: LINK stands before it until sentences are split.
    line = re.sub(r"!?\[([^\]]*)\](?:\([^)]*\)|\[[^\]]*\])?", rf"{LINK}\1", line)
    line = re.sub(r"<?https?://[^\s>]*[^\s>.,;:)]>?", "CODE", line)
    return re.sub(r"<[^>]+>|\*\*|(?<!\w)\*|\*(?!\w)", "", line)


WORD = re.compile(r"[A-Za-z][A-Za-z'’\-]*")


def words(text):
    return WORD.findall(text)


def read_lines(path):
    return list(enumerate(path.read_text(encoding="utf-8").split("\n"), 1))


ROOT = Path(__file__).resolve().parents[2]
