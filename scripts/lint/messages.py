#!/usr/bin/env python3
"""Keeps docs/messages.md, the page of all messages that clients and operators see. It is made from the sources.

    scripts/lint/messages.py            exit status 1 if the page is not what the sources say
    scripts/lint/messages.py --write    writes the page
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/messages.md"
STRING = re.compile(r'"((?:[^"\\]|\\.)*)"', re.S)
LEVELS = {"error": "ERROR", "warn": "WARN", "info": "INFO"}


def text_of(literal):
    """The text of a Rust string: a backslash at the end of a line joins it with the next."""
    return re.sub(r"\\\n\s*", "", literal).replace('\\"', '"').replace("\\n", " ")


def shipped(path):
    code = path.read_text(encoding="utf-8").split("#[cfg(test)]\nmod tests")[0]
    return "\n".join("" if line.lstrip().startswith("//") else line for line in code.split("\n"))


def block(code, start):
    """The code from an opening bracket to the closing one; brackets in strings are passed over."""
    depth, at, in_string = 0, start, False
    while at < len(code):
        char = code[at]
        if in_string:
            at += char == "\\"
            in_string = char != '"' if char != "\\" else True
        elif char == '"':
            in_string = True
        elif char in "([{":
            depth += 1
        elif char in ")]}":
            depth -= 1
            if depth == 0:
                return code[start : at + 1]
        at += 1
    return code[start:]


def sources():
    for folder in ["src", "crates/aside-cache/src", "crates/aside-axum/src"]:
        for path in sorted((ROOT / folder).rglob("*.rs")):
            if path.name != "tests.rs":
                yield path.relative_to(ROOT).as_posix(), shipped(path)


def problems():
    code = shipped(ROOT / "src/http/problem/kinds.rs")
    for found in re.finditer(r"Self::new\(", code):
        inside = block(code, found.end() - 1)
        strings = [text_of(literal) for literal in STRING.findall(inside)]
        status = re.search(r"StatusCode::([A-Z_]+)", inside)
        if len(strings) == 3 and status:
            yield STATUS[status[1]], strings[0], strings[1], strings[2]


STATUS = {
    "BAD_REQUEST": 400, "UNAUTHORIZED": 401, "FORBIDDEN": 403, "NOT_FOUND": 404, "METHOD_NOT_ALLOWED": 405, "REQUEST_TIMEOUT": 408,
    "CONFLICT": 409, "PRECONDITION_FAILED": 412, "PAYLOAD_TOO_LARGE": 413, "UNSUPPORTED_MEDIA_TYPE": 415, "MISDIRECTED_REQUEST": 421,
    "UNPROCESSABLE_ENTITY": 422, "TOO_MANY_REQUESTS": 429, "INTERNAL_SERVER_ERROR": 500, "NOT_IMPLEMENTED": 501, "SERVICE_UNAVAILABLE": 503,
    "GATEWAY_TIMEOUT": 504,
}


def log_lines():
    for path, code in sources():
        for found in re.finditer(r"tracing::(error|warn|info)!\(", code):
            strings = STRING.findall(block(code, found.end() - 1))
            if strings:
                yield found[1], text_of(strings[-1]), path


def start_errors():
    for path, code in sources():
        for found in re.finditer(r"StartError \{", code):
            inside = block(code, found.end() - 1)
            what, advice = (re.search(rf"\b{field}: (?:format!\()?\s*\"((?:[^\"\\]|\\.)*)\"", inside, re.S) for field in ("what", "advice"))
            if what and advice:
                yield text_of(what[1]), text_of(advice[1])


def cell(text):
    return re.sub(r"\s+", " ", text).replace("|", "\\|").strip()


def page():
    rows = [
        "# Messages",
        "",
        "**In short:** this page lists the problems that clients get, the lines that the service logs, and the errors with which it refuses to start.",
        "`scripts/lint/messages.py --write` makes it from the sources. [metrics.md](metrics.md) lists the metrics, and [logs.md](logs.md) explains the fields of a line.",
        "",
        "## Problems",
        "",
        "A problem (RFC 9457) has a `type` (`/problems/` and the name), a `title`, a `status` and a `detail`. The `detail` is a sentence about this request. With `errors`, it is the first of them.",
        "",
        "| status | type | title | meaning |",
        "|---|---|---|---|",
    ]
    rows += [f"| {status} | `{name}` | {cell(title)} | {cell(about)} |" for status, name, title, about in sorted(problems())]
    rows += ["", "## Log lines", "", "The fields of each line, such as the error, are left out. Words in braces are filled in.", "", "| level | message | source |", "|---|---|---|"]
    lines = sorted(set(log_lines()), key=lambda line: (list(LEVELS).index(line[0]), line[1].lower(), line[2]))
    rows += [f"| {LEVELS[level]} | {cell(text)} | `{path}` |" for level, text, path in lines]
    rows += ["", "## Errors at the start", "", "The service also refuses settings that break a rule: each by its name, with the rule. [.env.example](../.env.example) has the rules.", "", "| error | advice |", "|---|---|"]
    rows += [f"| {cell(what)} | {cell(advice)} |" for what, advice in sorted(set(start_errors()))]
    return "\n".join(rows) + "\n"


def main():
    made = page()
    assert made.count("\n| ") > 80, "too few messages were found"
    if "--write" in sys.argv[1:]:
        PAGE.write_text(made, encoding="utf-8")
    elif not PAGE.exists() or PAGE.read_text(encoding="utf-8") != made:
        sys.exit("docs/messages.md is not what the sources say: run scripts/lint/messages.py --write")


main()
