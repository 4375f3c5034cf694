"""Images built by the embedded engine itself, and what services find in them."""

from __future__ import annotations

import hashlib
import io
import json
import os
import struct
import subprocess
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from pytest_enclave.engine.embedded import dockerfile
from pytest_enclave.engine.embedded.engine import EmbeddedEngine
from pytest_enclave.engine.protocol import PullPolicy
from pytest_enclave.errors import Problem
from pytest_enclave.images.store import ImageStore, default_root
from pytest_enclave.linux.capabilities import NET_BIND_SERVICE
from pytest_enclave.linux.identity import own_map
from pytest_enclave.package.context import read_context
from pytest_enclave.plan.events import BuildProgress, Warned, silent
from pytest_enclave.plan.events import Event as Told
from pytest_enclave.plan.image_sources import Build
from tests.engine.engine_enclave import BUSYBOX, FOREVER, Enclave, enclave_id

FROM = f"FROM {BUSYBOX}\n"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The root of a store that has one image to begin with."""
    root = tmp_path_factory.mktemp("store")
    known = ImageStore(default_root(os.environ), own_map())
    image, document = known.find(BUSYBOX), json.loads(known.configuration(BUSYBOX))
    layers = []
    for directory in image.layers:
        data = io.BytesIO()
        with tarfile.open(fileobj=data, mode="w") as tar:
            tar.add(directory, ".")
        layers.append(data.getvalue())
    document["rootfs"]["diff_ids"] = [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in layers]
    store = ImageStore(root, own_map())
    added = store.add(json.dumps(document).encode(), [given(layer, root) for layer in layers], Event())
    store.name(BUSYBOX, added.digest)
    yield root
    store.clear()


def given(layer: bytes, root: Path) -> Any:
    @contextmanager
    def source() -> Iterator[tuple[int, int]]:
        file = root / hashlib.sha256(layer).hexdigest()
        file.write_bytes(layer)
        with open(file, "rb") as opened:
            yield opened.fileno(), len(layer)

    return source


@pytest.fixture(scope="module")
def engine(root: Path) -> Iterator[EmbeddedEngine]:
    engine = EmbeddedEngine(docker_endpoint=lambda: None, store=root)
    yield engine
    assert engine.close() == []


@pytest.fixture
def describe(tmp_path: Path) -> Callable[..., Build]:
    """Write a build context, and describe the build."""

    def make(dockerfile: str, files: Mapping[str, str] | None = None, **settings: Any) -> Build:
        for name, text in {"Dockerfile": dockerfile, **(files or {})}.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        known = {"build_file": "Dockerfile", "target": "", "arguments": {}, **settings}
        digest, _ = read_context(tmp_path, known["build_file"], "api")
        return Build("shop/api", str(tmp_path), "api", digest=digest, **known)

    return make


def built(engine: EmbeddedEngine, build: Build, emit: Any = silent, policy: PullPolicy = PullPolicy.MISSING) -> Any:
    return engine.build_images([build], policy, emit)[build.name]


@pytest.fixture
def said(engine: EmbeddedEngine, describe: Callable[..., Build]) -> Iterator[Callable[..., str]]:
    """What a shell in a service of a built image writes."""
    enclave = Enclave(engine.open(id_ := enclave_id()), id_)

    def say(script: str, dockerfile: str, files: Mapping[str, str] | None = None, **settings: Any) -> str:
        build = describe(dockerfile, files, **settings)
        outcome = built(engine, build)
        assert isinstance(outcome, str), outcome
        enclave.up("it", build.name, entrypoint=FOREVER)
        return enclave.sh("it", script)

    yield say
    assert enclave.site.close() == []


def problem(engine: EmbeddedEngine, build: Build) -> Problem:
    outcome = built(engine, build)
    assert isinstance(outcome, Problem), outcome
    return outcome


def test_commands_leave_what_they_write(said):
    dockerfile = FROM + "RUN echo one > /one && mkdir -p /a/b\nRUN cat /one > /a/b/two && rm /one\n"
    assert said("cat /a/b/two; ls /one || echo gone", dockerfile).splitlines()[-1] == "gone"


def test_a_removed_directory_is_gone_and_one_in_its_place_is_new(said):
    dockerfile = FROM + "RUN mkdir /d && touch /d/old\nRUN rm -r /d && mkdir /d && touch /d/new\n"
    assert said("ls /d", dockerfile) == "new"


def test_variables_and_arguments(said):
    dockerfile = f"""
