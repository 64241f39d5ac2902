#!/usr/bin/env python3
"""Breaks the product on purpose, in one place at a time, and looks whether a test notices.

`check` looks whether the list of our own mutations still fits the sources. `run` makes them all, and those that
cargo-mutants finds in the Rust code, and ends with 1 when one survives that plan.toml does not explain. See
docs/MUTANTS.md.
"""

import argparse
import json
import os
import re
import signal
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import guards
from scratch import Scratch

ROOT = Path(__file__).resolve().parents[2]
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve() / "mutants"
# A statement or script that is none kills itself: no test had to notice.
BROKEN = re.compile(
    r"syntax error at|could not determine data type|bind message supplies|operator does not exist"
    r"|column \S+ does not exist|must appear in the GROUP BY|rror compiling script|rror running script|ERR user_script"
)
BAD = {"survived", "broken"}


def tests_of(plan, guard):
    """The tests that are to notice a mutation, by suite; for one that is explained, all of the fastest suite."""
    if not guard.killed_by:
        return {plan.suites_of(guard.file)[0].name: None}
    chosen = {}
    for documented in guard.killed_by:
        suite, test, _ = plan.test(documented)
        chosen.setdefault(suite.name, []).append(test)
    return chosen


def judge_guard(scratch, plan, guard):
    """The mutation in the program, then the tests that are to notice it."""
    rounds = [(plan.suites[name], tests) for name, tests in tests_of(plan, guard).items()]
    old, new = guard.texts(ROOT)
    for suite, tests in rounds:
        try:
            with scratch.program(suite).with_text(old, new) as program:
                run = program.run(tests, to_the_end=True)
        except ValueError as error:
            return "broken", [str(error)]
        if broken := BROKEN.search(run.output):
            return "broken", [broken.group()]
        if run.is_killed:
            return "killed", run.failed
    return "survived", []


def judge_rust(scratch, plan, mutant):
    """The suites of its area, with the mutant alive, until one notices."""
    for suite in plan.suites_of(mutant["file"]):
        run = scratch.program(suite).run(None, mutant=mutant["number"])
        if run.is_killed:
            return "killed", run.failed
    return "survived", []


def rust_mutants(scratch, plan):
    """What cargo-mutants finds: its mutants, with the name they are told apart by."""
    found = []
    for mutant in scratch.list_mutants([file for area in plan.areas for file in area.files]):
        name = re.sub(r":\d+:\d+:", ":", mutant["name"], count=1)
        line = (ROOT / mutant["file"]).read_text().splitlines()[mutant["span"]["start"]["line"] - 1].strip()
        if any(re.search(left_out["mutants"], name) for left_out in plan.left_out):
            continue
        # 0: none is alive.
        number = len(found) + 1
        reasons = [entry["reason"] for entry in plan.explained if (entry["mutant"], entry["line"]) == (name, line)]
        # Two in one line have one name: told apart by their place.
        column = mutant["span"]["start"]["column"]
        found.append({**mutant, "name": name, "line": line, "column": column, "number": number, "explained": "".join(reasons[:1])})
    return found


def explained_of(kind, what):
    """Why no test can see it, if that is so."""
    return what.explained if kind == "guard" else what["explained"]


def measure(scratch, plan, kind, todo):
    """The tests that are to notice pass as long as nothing is broken."""
    tests, suites = {}, set()
    for what in todo:
        if isinstance(what, guards.Guard):
            for name, chosen in tests_of(plan, what).items():
                tests.setdefault(name, set()).update(chosen or [])
        else:
            suites.update(suite.name for suite in plan.suites_of(what["file"]))
    for name in sorted(tests if kind == "guard" else suites):
        scratch.measure(plan.suites[name], sorted(tests[name]) if kind == "guard" else None)


def report(results):
    """The table, and what survived."""
    files = sorted({result["file"] for result in results})
    counts = {file: Counter() for file in files}
    for result in results:
        outcome = "explained" if result["outcome"] == "survived" and result["explained"] else result["outcome"]
        counts[result["file"]][result["kind"], outcome] += 1
    print(f"\n{'':45}{'SQL and Lua':>20}{'Rust':>24}\n{'':45}{'killed':>10}{'total':>10}{'killed':>12}{'total':>10}"
          f"{'explained':>12}{'survived':>10}")
    sums = Counter()
    for file, count in [*counts.items(), ("together", sums)]:
        if count is not sums:
            sums.update(count)
        total = {kind: sum(number for (of, outcome), number in count.items() if of == kind and outcome != "unviable")
                 for kind in ("guard", "rust")}
        explained = count["guard", "explained"] + count["rust", "explained"]
        survived = sum(number for (_, outcome), number in count.items() if outcome in BAD)
        print(f"{file:45}{count['guard', 'killed']:10}{total['guard']:10}{count['rust', 'killed']:12}{total['rust']:10}"
              f"{explained:12}{survived:10}")
    print(f"{sum(result['outcome'] == 'unviable' for result in results)} more do not compile")
    unexplained = [result for result in results if result["outcome"] in BAD and not result["explained"]]
    for result in unexplained:
        print(f"{result['outcome'].upper()}: {result['name']}\n    {result['line']}", file=sys.stderr)
    return unexplained


