#!/usr/bin/env python3
"""Holds the documents to what is there: links, commands, the README's first screen, and the session of docs/API.md.

    scripts/check-docs.py PROGRAM      PROGRAM: a built `nudge`
"""

import os
import pathlib
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import unicodedata

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROGRAM = str(pathlib.Path(sys.argv[1]).resolve())
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
passed, failures = 0, []


def check(good, complaint):
    global passed
    if good:
        passed += 1
    else:
        failures.append(complaint)
        print(f"not ok: {complaint}")


def anchor(heading):
    """Names a heading as GitHub does."""
    text = re.sub(r"[`*_]|\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
    kept = (c for c in text if c in "-_ " or unicodedata.category(c)[0] in "LN")
    return "".join(kept).replace(" ", "-")


def anchors(path):
    return {anchor(h) for h in re.findall(r"^#+ +(.*)$", FENCE.sub("", path.read_text()), re.MULTILINE)}


def check_links(document):
    prose = FENCE.sub("", document.read_text())
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, fragment = target.partition("#")
        file = (document.parent / path) if path else document
        where = f"{document.relative_to(ROOT)}: the link {target}"
        check(file.exists(), f"{where} leads nowhere")
        if fragment and file.is_file():
            check(fragment in anchors(file), f"{where}: no such heading")
    for path in re.findall(r"`((?:crates|docs|scripts)/[\w./-]*\w)`", prose):
        check((ROOT / path).exists(), f"{document.relative_to(ROOT)}: `{path}` is not there")


def shell_blocks(document):
    return [body for language, body in FENCE.findall(document.read_text()) if language in ("sh", "bash")]


def help_of(command, known={}):
    if command not in known:
        done = subprocess.run([PROGRAM, *command, "--help"], capture_output=True, text=True)
        known[command] = done.stdout if done.returncode == 0 else None
    return known[command]


def check_commands(document):
    """Each `nudge …` of a shell block names a command that exists, with flags that it takes."""
    for body in shell_blocks(document):
        for line in re.sub(r"\\\n", " ", body).splitlines():
            found = re.search(r"(?:^|[\s(/])(?:nudge|run --release --) ((?:[a-z-]+|--version)\b.*)", line)
            if not found or line.lstrip().startswith("#"):
                continue
            text = re.split(r"[|)>;]|\s#", found.group(1))[0]
            try:
                words = shlex.split(text)
            except ValueError:
                words = text.split()
            group = 2 if words[0] in ("archetype", "audit", "db", "job", "rls") and len(words) > 1 and words[1].isalpha() else 1
            if words[:2] == ["logs", "drain"]:
                group = 3
            elif words[0] == "logs":
                group = 2
            command = tuple(words[:group])
            where = f"{document.relative_to(ROOT)}: `nudge {text.strip()}`"
            if command == ("--version",):
                continue
            check(help_of(command) is not None, f"{where}: no such command")
            for flag in [word.split("=")[0] for word in words if word.startswith("--")]:
                check(flag in (help_of(command) or ""), f"{where}: no flag {flag}")


class Demo:
    """A demo with the default number of people, in a folder of its own, with the program where the documents have it."""

    def __enter__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="nudge-docs-")
        release = pathlib.Path(self.folder.name, "target/release")
        release.mkdir(parents=True)
        (release / "nudge").symlink_to(PROGRAM)
        self.environment = {"PATH": os.environ["PATH"]}
        self.process = subprocess.Popen(
            ["target/release/nudge", "demo", "--port", "0"],
            cwd=self.folder.name, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        self.greeting = ""
        while "Ctrl-C" not in self.greeting:
            line = self.process.stdout.readline()
            if not line:
                raise SystemExit(f"the demo does not start: {self.greeting}\n{self.process.stderr.read()}")
            self.greeting += line
        self.environment["NUDGE_PORT"] = re.search(r"http://127\.0\.0\.1:(\d+)", self.greeting).group(1)
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        check(self.process.wait(60) == 0, "the demo ends with success")
        self.folder.cleanup()


def shape(line):
    """A line with everything that differs from start to start taken out."""
    line = re.sub(r"eyJ[\w.…-]+", "TOKEN", line)
    line = re.sub(r"\d{4}-\d{2}-\d{2}", "DATE", line)
    return re.sub(r"\s+", " ", re.sub(r"\d[\d.]*", "N", line)).strip()


def check_readme(demo):
    """What the README says that the first command prints is what it prints."""
    text = (ROOT / "README.md").read_text()
    quoted = next(body for language, body in FENCE.findall(text) if language == "text" and "Nudge runs at" in body)
    printed = {shape(line) for line in demo.greeting.splitlines()}
    for line in quoted.splitlines():
        check(shape(line) in printed, f"README.md quotes a line that is not printed: {line}")


def check_session(demo):
    """The shell blocks of docs/API.md, pasted one after the other, each call answered with success."""
    blocks = shell_blocks(ROOT / "docs/API.md")
    calls = 0
    script = "set -euo pipefail\ncurl() { command curl --fail-with-body --silent --show-error --max-time 60 \"$@\"; }\n"
    for number, body in enumerate(blocks):
        calls += len(re.findall(r"\bcurl ", body))
        script += f"echo '=== block {number + 1}'\n{body}\necho\n"
    done = subprocess.run(
        ["bash", "-c", script], cwd=demo.folder.name, env=demo.environment, stdin=subprocess.DEVNULL,
        capture_output=True, text=True,
    )
    check(done.returncode == 0, f"docs/API.md, pasted, ends with {done.returncode}:\n{done.stdout}\n{done.stderr}")
    check(calls >= 5, f"docs/API.md has {calls} calls")
    check(done.stdout.count("=== block") == len(blocks), "docs/API.md: every block runs")


for document in DOCUMENTS:
    check_links(document)
    check_commands(document)
with Demo() as demo:
    check_readme(demo)
    check_session(demo)
print(f"# pass {passed}\n# fail {len(failures)}")
sys.exit(1 if failures else 0)
