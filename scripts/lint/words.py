#!/usr/bin/env python3
"""Finds words that this project no longer uses, and says which to use instead. The list is `words.txt` beside this file. It also checks the rows of docs/glossary.md.

    scripts/lint/words.py                     every old word in the areas that are on, as file:line; exit status 1 if there is one
    scripts/lint/words.py --count             how many there are in each area, on or off
    scripts/lint/words.py --area comments     every old word of an area, on or off
    scripts/lint/words.py --self-test         planted lines, each with the word that must be found

CHANGELOG.md and this folder name old words on purpose. Generated pages, and blocks marked as text in documents, show a program's output.
"""

import argparse
import re
import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import texts  # noqa: E402

AREAS = ("identifiers", "comments", "messages", "documents", "page", "settings")
GROUPS = {"all": AREAS, "prose": ("comments", "messages", "documents", "page")}
EXCEPT = ("CHANGELOG.md", "scripts/lint/", "openapi/requests.http")


@dataclass
class Rule:
    old: str
    instead: str
    areas: tuple
    folders: tuple
    pattern: re.Pattern


def rules(text):
    """The rules of a list, and the areas that are on."""
    found, on = [], ()
    for number, line in enumerate(text.split("\n"), 1):
        if line.startswith("on:"):
            on = tuple(line.removeprefix("on:").split())
        elif line.strip() and not line.startswith("#"):
            parts = [part.strip() for part in re.split(r"\s\|\s", line)]
            if len(parts) not in (3, 4):
                sys.exit(f"words.txt:{number}: not `old | instead | areas [| folders]`: {line}")
            old, instead, areas = parts[:3]
            folders = tuple(parts[3].split()) if len(parts) == 4 else ()
            areas = tuple(area for name in areas.split() for area in GROUPS.get(name, (name,)))
            if old.startswith("/"):
                pattern = re.compile(old.strip("/"), re.I)
            else:
                pattern = re.compile(rf"(?<![A-Za-z0-9_]){re.escape(old)}(?![A-Za-z0-9_])")
            found.append(Rule(old, instead, areas, folders, pattern))
    unknown = {area for rule in found for area in rule.areas} | set(on)
    if unknown - set(AREAS):
        sys.exit(f"words.txt names unknown areas: {unknown - set(AREAS)}")
    return found, on


def documents(path):
    """The lines of a document without what a program printed: blocks that are marked as text."""
    printed = False
    for number, text in texts.read_lines(path):
        if text.startswith("```"):
            printed = text == "```text"
        if not printed:
            yield number, text


def lines(root):
    """Every line as (area, file, line, text)."""
    for path in texts.paths(root, {".md"}):
        name = path.relative_to(root).as_posix()
        # A program's pages are its messages. Those of measurements are made again with the next measurement.
        if not name.startswith(EXCEPT) and name not in texts.GENERATED:
            for number, text in documents(path):
                yield "documents", name, number, text
    for path in texts.paths(root, {".rs", ".sql", ".lua"}):
        name = path.relative_to(root).as_posix()
        for piece in texts.pieces(path, root):
            area = {"comment": "comments", "string": "messages", "code": "identifiers"}[piece.kind]
            if area == "messages" and not name.startswith(("src/", "crates/", "adopt/src/")):
                continue
            for offset, text in enumerate(piece.text.split("\n")):
                yield area, name, piece.line + offset, text
    for path in texts.paths(root, {".html", ".js", ".mjs", ".ts", ".css", ".json"}, ("src/management/", "clients/", "openapi/")):
        for number, text in texts.read_lines(path):
            yield "page", path.relative_to(root).as_posix(), number, text
    settings = list(texts.paths(root, {".yml", ".yaml", ".sh", ".vcl", ".toml"}, ("ops/", "scripts/", "docker-compose", ".github/", ".cargo/")))
    settings += [path for path in (root / ".env.example", root / "Makefile", root / "Dockerfile") if path.exists()]
    settings += list(texts.paths(root, {".json"}, ("ops/",)))
    for path in settings:
        name = path.relative_to(root).as_posix()
        if not name.startswith(EXCEPT):
            for number, text in texts.read_lines(path):
                yield "settings", name, number, text


def matches(area, text, known, name="crates/aside-cache/src/"):
    """The rules that a line breaks, with the words found; of two at one place the first."""
    starts = set()
    for rule in known:
        if area in rule.areas and (not rule.folders or name.startswith(rule.folders)):
            for match in rule.pattern.finditer(text):
                if match.start() not in starts:
                    starts.add(match.start())
                    yield rule, match.group()


