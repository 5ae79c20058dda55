"""README and docs/ say what is so: their commands run, their tables are compared with the programs."""

import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import urllib.request

import psycopg2
import pytest

import documents
import run_instance
from documents import ROOT, quoted, rows, section
from waiting import wait_for

# curl as a reader has it, but that what is refused is an error, and that streams do not block.
CURL = """#!/bin/bash
for word; do
    [[ $word == -N ]] || continue
    stream=$(mktemp "$STREAMS/XXXXXX")
    {curl} -sS --fail-with-body --max-time 60 "$@" >"$stream" 2>&1 &
    for _ in {{1..200}}; do
        grep -qE '^: (listening|connected)' "$stream" && exit 0
        sleep 0.05
    done
    cat "$stream" >&2
    exit 1
done
exec {curl} -sS --fail-with-body --max-time 20 "$@"
"""


class Desk:
    """Where a reader sits: the repository's directory, an instance that runs, a shell."""

    def __init__(self, instance, directory):
        self.instance = instance
        self.place = directory / "repository"
        self.streams = directory / "streams"
        self.url = instance.env()["DATABASE_URL"]
        (directory / "bin").mkdir()
        self.streams.mkdir()
        self.place.mkdir()
        for entry in ROOT.iterdir():
            if entry.name not in ("build", "run"):
                (self.place / entry.name).symlink_to(entry)
        (self.place / "build").mkdir()
        (self.place / "build" / "release").symlink_to(pathlib.Path(run_instance.BIN).resolve())
        (self.place / "run").symlink_to(instance.run)
        curl = directory / "bin" / "curl"
        curl.write_text(CURL.format(curl=shutil.which("curl")))
        curl.chmod(0o755)
        self.state = directory / "state"
        self.groups = []  # of processes, one for each block
        self.environment = {"PATH": f"{directory / 'bin'}:{os.environ['PATH']}", "HOME": "/",
                            "STREAMS": str(self.streams)}

    def run(self, block):
        """Variables that a block sets are there in the next one."""
        text = block.text.replace("127.0.0.1:8080", f"127.0.0.1:{self.instance.port}")
        if block.language == "sql":
            command, given = ["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", self.url], text
        else:
            script = f"[ ! -f {self.state} ] || . {self.state}\n{text}\nexport -p >{self.state}\n"
            command, given = ["sh", "-aeu", "-c", script], ""
        process = subprocess.Popen(command, cwd=self.place, env=self.environment, text=True,
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT, start_new_session=True)
        self.groups.append(process.pid)
        output, _ = process.communicate(given, timeout=60)
        assert process.returncode == 0, f"line {block.line}: {text}\n{output}"

    @contextlib.contextmanager
    def read(self, document):
        """Runs a document's blocks; their streams go on until the end."""
        self.state.unlink(missing_ok=True)
        with contextlib.closing(psycopg2.connect(self.url)) as connection:
            with connection, connection.cursor() as cursor:
                cursor.execute("DROP TABLE IF EXISTS orders CASCADE")
        try:
            for block in documents.blocks(document):
                if block.language in ("sh", "sql"):
                    self.run(block)
            yield
        finally:
            while self.groups:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self.groups.pop(), signal.SIGKILL)
            for stream in self.streams.iterdir():
                stream.unlink()

    def seen(self):
        return "".join(stream.read_text() for stream in self.streams.iterdir())


@pytest.fixture(scope="module")
def desk():
    directory = run_instance.new_run()
    instance = run_instance.start(directory / "run")
    try:
        instance.await_ready()
        yield Desk(instance, directory)
        assert instance.stop()[0] == 0
    finally:
        run_instance.kill_processes(directory)
        shutil.rmtree(directory, ignore_errors=True)


def ask(desk, path, method="GET"):
    request = urllib.request.Request(desk.instance.url + path, method=method)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return answer.status, answer.headers, answer.read().decode()


# --- commands ------------------------------------------------------------------------------------

@pytest.mark.parametrize("document", documents.NAMES)
def test_the_commands_run(desk, document):
    with desk.read(document):
        if document == "README.md":
            for data in ('data: {"n":1}', 'data: "hello"', 'data: {"n":2}'):
                wait_for(lambda: data in desk.seen(), f"{data} is seen")


@pytest.mark.parametrize("document", documents.NAMES)
def test_the_blocks_say_what_they_are(document):
    for block in documents.blocks(document):
        assert block.language in documents.LANGUAGES, f"{document}, line {block.line}"


@pytest.mark.parametrize("document", documents.NAMES)
def test_the_targets_of_make_exist(document):
    targets = re.search(r"^\.PHONY: (.*)", documents.read("Makefile"), re.MULTILINE)[1].split()
    for block in documents.blocks(document):
        for line in re.findall(r"\bmake\b([^#&\n]*)", block.text if block.language == "console" else ""):
            for word in re.sub(r'"[^"]*"', "", line).split():
                assert "=" in word or word in targets, f"make {word}: line {block.line}"


# --- configuration -------------------------------------------------------------------------------

def keys_of(program):
    usage = program_says(program, "--help")
    return set(re.findall(r"^  ([a-z_]+) ", usage, re.MULTILINE))


def program_says(program, *arguments, status=0):
    done = subprocess.run([f"{run_instance.BIN}/{program}", *arguments], capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, env={"PATH": os.environ["PATH"]})
    assert done.returncode == status, done.stderr
    return done.stdout + done.stderr


def told_keys():
    """{key: (default, limits, used by)}"""
    told = rows(section("docs/configuration.md", "## The keys"), "key")
    return {quoted(key)[0]: ("".join(quoted(default)), limits, used)
            for key, default, limits, used, _ in told}


