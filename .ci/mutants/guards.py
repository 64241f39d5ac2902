"""Our own mutations, of the text in the programs: SQL and Lua, where the guards of the job protocol are.

The compiler keeps such a text as it is. So a mutation needs no build: it is written over the text in a copy of the
test program, with spaces where it is shorter.
"""

import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
SOURCES = ("crates/*/src/**/*.rs", "crates/*/src/**/*.lua", "upload-worker/src/**/*.rs", "migrations/*/up.sql")


@dataclass
class Guard:
    """One entry of guards.toml."""

    file: str
    # Any white space stands for any other.
    old: str
    new: str
    # What happens to the product without it.
    breaks: str
    # Tests, as docs/SEMANTICS.md names them.
    killed_by: list = field(default_factory=list)
    # Why no test can see it.
    explained: str = ""

    @property
    def name(self):
        return f"{self.file}: {' '.join(self.old.split())} -> {' '.join(self.new.split()) or 'nothing'}"

    def pattern(self):
        return re.compile(r"\s+".join(re.escape(word) for word in self.old.split()))

    def texts(self, root):
        """The text in the source, and what is written over it."""
        source = (root / self.file).read_text()
        found = self.pattern().search(source)
        # The indentation before it is room.
        start, end = found.span()
        while source[start - 1] == " " and source[start - 2] in " \n":
            start -= 1
        old, new = source[start:end].encode(), " ".join(self.new.split()).encode()
        if len(new) > len(old):
            raise ValueError(f"there is no room for it, it is {len(new) - len(old)} bytes too long: take more around it")
        return old, new.rjust(len(old))


@dataclass
class Suite:
    """A test program, and where the tests are that docs/SEMANTICS.md names by its beginning."""

    name: str
    package: str
    # Selects the program for cargo.
    args: list
    # The folder of its sources, and what comes before their names in names of tests.
    folder: str
    module: str = ""
    # Whether it has the unit tests of the sources.
    has_units: bool = False
    # Built before it runs: what it starts.
    builds: list = field(default_factory=list)
    # Names of tests contain one of these; none: all run.
    only: list = field(default_factory=list)


@dataclass
class Area:
    """Files that are mutated, and the suites that can notice, the fastest first."""

    files: list
    suites: list


@dataclass
class Plan:
    """plan.toml."""

    suites: dict
    areas: list
    # Rust mutants that are not made, by regular expression, with the reason.
    left_out: list
    # Rust mutants that no test can kill: name, line, reason.
    explained: list

    def suites_of(self, file):
        for area in self.areas:
            if any(file.startswith(start) for start in area.files):
                return [self.suites[name] for name in area.suites]
        raise ValueError(f"{file} is in no area of plan.toml")

    def test(self, documented):
        """The suite and the test's name in it, of a name in docs/SEMANTICS.md."""
        path, function = documented.split("::")
        start, _, rest = path.partition("/")
        for suite in self.suites.values():
            if suite.has_units and path.startswith(f"{suite.folder}/src/"):
                return suite, f"{Path(path).stem}::tests::{function}", Path(path)
        if start not in self.suites:
            raise ValueError(f"{documented}: plan.toml has no suite {start}")
        suite = self.suites[start]
        module = "::".join(part for part in (suite.module, *rest.removesuffix(".rs").split("/")) if part != "mod")
        return suite, f"{module.strip(':')}::{function}", Path(suite.folder, "tests", suite.module or "it", rest)


def load():
    plan = tomllib.loads((HERE / "plan.toml").read_text())
    suites = {name: Suite(name, **suite) for name, suite in plan["suites"].items()}
    areas = [Area(**area) for area in plan["areas"]]
    guards = [Guard(**guard) for guard in tomllib.loads((HERE / "guards.toml").read_text())["guard"]]
    return Plan(suites, areas, plan["left_out"], plan["explained"]), guards


def check(root, plan, guards):
    """What is wrong with the list: it must not rot."""
    sources = {path: path.read_text() for pattern in SOURCES for path in sorted(root.glob(pattern))}
    for guard in guards:
        found = {path: len(guard.pattern().findall(text)) for path, text in sources.items()}
        places = [f"{path.relative_to(root)} ({count})" for path, count in found.items() if count]
        if places != [f"{guard.file} (1)"]:
            yield f"{guard.name}: found in {', '.join(places) or 'no source'}, not just once in its file"
            continue
        try:
            guard.texts(root)
            plan.suites_of(guard.file)
        except ValueError as error:
            yield f"{guard.name}: {error}"
        if bool(guard.killed_by) == bool(guard.explained):
            yield f"{guard.name}: wants either killed_by or explained"
        for documented in guard.killed_by:
            suite, _, path = plan.test(documented)
            if suite.builds:
                yield f"{guard.name}: {suite.name} starts programs that have the text, but does not have it itself"
            function = documented.split("::")[1]
            if not re.search(rf"fn {function}\(", (root / path).read_text() if (root / path).exists() else ""):
                yield f"{guard.name}: {path} has no test {function}"
    for entry in plan.explained:
        file = entry["mutant"].split(":")[0]
        if entry["line"] not in (line.strip() for line in (root / file).read_text().splitlines()):
            yield f"{entry['mutant']}: its line is not in {file} any more: {entry['line']}"