def glossary_faults(lines, known):
    """Rows of the glossary that are not a term, a definition of one sentence and a source; terms that stand twice; terms that the list rejects."""
    faults, terms = [], set()
    for number, text in lines:
        cells = [cell.strip() for cell in text.strip().strip("|").split(" | ")]
        if not text.startswith("|") or cells[0] == "term" or set(text) <= set("|- "):
            continue
        if len(cells) != 3 or not all(cells):
            faults.append(f"{number}: not `term | definition | source`")
            continue
        term, definition, _ = cells
        found = [part for _, part in texts.sentences([(number, definition)])]
        if len(found) != 1 or not definition.endswith(".") or len(texts.words(definition)) > 25:
            faults.append(f"{number}: {term}: the definition is not one sentence of at most 25 words")
        if term in terms:
            faults.append(f"{number}: {term} stands twice")
        if any(matches("documents", term, known)):
            faults.append(f"{number}: {term} is an old word")
        terms.add(term)
    return faults if terms else ["no term"]


PLANTED_ROWS = [
    ("| tag | A string that names data. | TxCache |", 0),
    ("| tag | A string. It names data. | TxCache |", 1),
    ("| tag | A string that names data | TxCache |", 1),
    ("| tag | A string that names data. |  |", 1),
    ("| era | A run of a server. | Raft |", 1),
]

PLANTED = [
    ("documents", "The `Fence` decides.", ["Fence"]),
    ("documents", "The fence of an instance.", ["The fence"]),
    ("documents", "Fences of a garden.", []),
    ("documents", "Entries of another era are dropped.", ["era"]),
    ("documents", "The camera.", []),
    ("documents", "A write touches a tag.", ["touches"]),
    ("documents", "Redis is never trusted.", []),
    ("documents", "Set CACHE_TRUST_MS to 500.", ["CACHE_TRUST_MS"]),
    ("messages", "cannot read the era", ["era"]),
    ("identifiers", "let held = Held::new(wait_for_trust());", ["Held", "wait_for_trust"]),
    ("identifiers", "touch_all(write); retouch()", []),
    ("comments", "Redis is away.", ["Redis is away"]),
    ("settings", "CACHE_TRUST_MS: 500", ["CACHE_TRUST_MS"]),
    ("settings", "an era of its own", []),
]


def self_test(known):
    wrong = []
    if [word for _, word in matches("identifiers", "Held", known, "tests/support/app.rs")]:
        wrong.append("a word with folders is found outside of them")
    for area, text, expected in PLANTED:
        got = sorted(word for _, word in matches(area, text, known))
        if got != sorted(expected):
            wrong.append(f"{area}: {text}: expected {expected}, got {got}")
    for row, expected in PLANTED_ROWS:
        if len(faults := glossary_faults([(1, row)], known)) != expected:
            wrong.append(f"{row}: expected {expected} faults, got {faults}")
    return wrong


def main():
    parser = argparse.ArgumentParser(description="Finds words that this project no longer uses.")
    parser.add_argument("--root", type=Path, default=texts.ROOT)
    parser.add_argument("--count", action="store_true")
    parser.add_argument("--area", choices=AREAS)
    parser.add_argument("--self-test", action="store_true")
    arguments = parser.parse_args()
    known, on = rules((Path(__file__).parent / "words.txt").read_text(encoding="utf-8"))
    if wrong := self_test(known):
        sys.exit("words.py judges planted lines wrongly:\n" + "\n".join(wrong))
    if arguments.self_test:
        print(f"{len(PLANTED) + len(PLANTED_ROWS)} planted lines are judged as they must be")
        return
    counts, found = dict.fromkeys(AREAS, 0), []
    glossary = arguments.root.resolve() / "docs/glossary.md"
    if glossary.exists() and not (arguments.count or arguments.area):
        found += [f"docs/glossary.md:{fault}" for fault in glossary_faults(texts.read_lines(glossary), known)]
    for area, name, number, text in lines(arguments.root.resolve()):
        for rule, word in matches(area, text, known, name):
            counts[area] += 1
            if area == arguments.area or (arguments.area is None and area in on):
                found.append(f"{name}:{number}: \"{word}\": use {rule.instead}")
    if arguments.count:
        for area in AREAS:
            print(f"{area:14}{counts[area]:>7}  {'on' if area in on else 'off'}")
        return
    if found:
        sys.exit("\n".join(found) + f"\n{len(found)} faults; docs/glossary.md has the new words, scripts/lint/words.txt the list")
    print(f"no old word in {arguments.area or ', '.join(on)}, of {len(known)} rules")


if __name__ == "__main__":
    main()
