#!/usr/bin/env python3
"""Counts turns of speech that make this project's English hard to read, for each 1,000 words, and fails where the first two are too many.

    scripts/lint/dialect.py                     the table
    scripts/lint/dialect.py --show fused        every place, as file:line
    scripts/lint/dialect.py --fail documents    exit status 1 if that area is above the limit; several areas: --fail documents,src
    scripts/lint/dialect.py --root ../other     the same counts over another project
    scripts/lint/dialect.py --self-test         planted sentences, each with what must be counted

Areas: `src` (comments of what ships), `tests` (comments of tests, benches and fuzz targets), `documents` (Markdown that people write) and `generated` (Markdown
that a program writes). Left out are headings, fenced blocks, inline code (counted as one word) and addresses. `texts.py` splits the rest into sentences.

What is counted, and how. All of it is done by regular expressions, so a few plain sentences are counted and a few odd ones are missed.

fused       A relative clause without the noun that it belongs to ("what L1 lacks", "who has the keys can ..."), in a sentence that is no question:
              * `what`, unless an indirect question or a quotation stands there: after a verb of asking, saying, knowing or deciding (ASKING below), or after
                `about`, `of` or `on` that follows such a verb or noun; or joined to such a question by a comma, `and`, `or`, `but`; or in "what if", "what to", "no
                matter what", "what is (was) wrong";
              * `who` at the start of a sentence or clause, after a conjunction, or after a preposition, where no noun stands before it;
              * `where` after a preposition; `whose` at the start of a sentence.
indefinite  `nobody`, `somebody`, `whoever`, `whatever`, `whichever`, `anew`, `whomever`.
chains      A sentence with two or more colons or semicolons, not counting one at its end.
long        A sentence of more than 25 words.
"""

import argparse
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import texts  # noqa: E402

LIMIT, FAILING = 0.3, ("fused", "indefinite")
KINDS = ("fused", "indefinite", "chains", "long")
LONGEST = 25

ASKING = (
    r"ask|asks|asked|asking|say|says|said|saying|tell|tells|told|telling|know|knows|known|knew|knowing|see|sees|seen|saw|show|shows|shown|showing|explain|explains|explained|"
    r"describe|describes|described|describing|decide|decides|decided|deciding|define|defines|defined|determine|determines|determined|understand|understands|learn|learns|"
    r"find out|finds out|found out|check|checks|checked|list|lists|listed|listing|report|reports|reported|log|logs|document|documents|documented|note|notes|noted|"
    r"matter|matters|wonder|guess|guesses|test|tests|consider|specify|specifies|choose|chooses|name|names|state|states|question|measure|measures|inspect|of|on|about"
)
# `of what` and `on what` are indirect questions only after a word that asks.
ASKED_OF = r"(?:depends?|depending|based|knowledge|idea|question|record|list|description|summary|overview|details?|think|talk|read|learn|know|decision|statement|view|account|agree|examples?)"

FUSED = [
    # Every `what`; indirect questions are taken out below.
    re.compile(r"\bwhat(?:ever)?\b(?!\s+(?:if|to|about)\b)", re.I),
    re.compile(r"(?:^|[;:(]\s*|\b(?:and|but|or|if|when|that|than|because|so|while|of|from|for|by|with|to|on|at|as|after|before|without|like|only|not)\s+)who\b(?!\s+(?:is who|am i))", re.I),
    re.compile(r"\b(?:from|to|of|on|at|by)\s+where\b", re.I),
    re.compile(r"^whose\b", re.I),
]
INDEFINITE = re.compile(r"\b(?:nobody|somebody|whoever|whatever|whichever|whomever|anew)\b", re.I)
ANSWERED = re.compile(
    rf"(?:\b(?:{ASKING})(?:\s+(?:you|us|me|him|them|it|the\s+\w+|a\s+\w+|operators?|readers?|clients?|exactly|not))?[\s\"“(,:]*|\bno matter\s+|\b(?:[Tt]o|[Aa]nd|[Oo]r) what extent)$", re.I
)
OF = re.compile(rf"\b{ASKED_OF}\s+(?:of|on|about)\s+$", re.I)
JOINED = re.compile(r"(?:,|\band|\bor|\bbut)\s+$", re.I)
BARE_OF = re.compile(r"\b(?:of|on)\s+$", re.I)


def fused(sentence):
    """The places of fused clauses in a sentence."""
    if sentence.rstrip("\"')* ").endswith("?"):
        return []
    found, asked = [], False
    for pattern in FUSED:
        for match in pattern.finditer(sentence):
            before = sentence[: match.start()]
            if match.group().lower() in ("what", "whatever"):
                # The second of two indirect questions, too.
                if asked and JOINED.search(before):
                    continue
                asked = bool(OF.search(before) if BARE_OF.search(before) else ANSWERED.search(before))
                if asked:
                    continue
                if re.match(r"what (?:is|was) wrong", sentence[match.start() :], re.I):
                    continue
            found.append(match.start())
    return found


def count(sentence):
    """How often each kind is in a sentence."""
    marks = re.sub(r"\d:\d|::|\w:(?=\S)|[;:.]$", "", sentence)
    return {
        "fused": len(fused(sentence)),
        "indefinite": len(INDEFINITE.findall(sentence)),
        "chains": int(len(re.findall(r"[;:]", marks)) >= 2),
        "long": int(len(texts.words(sentence)) > LONGEST),
    }


