"""Building an image without a builder: each step in a service of an enclave, whose changes become a layer.

Every step that makes a layer is kept in the store of images under a name made from all that goes into it, and is not
done again.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
import re
import secrets
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Event
from typing import IO

from pytest_enclave.engine.embedded.site import EmbeddedSite
from pytest_enclave.engine.protocol import Action, EnclaveId, NotReached, PullPolicy, ServiceSpec
from pytest_enclave.errors import EnclaveError, PackageError, Problem
from pytest_enclave.images.building import BuildFailed, BuildLog
from pytest_enclave.images.dockerfile.configuration import Configuration, inner_of
from pytest_enclave.images.dockerfile.copying import Context, refuse_remote, without_top
from pytest_enclave.images.dockerfile.review import built_here
from pytest_enclave.images.dockerfile.stages import DockerfileFault, Stages, Step, stages_of
from pytest_enclave.images.dockerfile.syntax import parse
from pytest_enclave.images.dockerfile.words import expand
from pytest_enclave.images.faults import ImageFault
from pytest_enclave.images.layers import Source
from pytest_enclave.images.manifests import this_platform
from pytest_enclave.images.resolve import ImageSources
from pytest_enclave.package.context import context_paths, read_build_file
from pytest_enclave.plan.events import Emit
from pytest_enclave.plan.image_sources import STEPS, Build
from pytest_enclave.plan.images import Archive

LOOK = 0.5
"""Seconds between two looks whether the build is given up."""

SILENCE = 1800.0
"""Seconds that a step may write nothing: compilers can be silent for long."""

LOOKS_FOR_LINES = 60
"""How often in that time it is looked whether a step has written anything."""

CAPABLE = "build it where there is a Docker engine"
"""What to do where this kernel, or this user, gives no capabilities to files."""

_MODE = re.compile("[0-7]{1,7}")

Act = Callable[[EmbeddedSite, str, str], None]
"""Does a step in a site, from the image of that name, in a service of that name, which it makes."""


class DockerfileBuild:
    """One build. `log` is told how it goes; `cancelled` gives it up."""

    def __init__(
        self,
        build: Build,
        sources: ImageSources,
        open_site: Callable[[EnclaveId], EmbeddedSite],
        policy: PullPolicy,
        emit: Emit,
        log: BuildLog,
        cancelled: Event,
    ) -> None:
        self._build = build
        self._sources = sources
        self._store = sources.store
        self._open_site = open_site
        self._policy = policy
        self._emit = emit
        self._log = log
        self._cancelled = cancelled
        self._undo = ExitStack()
        self._site: EmbeddedSite | None = None
        self._done: dict[int, Configuration] = {}
        self._number = 0
        self._total = 0

    def run(self) -> None:
        """Have the image in the store, under its name. Raises BuildFailed, ImageFault, Interrupted, EngineError."""
        with self._undo:
            try:
                directory = Path(self._build.directory)
                dockerfile = parse(read_build_file(directory, self._build.build_file, self._build.place))
                self._escape = dockerfile.escape
                stages = stages_of(dockerfile)
                paths = context_paths(directory, self._build.build_file, self._build.place)
                self._context = Context(self._build.directory, paths)
                target = len(stages.stages) - 1
                if self._build.target:
                    found = stages.find(self._build.target)
                    if found is None:
                        raise ImageFault(f"there is no stage `{self._build.target}` in {self._build.build_file}")
                    target = found
                self._known = self._arguments_before(stages)
                needed = self._needed(stages, target)
                self._total = sum(1 + len(stages.stages[index].steps) for index in needed)
                for index in needed:
                    self._done[index] = self._stage(stages, index)
                self._keep(self._done[target], self._build.name, "built")
            except DockerfileFault as wrong:
                raise BuildFailed(self._log.problem(wrong.reason, wrong.fault.remedy)) from None
            except (PackageError, OSError) as error:
                raise ImageFault(f"its build context cannot be read: {error}") from None

    def _arguments_before(self, stages: Stages) -> dict[str, str]:
        system, _, machine = this_platform().partition("/")
        predefined = {"OS": system, "ARCH": machine.partition("/")[0], "PLATFORM": this_platform()}
        known = {f"{side}{name}": value for side in ("TARGET", "BUILD") for name, value in predefined.items()}
        configuration = Configuration(None, self._build.arguments, known, self._escape)
        for step in stages.arguments:
            with _at(step):
                configuration.apply(step)
        return {**known, **configuration.arguments}

    def _needed(self, stages: Stages, target: int) -> list[int]:
        """The stages that the target is made of, each after those that it needs."""
        found = {target}
        for index in range(target, -1, -1):
            stage = stages.stages[index]
            named = [(stage.origin, stage.base), *((step, step.flags.get("from", "")) for step in stage.steps)]
            for step, name in named if index in found else ():
                with _at(step):
                    other = stages.find(expand(name, self._known, self._escape))
                if other is not None and other < index:
                    found.add(other)
        return sorted(found)

    def _stage(self, stages: Stages, index: int) -> Configuration:
        stage = stages.stages[index]
        self._begin(stage.origin)
        platform = expand(stage.platform, self._known, self._escape)
        if platform and platform != this_platform():
            raise ImageFault(f"`--platform={platform}` is not this machine's, which is {this_platform()}")
        configuration = self._base(stages, index, expand(stage.base, self._known, self._escape))
        for step in stage.steps:
            self._begin(step)
            if self._cancelled.is_set():
                raise ImageFault("it was interrupted")
            if step.keyword == "RUN":
                self._run(step, configuration)
            elif step.keyword in ("COPY", "ADD"):
                self._copy(step, configuration, stages, index)
            else:
                configuration.apply(step)
                if step.keyword == "WORKDIR":
                    self._make_directory(configuration)
        return configuration

    def _begin(self, step: Step) -> None:
        self._number += 1
        self._log.begin(self._number, self._total, str(step), step.line)

    def _base(self, stages: Stages, index: int, name: str) -> Configuration:
        earlier = stages.find(name)
        if not name:
            raise ImageFault(
                "it names no image", "give its variables a value, in an `ARG` before it or in `build_args`"
            )
        if name == "scratch":
            document = None
        elif earlier is not None and earlier < index:
            document = self._done[earlier].document
        else:
            document = self._pulled(name)
            if inner_of(document).get("OnBuild"):
                raise ImageFault(f'image "{name}" has `ONBUILD` instructions, which are not supported')
        return Configuration(document, self._build.arguments, self._known, self._escape)

    def _pulled(self, name: str) -> bytes:
        if Archive.of(name) is not None:
            raise ImageFault(f'image "{name}" is a file, which a Dockerfile cannot name', "name an image of a registry")
        if fault := built_here(name):
            raise fault
        policy = PullPolicy.ALWAYS if self._policy is PullPolicy.ALWAYS else PullPolicy.MISSING
        outcome = self._sources.resolve([name], policy, self._emit)[name]
        if isinstance(outcome, Problem):
            raise ImageFault(outcome.message, outcome.remedy)
        document = self._store.configuration(name)
        if document is None:
            raise ImageFault(f'image "{name}" is not in the store any more')
        return document

    def _run(self, step: Step, configuration: Configuration) -> None:
        argv = configuration.command(step)
        inner = configuration.inner
        told = [argv, configuration.environment, configuration.arguments, inner.get("User"), configuration.directory]

        def act(site: EmbeddedSite, image: str, name: str) -> None:
            address = site.reserve(name)
            spec = ServiceSpec(name, image, address, entrypoint=tuple(argv), env_vars=configuration.arguments)
            failed = site.start([spec], {}, 1)[name]
            if failed is not None:
                raise failed
            self._until_ended(site, name)
            ended = site.exit_of(name)
            self._log.say(line.text for line in site.logs(name))
            if ended is None:
                raise ImageFault(
                    f"it has written nothing for {SILENCE:g} s", "let it tell how it goes, or do less in one `RUN`"
                )
            if ended.code:
                memory = ", out of memory" if ended.out_of_memory else ""
                raise ImageFault(f"exit code {ended.code}{memory}")

        self._layer(configuration, ["RUN", told], act)

    def _until_ended(self, site: EmbeddedSite, name: str) -> None:
        """Return when the service has ended, or has written nothing for too long."""
        written: object = None
        looked = heard = time.monotonic()
        while site.exit_of(name) is None:
            if self._cancelled.is_set():
                raise ImageFault("it was interrupted")
            site.pause(LOOK, watching=name)
            now = time.monotonic()
            if now - looked < SILENCE / LOOKS_FOR_LINES:
                continue
            looked, lines = now, site.logs(name)
            if (len(lines), lines[-1:]) != written:
                written, heard = (len(lines), lines[-1:]), now
            elif now - heard > SILENCE:
                return

    def _make_directory(self, configuration: Configuration) -> None:
        with tempfile.TemporaryFile() as empty:
            empty.write(bytes(10240))
            self._put(configuration, configuration.directory, empty, "nothing", Step(0, "WORKDIR", ""), directory=True)

    def _copy(self, step: Step, configuration: Configuration, stages: Stages, index: int) -> None:
        words = list(step.argv) if step.argv is not None else configuration.words(step.text)
        if len(words) < 2:
            raise ImageFault(f"`{step.keyword}` needs a source and a target")
        *sources, target = words
        if len(sources) > 1 and not target.endswith("/"):
            raise ImageFault(f"`{target}` is the target of several sources, and does not end with `/`")
        if step.keyword == "ADD":
            refuse_remote(sources)
        directory = target.endswith("/") or target == "."
        with tempfile.TemporaryFile() as archive:
            if "from" in step.flags:
                key, is_directory = self._from_image(step, sources, stages, index, archive)
            else:
                selected = [path for source in sources for path in self._context.select(source)]
                unpack = step.keyword == "ADD"
                if len(selected) > 1 and not directory:
                    raise ImageFault(f"`{target}` is the target of several sources, and does not end with `/`")
                is_directory = any(
                    self._context.is_directory(path) or (unpack and self._context.is_archive(path)) for path in selected
                )
                key = f"{self._context.digest(selected)} {selected}"
                self._context.write(selected, archive, unpack=unpack)
            place = configuration.path(target)
            self._put(configuration, place, archive, key, step, directory=directory or is_directory)

    def _put(
        self, configuration: Configuration, target: str, archive: IO[bytes], key: str, step: Step, *, directory: bool
    ) -> None:
        owner = " ".join(configuration.words(step.flags.get("chown", "")))
        chmod = step.flags.get("chmod")
        if chmod and not _MODE.fullmatch(chmod):
            raise ImageFault(f"`--chmod={chmod}` is no mode in octal digits")
        mode = int(chmod, 8) if chmod else None

        def act(site: EmbeddedSite, image: str, name: str) -> None:
            site.hold(ServiceSpec(name, image, site.reserve(name)))
            archive.seek(0)
            without = site.put(name, archive, target, directory=directory, owner=owner, mode=mode)
            if without:
                self._log.warn(f"files lose their capabilities (`setcap`): {', '.join(without)}", CAPABLE)

        self._layer(configuration, [step.keyword, key, target, directory, owner, chmod], act)

    def _from_image(
        self, step: Step, sources: Sequence[str], stages: Stages, index: int, target: IO[bytes]
    ) -> tuple[str, bool]:
        """Write what is copied from another stage or image; a key for it, and whether it is a directory's content."""
        name = expand(step.flags["from"], self._known, self._escape)
        other = stages.find(name)
        document = self._done[other].document if other is not None and other < index else self._pulled(name)
        if len(sources) != 1 or any(char in sources[0] for char in "*?["):
            raise ImageFault("`COPY --from` takes one source here, without wildcards", "write one `COPY` for each")
        image = self._kept(Configuration(document, {}, {}, self._escape))
        held = f"from-{self._number}"
        site = self._opened()
        try:
            site.hold(ServiceSpec(held, image, site.reserve(held)))
            with tempfile.TemporaryFile() as whole:
                for piece in site.read(held, posixpath.join("/", sources[0])):
                    whole.write(piece)
                whole.seek(0)
                is_directory = without_top(whole, target)
        except NotReached:
            raise ImageFault(f"`{sources[0]}` is not in `{name}`") from None
        finally:
            site.act(held, Action.REMOVE)
        return f"{hashlib.sha256(document).hexdigest()} {sources[0]}", is_directory

    def _layer(self, configuration: Configuration, told: object, act: Act) -> None:
        """Add a layer to the configuration: one that is kept, or what changes when `act` is done."""
        text = json.dumps([configuration.layers, told], sort_keys=True)
        name = f"{STEPS}:{hashlib.sha256(text.encode()).hexdigest()[:32]}"
        kept = self._store.configuration(name)
        if kept is not None:
            configuration.layers = json.loads(kept)["rootfs"]["diff_ids"]
            return
        image = self._kept(configuration)
        service = f"step-{self._number}"
        site = self._opened()
        self._store.prepare()
        try:
            act(site, image, service)
            with tempfile.TemporaryFile(dir=self._store.layers.work) as layer:
                digest = _copied(site.changes(service), layer)
                if digest:
                    configuration.layers = [*configuration.layers, digest]
                    self._keep(configuration, name, STEPS, layer)
        except ImageFault:
            raise
        except EnclaveError as error:
            raise ImageFault(error.message.replace(f'service "{service}"', "this step")) from None
        finally:
            site.act(service, Action.REMOVE)

    def _kept(self, configuration: Configuration) -> str:
        """The image so far, by a name in the store."""
        if not configuration.layers:
            with tempfile.TemporaryFile() as empty:
                digest = _copied([bytes(10240)], empty, always=True)
                configuration.layers = [digest]
                return self._kept_as(configuration, empty)
        return self._kept_as(configuration, None)

    def _kept_as(self, configuration: Configuration, layer: IO[bytes] | None) -> str:
        name = f"{STEPS}:{hashlib.sha256(configuration.document).hexdigest()[:32]}"
        if self._store.find(name) is None:
            self._keep(configuration, name, STEPS, layer)
        return name

    def _keep(self, configuration: Configuration, name: str, origin: str, layer: IO[bytes] | None = None) -> None:
        """Have the image in the store under this name; `layer` is its uppermost one, where that is new."""
        sources: list[Source] = [_absent] * len(configuration.layers)
        if layer is not None:
            sources[-1] = _at_hand(layer)
        image = self._store.add(configuration.document, sources, self._cancelled)
        self._store.name(name, image.digest, origin)

    def _opened(self) -> EmbeddedSite:
        if self._site is None:
            self._site = self._open_site(EnclaveId(f"build-{self._build.key[:8]}-{secrets.token_hex(4)}"))
            self._undo.callback(self._site.close)
        return self._site


@contextmanager
def _at(step: Step) -> Iterator[None]:
    """What is wrong is told at the line of this step, which is not yet done."""
    try:
        yield
    except ImageFault as fault:
        raise DockerfileFault(step.line, fault) from None


def _copied(pieces: Iterable[bytes], target: IO[bytes], *, always: bool = False) -> str:
    """Copy an archive; its digest, empty where there is nothing in it."""
    digest = hashlib.sha256()
    anything = always
    for piece in pieces:
        digest.update(piece)
        target.write(piece)
        anything = anything or any(piece)
    target.flush()
    return f"sha256:{digest.hexdigest()}" if anything else ""


@contextmanager
def _absent() -> Iterator[tuple[int, int]]:
    raise ImageFault("a layer of it was removed meanwhile", "run it again")
    yield 0, 0


def _at_hand(layer: IO[bytes]) -> Source:
    @contextmanager
    def source() -> Iterator[tuple[int, int]]:
        size = layer.seek(0, 2)
        layer.seek(0)
        yield layer.fileno(), size

    return source