ARG BASE={BUSYBOX}
FROM $BASE
ARG WHO=nobody
ARG BASE
ENV GREETING="hello ${{WHO}}" PLACE=/opt/$WHO
ENV OLD form of it
WORKDIR $PLACE
RUN echo "$GREETING from $WHO, $OLD" > told
COPY file ${{PLACE}}/${{MISSING:-copied}}
"""
    arguments = {"WHO": "ann", "UNUSED": "x"}
    script = 'cat /opt/ann/told /opt/ann/copied; echo "$GREETING|$WHO|$PWD"'
    assert said(script, dockerfile, {"file": "content\n"}, arguments=arguments) == (
        "hello ann from ann, form of it\ncontent\nhello ann||/opt/ann"
    )


def test_files_are_copied_as_docker_copies_them(said):
    dockerfile = FROM + (
        "COPY a.txt /exact\nCOPY a.txt /dir/\nCOPY sub /tree\nCOPY a.txt sub/b.txt /both/\nCOPY *.txt sub/ /wild/\n"
        'COPY a.txt /tmp\nCOPY ["with space", "/with space"]\nWORKDIR /work\nCOPY . .\n'
    )
    files = {"a.txt": "a", "sub/b.txt": "b", "sub/deep/c": "c", "with space": "s", ".dockerignore": "no\n", "no": ""}
    script = "cd /; find exact dir tree both wild tmp/a.txt 'with space' work | sort; stat -c %a /tmp"
    assert said(script, dockerfile, files).splitlines() == [
        "both", "both/a.txt", "both/b.txt",
        "dir", "dir/a.txt",
        "exact",
        "tmp/a.txt",
        "tree", "tree/b.txt", "tree/deep", "tree/deep/c",
        "wild", "wild/a.txt", "wild/b.txt", "wild/deep", "wild/deep/c",
        "with space",
        "work", "work/.dockerignore", "work/Dockerfile", "work/a.txt", "work/sub", "work/sub/b.txt", "work/sub/deep",
        "work/sub/deep/c", "work/with space",
        "1777",
    ]  # fmt: skip


def test_owners_and_modes(said):
    user = "RUN echo ann:x:700:700::/:/bin/sh >> /etc/passwd && echo ann:x:700: >> /etc/group\n"
    dockerfile = FROM + user + "COPY --chown=ann:ann --chmod=640 f /f\nUSER ann\n"
    assert said("stat -c '%a' /f; id -un", dockerfile, {"f": ""}).splitlines() == ["640", "ann"]


def test_a_file_of_this_machine_is_no_base(engine, describe, tmp_path: Path):
    for name in (f"docker-archive:{tmp_path}/image.tar", f"oci:{tmp_path}", "host:/"):
        assert "cannot be built in step 1 of 1" in problem(engine, describe(f"FROM {name}\n")).message


def test_add_unpacks_archives(said, tmp_path: Path):
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as tar:
        info = tarfile.TarInfo("in/file")
        info.size = 2
        tar.addfile(info, io.BytesIO(b"hi"))
    assert said("cat /x/in/file; cat /y/plain", FROM + "ADD a.tar.gz /x\nADD plain /y/\n", {"plain": "p"}) == "hip"


def test_stages_give_files_to_each_other(said):
    dockerfile = f"""
