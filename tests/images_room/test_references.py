"""What names of images mean."""

from __future__ import annotations

import pytest

from pytest_enclave.images.faults import ImageFault
from pytest_enclave.images.references import ArchiveReference, ImageId, RegistryReference, parse

D = "sha256:" + 64 * "a"


@pytest.mark.parametrize(
    ("written", "meant", "familiar"),
    [
        ("nginx", "docker.io/library/nginx:latest", "nginx:latest"),
        ("nginx:1.2", "docker.io/library/nginx:1.2", "nginx:1.2"),
        ("org/x", "docker.io/org/x:latest", "org/x:latest"),
        ("docker.io/nginx", "docker.io/library/nginx:latest", "nginx:latest"),
        ("index.docker.io/org/x:1", "docker.io/org/x:1", "org/x:1"),
        ("localhost/x", "localhost/x:latest", "localhost/x:latest"),
        ("host:5000/a/b/c:1", "host:5000/a/b/c:1", "host:5000/a/b/c:1"),
        ("quay.io/a/b_c-d.e__f", "quay.io/a/b_c-d.e__f:latest", "quay.io/a/b_c-d.e__f:latest"),
        ("[::1]:5000/x:Y_1.2-3", "[::1]:5000/x:Y_1.2-3", "[::1]:5000/x:Y_1.2-3"),
        (f"x@{D}", f"docker.io/library/x@{D}", f"x@{D}"),
        (f"host:1/x:tag@{D}", f"host:1/x@{D}", f"host:1/x@{D}"),
    ],
)
def test_registry_references(written, meant, familiar):
    found = parse(written)
    assert isinstance(found, RegistryReference)
    assert (str(found), found.familiar) == (meant, familiar)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("docker-archive:/a/b.tar", ArchiveReference("docker-archive", "/a/b.tar")),
        ("docker-archive:/a/b:c.tar", ArchiveReference("docker-archive", "/a/b:c.tar")),
        ("oci:/a/b", ArchiveReference("oci", "/a/b")),
        ("oci:/a/b:v1.2", ArchiveReference("oci", "/a/b", "v1.2")),
        ("oci:/a:b/c", ArchiveReference("oci", "/a:b/c")),
        (D, ImageId(D)),
    ],
)
def test_other_references(written, meant):
    assert parse(written) == meant
    assert str(meant) == written


@pytest.mark.parametrize(
    "written",
    ["", ":", "/", "x/", "/x", "X", "x:", "x:-a", "x::1", "x y", "x@", "x@md5:1", "a//b", "ho st/x", "x\n", "é", "-"],
)
def test_what_is_no_name_of_an_image(written):
    with pytest.raises(ImageFault, match="that is not the name of an image"):
        parse(written)


@pytest.mark.parametrize("written", ["docker-archive:", "oci:"])
def test_an_archive_without_a_path(written):
    with pytest.raises(ImageFault, match="that names no file"):
        parse(written)