def run(options, plan, own):
    scratch = Scratch(ROOT, TARGET, options.through.split())
    kept = {}
    results_file = TARGET / "results.json"
    if options.resume and results_file.exists():
        kept = {result["id"]: result for result in json.loads(results_file.read_text())}
    # Those that are explained take long, and tell least: last.
    own = sorted(own, key=lambda guard: bool(guard.explained))
    todo = [] if options.kind == "rust" else [("guard", guard.name, guard) for guard in own]
    if options.kind != "guards":
        todo += [("rust", mutant["name"], mutant) for mutant in rust_mutants(scratch, plan)]
    todo = [entry for entry in todo if re.search(options.only, entry[1])]
    results = []

    def identity(kind, name, what):
        return name if kind == "guard" else f"{name} @ {what['line']} @ {what['column']}"

    def keep(kind, name, what, outcome, by, seconds):
        file, line = (what.file, what.breaks) if kind == "guard" else (what["file"], what["line"])
        result = {"id": identity(kind, name, what), "kind": kind, "name": name, "file": file, "line": line,
                  "outcome": outcome, "by": by, "seconds": round(seconds, 1)}
        results.append({**result, "explained": explained_of(kind, what)})
        print(f"[{len(results)}/{len(todo)}] {outcome:9} {result['seconds']:6.1f} s  {name}"
              f"{'  by ' + ', '.join(by) if by else ''}", flush=True)
        everything = {**kept, **{result["id"]: result for result in results}}
        results_file.write_text(json.dumps(list(everything.values()), indent=1))

    for kind, judge in (("guard", judge_guard), ("rust", judge_rust)):
        new = []
        for _, name, what in (entry for entry in todo if entry[0] == kind):
            known, explained = kept.get(identity(kind, name, what)), explained_of(kind, what)
            if known and (known["outcome"] not in BAD or explained):
                results.append({**known, "explained": explained})
            else:
                new.append((name, what))
        if kind == "rust" and new:
            refused = scratch.plant([what for _, what in new])
            for name, what in (entry for entry in new if entry[1]["number"] in refused):
                keep(kind, name, what, "unviable", [], 0)
            new = [entry for entry in new if entry[1]["number"] not in refused]
        measure(scratch, plan, kind, [what for _, what in new])

        def settle(entry):
            begun = time.monotonic()
            return *entry, *judge(scratch, plan, entry[1]), time.monotonic() - begun

        # A mutated text is written over one copy of the program; of the others some run side by side.
        with ThreadPoolExecutor(options.jobs if kind == "rust" else 1) as pool:
            for name, what, outcome, by, seconds in pool.map(settle, new):
                keep(kind, name, what, outcome, by, seconds)
    unexplained = report(results)
    if options.json:
        Path(options.json).write_text(json.dumps(results, indent=1))
    return 1 if unexplained else 0


def main():
    # So that what runs is ended, and the sources are put back.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["check", "run"])
    parser.add_argument("--only", default="", help="a regular expression over `file: mutation`")
    parser.add_argument("--kind", choices=["all", "guards", "rust"], default="all")
    parser.add_argument("--resume", action="store_true", help="judge only what survived the last run or is new")
    parser.add_argument("--jobs", type=int, default=2, help="how many Rust mutants are judged at a time")
    parser.add_argument("--json", help="writes each result to this file, too")
    parser.add_argument("--through", default="", help="a command that starts builds and tests, such as `nice -n 19`")
    options = parser.parse_args()
    plan, own = guards.load()
    wrong = list(guards.check(ROOT, plan, own))
    for line in wrong:
        print(f"mutants: {line}", file=sys.stderr)
    print(f"mutants: {len(own)} of our own, {len(wrong)} that do not fit the sources")
    if wrong or options.command == "check":
        return 1 if wrong else 0
    return run(options, plan, own)


sys.exit(main())