FROM {BUSYBOX} AS Build
RUN mkdir /out && echo made > /out/app && ln /out/app /out/again
FROM build AS unused
RUN exit 1
FROM {BUSYBOX}
COPY --from=build /out /app
COPY --from=0 /out/app /single
COPY --from={BUSYBOX} /bin/busybox /elsewhere/
"""
    assert said("cat /app/app /app/again /single; ls /elsewhere", dockerfile) == "made\nmade\nmade\nbusybox"


CAPABILITY = struct.pack("<5I", 0x02000001, 1 << NET_BIND_SERVICE, 0, 0, 0)
"""What `setcap cap_net_bind_service=ep` gives a file."""


@pytest.mark.parametrize(
    ("steps", "path"),
    [
        ("", "x/program"),
        ("RUN mkdir /z && mv /x/program /z/\n", "z/program"),
        (f"FROM {BUSYBOX}\nCOPY --from=0 /x /y\n", "y/program"),
        (f"FROM {BUSYBOX}\nCOPY --from=0 --chown=7:7 /x/program /y/\n", "y/program"),
    ],
)
def test_files_keep_their_capabilities(engine, describe, root: Path, tmp_path: Path, steps: str, path: str):
    with tarfile.open(tmp_path / "capable.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("program")
        info.pax_headers = {"SCHILY.xattr.security.capability": CAPABILITY.decode("utf-8", "surrogateescape")}
        tar.addfile(info)
    build = describe(f"{FROM}ADD capable.tar /x/\n{steps}")
    assert isinstance(built(engine, build), str)
    found = [Path(layer, path) for layer in ImageStore(root, own_map()).find(build.name).layers]
    # Layers are unpacked as this user, who needs a range of ids for it; no service gains rights by them anyway.
    expected = None if own_map().kind == "single" else _rights(CAPABILITY)
    assert [_rights_of(file) for file in found if file.exists()] == [expected]


def _rights_of(file: Path) -> tuple[int, ...] | None:
    try:
        return _rights(os.getxattr(file, "security.capability"))
    except OSError:
        return None


def _rights(capability: bytes) -> tuple[int, ...]:
    """Without what the kernel adds for whoever is not root: the revision, and in whose namespace it counts."""
    flags, *sets = struct.unpack("<5I", capability[:20])
    return (flags & 1, *sets)


def test_files_that_cannot_have_their_capabilities_are_told(engine, describe, tmp_path: Path):
    events: list[Told] = []
    with tarfile.open(tmp_path / "odd.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("file")
        info.pax_headers = {"SCHILY.xattr.security.capability": "nonsense"}
        tar.addfile(info)
    assert isinstance(built(engine, describe(f"{FROM}ADD odd.tar /odd/\n"), events.append), str)
    (warning,) = [event.problem for event in events if isinstance(event, Warned)]
    assert warning.message == "image `shop/api`: files lose their capabilities (`setcap`): /odd/file"
    assert warning.remedy == "build it where there is a Docker engine"


def test_long_names_are_copied_from_another_stage(said):
    name = "n" * 120
    dockerfile = f"{FROM}RUN mkdir /from && echo it > /from/{name}\nFROM {BUSYBOX}\nCOPY --from=0 /from /to\n"
    assert said(f"cat /to/{name}; ls /to", dockerfile) == f"it\n{name}"


def test_a_stage_of_nothing(said):
    dockerfile = f"""
FROM {BUSYBOX} AS b
FROM scratch
ENV PATH=/bin
COPY --from=b /bin/busybox /bin/
RUN ["/bin/busybox", "--install", "/bin"]
COPY f /f
"""
    assert said("cat /f; ls /", dockerfile, {"f": "f\n"}).split() == ["f", "bin", "dev", "etc", "f", "proc", "sys"]


def test_what_an_image_says_of_itself(engine, describe):
    dockerfile = f"""