def area_of(name):
    if name.startswith(("src/", "adopt/src/", "examples/")) or re.match(r"crates/[^/]+/(src|examples)/", name):
        return "src"
    if name.startswith(("tests/", "adopt/tests/", "benches/", "fuzz/", "tools/")) or re.match(r"crates/[^/]+/(tests|benches)/", name):
        return "tests"
    return "src" if "/src/" in name or name.endswith("lib.rs") else "tests"


def sentences(root):
    """Every sentence as (area, file, line, text)."""
    for path in texts.paths(root, {".md"}):
        name = path.relative_to(root).as_posix()
        area = "generated" if name in texts.GENERATED else "documents"
        for line, text in texts.sentences(texts.read_lines(path)):
            yield area, name, line, text
    for path in texts.paths(root, {".rs"}):
        name = path.relative_to(root).as_posix()
        for line, text in texts.sentences(texts.comment_lines(path, root)):
            yield area_of(name), name, line, text


PLANTED = [
    ("It loads what L1 lacks.", {"fused": 1}),
    ("Who has the keys can read it.", {"fused": 1}),
    ("What isn't fresh is loaded from Postgres.", {"fused": 1}),
    ("It is kept for who asks next.", {"fused": 1}),
    ("The lease says when, but who holds it may be gone.", {"fused": 1}),
    ("The entry goes back to where it was.", {"fused": 1}),
    ("The page explains what a lease is.", {}),
    ("The page says what it is, what it costs and what it does not do.", {}),
    ("The answer depends on what the client sent.", {}),
    ("Clients who send a token wait.", {}),
    ("What if Redis dies?", {}),
    ("Nobody waits, and the key is loaded anew.", {"indefinite": 2}),
    ("Redis is away: the breaker opens; reads skip it.", {"chains": 1}),
    ("One thing is certain: it ends at 10:30.", {}),
    ("`route`: the pattern of a route;", {}),
    ("A read " + "and a write " * 9 + "end.", {"long": 1}),
    ("`what L1 lacks` is code.", {}),
]


def self_test():
    wrong = []
    for sentence, expected in PLANTED:
        got = {kind: times for kind, times in count(texts.plain(sentence).replace(texts.LINK, "")).items() if times}
        if got != expected:
            wrong.append(f"{sentence}\n  expected {expected}, got {got}")
    page = ["# What it is", "", "One sentence. Another", "one; with what is left. [a link](a.md) too.", "", "```sh", "what it runs", "```", "| what a cell | who |", "* an item", "", "The end."]
    found = [(line, text) for line, text in texts.sentences(list(enumerate(page, 1)))]
    expected = [(3, "One sentence."), (3, "Another one; with what is left."), (4, "a link too."), (9, "what a cell"), (9, "who"), (10, "an item"), (12, "The end.")]
    if found != expected:
        wrong.append(f"sentences of the page: {found}")
    return wrong


def main():
    parser = argparse.ArgumentParser(description="Counts turns of speech for each 1,000 words.")
    parser.add_argument("--root", type=Path, default=texts.ROOT)
    parser.add_argument("--show", choices=KINDS, help="print every place of one kind")
    parser.add_argument("--area", help="only this area, with --show")
    parser.add_argument("--fail", default="", help="areas that fail above the limit, with commas between them")
    parser.add_argument("--files", action="store_true", help="a row for each file")
    parser.add_argument("--self-test", action="store_true")
    arguments = parser.parse_args()
    wrong = self_test()
    if wrong:
        sys.exit("dialect.py counts planted sentences wrongly:\n" + "\n".join(wrong))
    if arguments.self_test:
        print(f"{len(PLANTED)} planted sentences are counted as they must be")
        return
    total = {}
    for area, name, line, text in sentences(arguments.root.resolve()):
        counted = count(text)
        if arguments.show:
            if counted[arguments.show] and arguments.area in (None, area, name):
                print(f"{name}:{line}: {text}")
            continue
        for row in (area, name) if arguments.files else (area,):
            sums = total.setdefault(row, dict.fromkeys(("words", "sentences", *KINDS), 0))
            sums["words"] += len(texts.words(text))
            sums["sentences"] += 1
            for kind in KINDS:
                sums[kind] += counted[kind]
    if arguments.show:
        return
    print(f"{'per 1,000 words':44}{'words':>8}" + "".join(f"{kind:>12}" for kind in KINDS))
    above = []
    for row, sums in sorted(total.items()):
        rates = {kind: 1000 * sums[kind] / max(sums["words"], 1) for kind in KINDS}
        print(f"{row:44}{sums['words']:>8}" + "".join(f"{rates[kind]:>12.2f}" for kind in KINDS))
        if row in arguments.fail.split(","):
            above += [f"{row}: {kind} {rates[kind]:.2f}" for kind in FAILING if rates[kind] > LIMIT]
    if above:
        sys.exit(f"above {LIMIT} per 1,000 words (see them by --show KIND):\n" + "\n".join(above))


if __name__ == "__main__":
    main()