def test_the_defaults_of_keys():
    said = dict(line.partition(" = ")[::2] if " = " in line else (line.removesuffix(" ="), "")
                for line in program_says("pgsse-broker", "--config", "/dev/null",
                                         "--print-config").splitlines())
    assert {key: "0" if value == "0ms" else value for key, value in said.items()} == {
        key: default for key, (default, _, _) in told_keys().items()}


@pytest.mark.parametrize("letter, program", [("b", "pgsse-broker"), ("s", "pgsse-stream.fcgi"),
                                             ("p", "pgsse-publish.fcgi")])
def test_which_program_uses_a_key(letter, program):
    assert keys_of(program) == {key for key, (_, _, used) in told_keys().items()
                                if letter in used.split()}


def test_the_limits_of_keys():
    for key, (_, limits, _) in told_keys().items():
        if " to " in limits:
            option = "--" + key.replace("_", "-")
            said = program_says("pgsse-broker", "--config", "/dev/null", option, "?", status=78)
            assert f", from {limits}; not '?'" in said, (key, limits, said)


def test_keys_with_a_number_have_limits():
    source = documents.read("common/config.c")
    most = dict(re.findall(r"KEY\((\w+), \w+, [\w |]+, \"[^\"]*\", [^,]+, ([^,]+),", source))
    assert len(most) == len(told_keys())
    for key, (_, limits, _) in told_keys().items():
        assert (most[key] != "0") == (" to " in limits), key


def test_the_pairs_that_contradict_each_other():
    source = documents.read("common/config_pairs.c")
    pairs = re.findall(r'\{"(\w+)", "(\w+)", CONFIG_PAIR_\w+', source)
    told = rows(section("docs/configuration.md", "## What contradicts what"), "one")
    assert sorted(pairs) == sorted((quoted(one)[0], quoted(other)[0]) for one, other, _ in told)


def test_readme_has_the_same_defaults():
    told = rows(section("README.md", "## Configure"), "key")
    assert len(told) == 10
    for key, default, _ in told:
        assert "".join(quoted(default)) == told_keys()[quoted(key)[0]][0], key


# --- health --------------------------------------------------------------------------------------

def told_fields(heading):
    return {name for cells in rows(section("docs/operations.md", heading), "field")
            for name in quoted(cells[0])}


def test_the_fields_of_health(desk):
    subscriber = urllib.request.urlopen(desk.instance.url + "/topics/alpha/events", timeout=10)
    health = json.loads(ask(desk, "/healthz")[2])
    subscriber.close()
    assert told_fields("### The document") == set(health)
    assert told_fields("### Totals") == set(health["totals"])
    assert told_fields("### Each topic") == set(health["topics"][0])


def test_the_fields_of_health_in_short(desk):
    assert set(quoted(section("docs/operations.md", "### Health in short"))) == {
        "/health", "all is well", *json.loads(ask(desk, "/health")[2])}


# --- HTTP ----------------------------------------------------------------------------------------

def test_the_paths_and_their_methods(desk):
    paths = rows(documents.read("docs/http.md"), "path")
    assert len(paths) >= 9
    for cells in paths:
        for path in quoted(cells[0]):
            status, headers, _ = ask(desk, path.replace("{topic}", "alpha"), "OPTIONS")
            assert (status, headers["Allow"]) == (204, cells[1]), path


def told_errors():
    return [quoted(cells[1])[0] for cells in
            rows(section("docs/http.md", "## Error texts"), "status")]


def test_the_texts_of_errors_exist():
    texts = documents.code_texts()
    for error in told_errors():
        for piece in error.removeprefix('"…" ').split("…"):  # the member's name goes before
            assert any(piece.strip(" ,") in text for text in texts), (error, piece)


def test_no_text_of_an_error_is_left_out():
    told = told_errors()
    found = documents.refusals()
    assert len(found) > 25
    for text in found:
        bare = re.sub(r'^"\w+" ?', "", text)
        assert any(bare in error for error in told), text


def test_the_lines_of_logs_exist():
    texts = documents.code_texts()
    told = [line for cells in rows(documents.read("docs/operations.md"), "log") for line in quoted(cells[0])]
    assert len(told) > 15
    for piece in (piece.strip(" ,:") for line in told for piece in line.split("…")):
        assert any(piece in text for text in texts), piece


# --- SQL -----------------------------------------------------------------------------------------

def test_every_function_and_view_is_explained(desk):
    with contextlib.closing(psycopg2.connect(desk.url)) as connection:
        with connection.cursor() as cursor:
            cursor.execute("SELECT proname FROM pg_proc WHERE pronamespace = 'pgsse'::regnamespace"
                           " UNION SELECT relname FROM pg_class WHERE relkind = 'v' AND"
                           " relnamespace = 'pgsse'::regnamespace")
            names = {name for (name,) in cursor if not name.startswith("_")}
    assert len(names) > 15
    text = documents.read("docs/sql.md")
    assert not [name for name in names if f"pgsse.{name}" not in text]


def test_the_kinds_of_refreshes_are_explained():
    told = {quoted(cells[0])[0] for cells in rows(section("docs/delivery.md", "## Refresh"), "reason")}
    source = (ROOT / "common" / "sse.c").read_text()
    names = re.search(r"refresh_reasons\[[^{]*\{(.*?)\};", source, re.DOTALL)[1]
    assert told == set(re.findall(r'"(\w+)"', names))


def test_the_events_of_hooks_are_explained():
    told = {quoted(cells[0])[0] for cells in rows(section("docs/operations.md", "## Hooks"), "event")}
    events = documents.read("broker/hook.h").split("enum hook_event {")[1].split("}")[0]
    assert told == {name.lower() for name in re.findall(r"HOOK_([A-Z_]+)", events)}