FROM {BUSYBOX} AS base
CMD ["of the base"]
FROM base
LABEL a="b c" d=e
EXPOSE 80 53/udp
VOLUME ["/data"]
VOLUME /more /and
STOPSIGNAL SIGINT
USER 7:8
MAINTAINER somebody
HEALTHCHECK --interval=5s CMD true
SHELL ["/bin/sh", "-ec"]
ENTRYPOINT exec app
"""
    build = describe(dockerfile)
    assert isinstance(built(engine, build), str)
    config = engine._store().find(build.name).config
    assert (config.user, config.stop_signal, sorted(config.volumes)) == ("7:8", "SIGINT", ["/and", "/data", "/more"])
    assert (config.entrypoint, config.cmd) == (("/bin/sh", "-ec", "exec app"), ())
    assert {"a": "b c", "d": "e"}.items() <= config.labels.items()
    document = json.loads(engine._store().configuration(build.name))
    assert document["config"]["ExposedPorts"] == {"80/tcp": {}, "53/udp": {}}


def test_only_the_stage_that_is_wanted_is_built(said):
    dockerfile = FROM.strip() + " AS one\nRUN echo 1 > /n\nFROM one AS two\nRUN exit 1\n"
    assert said("cat /n", dockerfile, target="ONE") == "1"


def test_steps_are_told_and_not_done_again(engine, describe):
    dockerfile = FROM + "RUN cat /proc/sys/kernel/random/uuid > /once\nCOPY f /f\nRUN date\n"
    events: list[Told] = []
    first = built(engine, describe(dockerfile, {"f": "1"}), events.append)
    assert [(event.step, event.steps) for event in events if isinstance(event, BuildProgress)] == [
        (1, 4), (2, 4), (3, 4), (4, 4), (4, 4)
    ]  # fmt: skip
    build = describe(dockerfile, {"f": "2"})
    second = built(engine, build)
    assert first != second
    layers = [engine._store().find(digest).layers for digest in (first, second)]
    assert layers[0][:2] == layers[1][:2]
    assert layers[0][2] != layers[1][2]
    assert built(engine, build, policy=PullPolicy.NEVER) == second


def test_a_command_that_fails_is_told_with_its_line_and_what_it_wrote(engine, describe):
    found = problem(engine, describe(FROM + "# compile\nRUN echo one && \\\n  echo two >&2 && exit 3\n"))
    assert found.message == (
        "image `shop/api` cannot be built in step 2 of 2 "
        "(`RUN echo one && echo two >&2 && exit 3`, api/Dockerfile:3): exit code 3"
    )
    # Where there is one user id only, the enclave has a word to say of that.
    said = [line for line in found.output.splitlines() if not line.startswith("[enclave] services have one user id")]
    assert sorted(said) == ["one", "two"]


AT_THE_LINE = [
    ("RUN --mount=type=cache,target=/c true", "`RUN --mount` is not supported"),
    ("RUN <<EOF\ntrue\nEOF", "`RUN <<` is not supported"),
    ("ONBUILD RUN true", "`ONBUILD` is not supported"),
    ("COPY --exclude=x . /", "`COPY --exclude` is not supported"),
    ("BOOM", "unknown instruction: BOOM"),
    ("RUN", "`RUN` needs an argument"),
    ("SHELL sh", "`SHELL` needs a list"),
    ("FROM a b", "`FROM a b` is not understood"),
]


@pytest.mark.parametrize(("lines", "message"), AT_THE_LINE)
def test_what_is_not_known_is_refused_before_anything_is_done(engine, describe, lines: str, message: str):
    found = problem(engine, describe(FROM + lines + "\n"))
    assert found.message == f"image `shop/api` cannot be built at api/Dockerfile:2: {message}"
    if "supported" in message:
        assert found.remedy == "write it without, or let CI build the image and write its name"


IN_THE_STEP = [
    ("COPY nothing /", "`nothing` is not in the build context"),
    ("COPY ../x /", "`../x` leads out of the build context"),
    ("COPY Dockerfile f /t", "`/t` is the target of several sources, and does not end with `/`"),
    ("COPY * /t", "`/t` is the target of several sources, and does not end with `/`"),
    ("COPY one", "`COPY` needs a source and a target"),
    ("ADD https://x/y /", "`ADD https://x/y` is not supported: nothing is downloaded"),
    ("COPY --chown=nobody9 f /f", '/f cannot be written: there is no user "nobody9" in the image\'s /etc/passwd'),
    ("COPY --chmod=x f /f", "`--chmod=x` is no mode in octal digits"),
    ("COPY f /bin/busybox/f", "/bin/busybox/f cannot be written: /bin/busybox"),
    (f"COPY --from={BUSYBOX} /no /", f"`/no` is not in `{BUSYBOX}`"),
    (f"COPY --from={BUSYBOX} /a* /", "`COPY --from` takes one source here, without wildcards"),
    ('RUN ["nothing-there"]', ""),
    ('ENV A="${B:?is wanted}"', "`B`: is wanted"),
    ("ENV A", "`ENV A`: there is no value"),
    ("LABEL a=b c", "`LABEL a=b c`: `c` has no value"),
    ("USER a b", "`USER` takes one argument"),
    ("EXPOSE 80 web", "`web` is no port"),
    ("EXPOSE 80 ${PORT}", "`${PORT}` is empty"),
    ("HEALTHCHECK --interval=5 CMD true", "`--interval=5` is no duration"),
    ("HEALTHCHECK true", "`true` is no kind of `HEALTHCHECK`"),
    ("STOPSIGNAL SIGNONE", "`SIGNONE` is no signal"),
    ('WORKDIR "a', '`"a`: a `"` is missing'),
]


@pytest.mark.parametrize(("lines", "message"), IN_THE_STEP)
def test_a_step_that_cannot_be_done_is_told(engine, describe, lines: str, message: str):
    found = problem(engine, describe(FROM + lines + "\n", {"f": ""}))
    step = f"image `shop/api` cannot be built in step 2 of 2 (`{lines}`, api/Dockerfile:2): "
    assert found.message.startswith(step + message)
    assert "`docker build" not in found.remedy, "there is no Docker"


def test_a_stage_or_base_image_that_is_not_there_is_told(engine, describe):
    found = problem(engine, describe(FROM, target="nothing"))
    assert found.message == "image `shop/api` cannot be built: there is no stage `nothing` in Dockerfile"
    found = problem(engine, describe("FROM 127.0.0.1:1/nothing:1\n"))
    assert '(`FROM 127.0.0.1:1/nothing:1`, api/Dockerfile:1): image "127.0.0.1:1/nothing:1": ' in found.message
    found = problem(engine, describe("ARG NAME\nFROM $NAME\n"))
    assert found.message.endswith("(`FROM $NAME`, api/Dockerfile:2): it names no image")
    found = problem(engine, describe("FROM --platform=linux/mips scratch\n"))
    assert "`--platform=linux/mips` is not this machine's" in found.message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("# c\nFRM scratch AS prod\n", "unknown instruction: FRM"),
        ("ARG A\nFROM scratch AS prod extra\n", "`FROM scratch AS prod extra` is not understood"),
    ],
)
def test_with_a_target_too_a_from_that_is_wrong_is_told_at_its_line(engine, describe, text: str, message: str):
    found = problem(engine, describe(text, target="prod"))
    assert found.message == f"image `shop/api` cannot be built at api/Dockerfile:2: {message}"


@pytest.mark.parametrize("text", ["", "# nothing\n", "RUN true\n"])
def test_a_file_without_a_stage_is_told(engine, describe, text: str):
    assert problem(engine, describe(text)).remedy == "a Dockerfile begins with `FROM`"


def test_nothing_is_left_running(engine, describe, root: Path):
    problem(engine, describe(FROM + "RUN sleep 98765 & exit 4\n"))
    assert isinstance(built(engine, describe(FROM + "RUN true\n")), str)
    running = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert "sleep 98765" not in running.splitlines()


def deep(text: str = "${a:-", times: int = 50_000) -> str:
    return text * times + "x" + "}" * times


@pytest.mark.parametrize(
    ("text", "line"),
    [(f"ARG A={deep()}\n{FROM}", 1), (f"{FROM}\nFROM {deep()}\n", 3), (f"{FROM}COPY --from={deep()} /a /b\n", 2)],
)
def test_variables_nested_without_end_are_told_with_the_line(engine, describe, text: str, line: int):
    found = problem(engine, describe(text))
    assert found.message == (
        f"image `shop/api` cannot be built at api/Dockerfile:{line}: variables stand in each other more than 100 deep"
    )


def test_variables_nested_without_end_in_a_step_are_told_with_its_line(engine, describe):
    found = problem(engine, describe(f"{FROM}\nENV A={deep()}\n"))
    assert found.message.endswith("api/Dockerfile:3): variables stand in each other more than 100 deep")


def test_brackets_without_end_are_text_for_the_shell(engine, describe):
    found = problem(engine, describe(f"{FROM}RUN {'[' * 200_000}\n"))
    assert ", api/Dockerfile:2): " in found.message


def test_stages_may_be_many(said):
    chain = "".join(f"FROM s{number} AS s{number + 1}\n" for number in range(1200))
    assert said("echo up", f"FROM {BUSYBOX} AS s0\n{chain}") == "up"


@pytest.mark.parametrize("text", ["FROM ²\n", f"{FROM}COPY --from=² /a /b\n"])
def test_digits_that_are_no_number_name_an_image(engine, describe, text: str):
    assert "²" in problem(engine, describe(text)).message


def test_a_base_image_may_have_no_configuration_of_its_own(engine, describe, root: Path):
    store = ImageStore(root, own_map())
    document = json.loads(store.configuration(BUSYBOX))

    def absent() -> Any:
        raise AssertionError("it is there")

    bare = json.dumps({**document, "config": None}).encode()
    image = store.add(bare, [absent] * len(document["rootfs"]["diff_ids"]), Event())
    store.name("bare.example/bare:1", image.digest)
    assert isinstance(built(engine, describe("FROM bare.example/bare:1\nENV A=1\nCOPY f /f\n", {"f": ""})), str)


def test_an_archive_that_is_cut_off_is_told_with_the_step(engine, describe, tmp_path: Path):
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as tar:
        info = tarfile.TarInfo("file")
        info.size = 100_000
        tar.addfile(info, io.BytesIO(os.urandom(info.size)))
    os.truncate(tmp_path / "a.tar.gz", 50_000)
    found = problem(engine, describe(f"{FROM}ADD a.tar.gz /x\n"))
    assert "api/Dockerfile:2): the archive `a.tar.gz` cannot be unpacked: " in found.message


def test_a_link_to_an_archive_of_this_machine_is_not_unpacked(said, tmp_path: Path, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside") / "secret.tar"
    with tarfile.open(outside, "w") as tar:
        tar.addfile(tarfile.TarInfo("secret"))
    (tmp_path / "link.tar").symlink_to(outside)
    assert said("ls /x; readlink /x/link.tar", f"{FROM}ADD link.tar /x/\n").splitlines() == ["link.tar", str(outside)]


@pytest.mark.parametrize("target", ["/etc/passwd", "/dev/zero"])
def test_a_build_file_that_became_a_link_is_not_read(engine, describe, tmp_path: Path, target: str):
    build = describe(FROM)
    (tmp_path / "Dockerfile").unlink()
    (tmp_path / "Dockerfile").symlink_to(target)
    assert problem(engine, build).message == (
        "image `shop/api` cannot be built: its build context cannot be read: "
        f"`Dockerfile` leads out of `api`, to {target}"
    )


def test_a_command_that_is_silent_for_too_long_is_given_up(engine, describe, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(dockerfile, "SILENCE", 1.5)
    found = problem(engine, describe(f"{FROM}RUN echo begun; sleep 87654\n"))
    assert found.message.endswith("api/Dockerfile:2): it has written nothing for 1.5 s")
    assert (found.output, found.remedy) == ("begun", "let it tell how it goes, or do less in one `RUN`")
    running = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert "sleep 87654" not in running.splitlines()


def test_a_command_that_tells_how_it_goes_may_take_long(engine, describe, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(dockerfile, "SILENCE", 2.0)
    script = "for i in 1 2 3 4 5 6 7; do printf .; sleep .6; done"
    assert isinstance(built(engine, describe(f"{FROM}RUN {script}\n")), str)


@pytest.mark.parametrize("name", ["pytest-enclave-step:0", "docker.io/library/pytest-enclave-build/shop-api:0"])
def test_what_is_built_here_is_no_base(engine, describe, name: str):
    for text in (f"FROM {name}\n", f"{FROM}COPY --from={name} /a /b\n"):
        assert f'image "{name}": names that begin with `pytest-enclave-' in problem(engine, describe(text)).message


def test_a_command_with_a_nul_is_told(engine, describe):
    assert "api/Dockerfile:2): " in problem(engine, describe(f'{FROM}RUN ["a\\u0000b"]\n')).message


def test_what_a_step_runs_in_has_no_name_in_messages(engine, describe):
    assert problem(engine, describe(f"{FROM}USER nobody9\nRUN true\n")).message == (
        "image `shop/api` cannot be built in step 3 of 3 (`RUN true`, api/Dockerfile:3): "
        'this step did not start: there is no user "nobody9" in the image\'s /etc/passwd'
    )
