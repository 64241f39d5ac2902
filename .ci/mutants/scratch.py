"""A copy of the sources with a target folder of its own, where mutations are made, built and run."""

import json
import mmap
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from contextlib import contextmanager
from pathlib import Path

CARGO = os.environ.get("CARGO", "cargo")
# A mutant may run for ever: it has this many times as long as the unchanged program took, and some seconds.
PATIENCE, LEAST_PATIENCE_S = 3, 20
FAILED = re.compile(r"^test (\S+)(?: - should panic)? \.\.\. FAILED", re.MULTILINE)


# Tells a program that was built with all mutants which of them is alive.
VARIABLE = "MUTANT"
# Added to each crate that has mutants.
ALIVE = f"""
pub(crate) fn mutant_alive() -> u32 {{
    static ALIVE: std::sync::OnceLock<u32> = std::sync::OnceLock::new();
    *ALIVE.get_or_init(|| std::env::var("{VARIABLE}").ok().and_then(|text| text.parse().ok()).unwrap_or(0))
}}
"""


class BuildFailed(Exception):
    """The compiler refused it."""


class Run:
    """One run of a test program."""

    def __init__(self, code, output, is_over_time):
        self.output = output
        self.failed = sorted(set(FAILED.findall(output))) or (["(it took too long)"] if is_over_time else [])
        self.is_killed = code != 0 or bool(self.failed)
        if self.is_killed and not self.failed:
            self.failed = ["(it crashed)"]


class Program:
    """A test program that was built."""

    def __init__(self, scratch, suite, path, folder):
        self.scratch, self.suite, self.path, self.folder = scratch, suite, path, folder

    def run(self, tests, to_the_end=False, mutant=0):
        """Runs these tests, or all of the suite; ends with the first that fails, unless told otherwise. `mutant` is the
        number of the one that is to be alive in it."""
        arguments = ["--exact", *tests] if tests else self.suite.only
        limit = self.scratch.times.get(self.suite.name, 600) * PATIENCE + LEAST_PATIENCE_S
        environment = {
            **os.environ, "RUST_BACKTRACE": "0", "CARGO_TARGET_DIR": str(self.scratch.target),
            "CARGO_MANIFEST_DIR": str(self.folder), VARIABLE: str(mutant),
        }
        child = subprocess.Popen(
            [*self.scratch.through, str(self.path), *arguments], cwd=self.folder, env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, errors="replace", start_new_session=True,
        )
        is_over_time = threading.Event()

        def end():
            is_over_time.set()
            kill(child)

        timer = threading.Timer(limit, end)
        timer.start()
        lines = []
        try:
            for line in child.stdout:
                lines.append(line)
                if not to_the_end and FAILED.match(line):
                    kill(child)
        except BaseException:
            kill(child)
            raise
        finally:
            code = child.wait()
            timer.cancel()
        return Run(code, "".join(lines), is_over_time.is_set())

    @contextmanager
    def with_text(self, old, new):
        """The program while it has `new` for `old`, wherever the compiler put it."""
        copy = self.path.with_name(f"{self.path.name}-mutated")
        if copy not in self.scratch.copies:
            shutil.copyfile(self.path, copy)
            copy.chmod(0o755)
            self.scratch.copies.add(copy)
        places = write_over(copy, old, new)
        if not places:
            raise ValueError(f"{self.suite.name} does not have the text {old.decode()!r}")
        try:
            yield Program(self.scratch, self.suite, copy, self.folder)
        finally:
            write_over(copy, new, old, places)


def write_over(path, old, new, places=None):
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
        if places is None:
            places, start = [], memory.find(old)
            while start >= 0:
                places.append(start)
                start = memory.find(old, start + 1)
        for place in places:
            memory[place : place + len(new)] = new
    return places


def kill(child):
    """Ends the program with its group; the servers it started end by themselves when it is gone."""
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


class Scratch:
    """The copy; made or brought up to date."""

    def __init__(self, root, target, through):
        self.root, self.through = root, through
        self.tree, self.target = target / "tree", target / "build"
        self.programs, self.times, self.copies = {}, {}, set()
        self.copy_sources()

    def copy_sources(self):
        """Only what differs is written, so that cargo builds only that again."""
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=self.root, check=True, stdout=subprocess.PIPE,
        )
        names = {name for name in listed.stdout.decode().split("\0") if name and (self.root / name).is_file()}
        for path in self.tree.rglob("*"):
            if path.is_file() and str(path.relative_to(self.tree)) not in names:
                path.unlink()
        for name in names:
            source, copy = self.root / name, self.tree / name
            if not copy.exists() or copy.read_bytes() != source.read_bytes():
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, copy)
                copy.chmod(source.stat().st_mode)

    def cargo(self, *arguments, **options):
        return subprocess.run(
            [*self.through, CARGO, *arguments], cwd=self.tree, text=True,
            env={**os.environ, "CARGO_TARGET_DIR": str(self.target)}, **options,
        )

    def build(self, suite):
        """Builds the suite's program from the sources as they are now."""
        built = self.cargo(
            "test", "--locked", "--no-run", "--message-format=json", "-p", suite.package, *suite.args,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )
        if built.returncode != 0:
            raise BuildFailed("\n".join(rendered_errors(built.stdout)))
        for package in suite.builds:
            if self.cargo("build", "--locked", "-q", "-p", package, "--bins", stderr=subprocess.DEVNULL).returncode != 0:
                raise BuildFailed(package)
        messages = [json.loads(line) for line in built.stdout.splitlines() if line.startswith("{")]
        [artifact] = [message for message in messages if message.get("executable") and message["profile"]["test"]]
        return Program(self, suite, Path(artifact["executable"]), Path(artifact["manifest_path"]).parent)

    def program(self, suite):
        """The suite's program from the unchanged sources."""
        if suite.name not in self.programs:
            self.programs[suite.name] = self.build(suite)
        return self.programs[suite.name]

    def plant(self, mutants):
        """Writes all of these mutants of cargo-mutants into the sources, to be built once: a function takes the body of
        the one that is alive. Gives the numbers of those that do not compile."""
        for mutant in mutants:
            if not mutant["function"]:
                raise SystemExit(f"{mutant['name']}: it is in no function; leave it out in plan.toml, and say why")
        roots = {self.crate_root(mutant["file"]): mutant["package"] for mutant in mutants}
        files = {mutant["file"] for mutant in mutants} | roots.keys()
        refused = set()
        while True:
            places = {}
            for file in files:
                here = [mutant for mutant in mutants if mutant["file"] == file and mutant["number"] not in refused]
                text, places[file] = planted((self.root / file).read_text(), here)
                (self.tree / file).write_text(text + (ALIVE if file in roots else ""))
            found = set()
            for package in sorted(set(roots.values())):
                checked = self.cargo(
                    "build", "--locked", "--message-format=json", "-p", package, stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                )
                for file, line in error_places(checked.stdout):
                    inside = (those for first, last, those in places.get(file, []) if first <= line <= last)
                    found |= next(inside, set())
                if checked.returncode != 0 and not found:
                    raise BuildFailed("\n".join(rendered_errors(checked.stdout)))
            if not found:
                self.programs.clear()
                return refused
            refused |= found

    def crate_root(self, file):
        """The file that a crate's compilation begins with."""
        folder = file.split("/src/")[0]
        return next(root for root in (f"{folder}/src/lib.rs", f"{folder}/src/main.rs") if (self.tree / root).exists())

    def list_mutants(self, files):
        selection = [f"--file={file}{'**' if file.endswith('/') else ''}" for file in files]
        program = os.environ.get("CARGO_MUTANTS", "cargo-mutants")
        listed = subprocess.run(
            [program, "mutants", "--list", "--json", *selection], cwd=self.tree, check=True, stdout=subprocess.PIPE
        )
        return json.loads(listed.stdout)

    def measure(self, suite, tests=None):
        """Runs the suite, or these tests of it, unchanged: they must pass, and tell how long they take."""
        program, begun = self.program(suite), time.monotonic()
        run = program.run(tests, to_the_end=True)
        passed = len(re.findall(r"^test \S+(?: - should panic)? \.\.\. ok", run.output, re.MULTILINE))
        if run.is_killed or passed < len(tests or [1]):
            raise SystemExit(f"{suite.name} fails without any mutation: {', '.join(run.failed)}\n{run.output[-4000:]}")
        self.times[suite.name] = time.monotonic() - begun
        print(f"unchanged: {passed} tests of {suite.name} pass in {self.times[suite.name]:.0f} s", flush=True)


def planted(source, mutants):
    """The source with all of these mutants in it, and the lines where each is; then those of their functions, whose
    mutants do not go together where an error is outside of any."""
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))

    def offsets(span):
        return tuple(starts[span[at]["line"] - 1] + span[at]["column"] - 1 for at in ("start", "end"))

    functions = []
    for mutant in sorted(mutants, key=lambda mutant: offsets(mutant["function"]["span"])):
        begin, end = offsets(mutant["function"]["span"])
        # A function in another goes with it.
        if functions and begin < functions[-1][1]:
            functions[-1][2].append(mutant)
        else:
            functions.append((begin, end, [mutant]))
    text, at, arms, wholes = "", 0, [], []

    def line():
        return text.count("\n") + 1

    for begin, end, those in functions:
        body = body_of(source, begin)
        text += source[at:body] + "{ match crate::mutant_alive() {\n"
        whole = line()
        for mutant in those:
            first, last = offsets(mutant["span"])
            begun = line()
            text += f"{mutant['number']} => {source[body:first]}{mutant['replacement']} {source[last:end]},\n"
            arms.append((begun, line() - 1, {mutant["number"]}))
        text += f"_ => {source[body:end]}\n}} }}"
        wholes.append((whole, line(), {mutant["number"] for mutant in those}))
        at = end
    return text + source[at:], arms + wholes


def body_of(source, function):
    """Where the body of a function begins; its documentation and attributes come first."""
    depth, signature = 0, function
    while source[signature:].lstrip().startswith(("//", "#[")):
        signature = source.index("\n", signature) + 1
    for place in range(signature, len(source)):
        depth += {"(": 1, "[": 1, ")": -1, "]": -1}.get(source[place], 0)
        if source[place] == "{" and depth == 0:
            return place
    raise ValueError(f"no function at {function}")


def error_places(stdout):
    """The files and lines of what the compiler refused."""
    for line in stdout.splitlines():
        message = json.loads(line).get("message") if line.startswith("{") else None
        if isinstance(message, dict) and message["level"] == "error":
            for span in message["spans"]:
                if span["is_primary"]:
                    yield span["file_name"], span["line_start"]


def rendered_errors(stdout):
    for line in stdout.splitlines():
        if line.startswith("{"):
            message = json.loads(line)
            if message.get("reason") == "compiler-message" and message["message"]["level"] == "error":
                yield message["message"]["rendered"]
