"""Files at an address: listed, fetched once, noticed when they change, kept within a bound."""

from __future__ import annotations

import os
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from helpers import draw, free_port, make_tiny_csv

from recamlabel.adapters import load_dataset
from recamlabel.adapters.files.remote import is_label_file, local_source
from recamlabel.cli.main import run as run_cli
from recamlabel.config import load_config
from recamlabel.data.changed import file_hash, file_state
from recamlabel.data.inspect import inspect_images
from recamlabel.errors import ConfigError, DatasetError, MissingExtraError, StoreError
from recamlabel.run.intake import take_in
from recamlabel.run.label.batch import Batch
from recamlabel.segment.folder import find_images
from recamlabel.storage import remote
from recamlabel.storage.decode import image_size, read_image
from recamlabel.storage.remote import as_url, content, mirror, place_pointer, pointer_text, shown
from recamlabel.storage.run_folder import RunFolder

fsspec = pytest.importorskip("fsspec", reason="fsspec is not installed (extra remote)")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of the test's own."""
    monkeypatch.setenv("RECAMLABEL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(remote, "_CACHE", remote._Cache())
    return tmp_path / "cache"


@pytest.fixture
def memory():
    """The file system behind memory://, empty."""
    system = fsspec.filesystem("memory")
    system.store.clear()
    system.pseudo_dirs[:] = [""]
    yield system
    system.store.clear()


@pytest.fixture
def bucket(memory, tmp_path):
    """The tiny data set at an address."""
    data = make_tiny_csv(tmp_path)
    for path in data.rglob("*"):
        if path.is_file():
            memory.pipe_file(f"/bucket/set/{path.relative_to(data).as_posix()}", path.read_bytes())
    return data


def test_a_data_set_is_read_from_an_address_as_from_a_folder(bucket, memory):
    here, there = load_dataset(bucket), load_dataset(Path("memory://bucket/set"))
    assert [(one.id, one.present, one.split) for one in there.images] == [
        (one.id, one.present, one.split) for one in here.images
    ]
    assert inspect_images(there).hashes == inspect_images(here).hashes
    assert not inspect_images(there).problems and not there.problems
    image = there.images[0].path
    assert shown(image) == "memory://bucket/set/images/0.png"
    assert np.array_equal(read_image(image), read_image(bucket / "images/0.png"))
    assert image_size(image) == (64, 80) and file_hash(image) == file_hash(bucket / "images/0.png")
    assert file_state(image)[0] == (bucket / "images/0.png").stat().st_size
    assert len(load_dataset(Path("memory://bucket/set/labels.csv"))) == 8


def test_the_verbs_take_an_address(bucket, memory, capsys):
    assert run_cli(["check", "memory://bucket/set"]) == 0
    assert "memory://bucket/set" in capsys.readouterr().out
    intake = take_in(Path("memory://bucket/set"), load_config(), None)
    again = take_in(Path("memory://bucket/set"), load_config(), None)
    assert intake.key == again.key and len(intake.catalog.images) == 8
    memory.pipe_file("/bucket/set/images/0.png", (bucket / "images/1.png").read_bytes())
    assert take_in(Path("memory://bucket/set"), load_config(), None).key != intake.key
    found = find_images(Path("memory://bucket/set/images"))
    assert [image.id for image in found] == [str(number) for number in range(8)]
    assert [image.id for image in find_images(Path("memory://bucket/set/images/3.png"))] == ["3"]


def test_an_image_is_fetched_once(bucket, memory, monkeypatch):
    image = load_dataset(Path("memory://bucket/set")).images[0].path
    calls: list[str] = []
    whole = memory.cat_file
    monkeypatch.setattr(type(memory), "cat_file", lambda self, path, **more: calls.append(path) or whole(path, **more))
    first, second = content(image), content(image)
    assert first == second == (bucket / "images/0.png").read_bytes() and len(calls) == 1


def test_what_changes_or_goes_after_the_listing_is_an_error_and_a_new_listing_has_it(bucket, memory, tmp_path):
    image = local_source(Path("memory://bucket/set")) / "images/0.png"
    before = file_state(image)
    mask = draw(tmp_path / "other.png", ["blue"], 70)
    memory.pipe_file("/bucket/set/images/0.png", (tmp_path / "other.png").read_bytes())
    with pytest.raises(DatasetError, match=r"memory://bucket/set/images/0\.png: not the file any more that was listed"):
        read_image(image)
    memory.rm_file("/bucket/set/images/1.png")
    with pytest.raises(DatasetError, match=r"images/1\.png: no such file or folder there"):
        read_image(image.with_name("1.png"))
    local_source(Path("memory://bucket/set"))
    assert np.array_equal(read_image(image), read_image(tmp_path / "other.png")) and mask.any()
    assert file_state(image) != before and not image.with_name("1.png").exists()


def test_a_listing_that_is_the_same_leaves_all_as_it_was(bucket, memory):
    place = local_source(Path("memory://bucket/set"))
    states = {path: path.stat().st_mtime_ns for path in place.rglob("*") if path.is_file()}
    assert local_source(Path("memory:/bucket/set/")) == place
    assert {path: path.stat().st_mtime_ns for path in place.rglob("*") if path.is_file()} == states
    memory.pipe_file("/bucket/set/labels.csv", b"image,labels\nimages/0.png,red\nimages/1.png,blue\n")
    assert len(load_dataset(Path("memory://bucket/set"))) == 2


def test_the_cache_has_a_bound_and_keeps_what_was_asked_for_last(memory, cache, monkeypatch):
    for number in range(6):
        memory.pipe_file(f"/many/{number}.png", bytes([number]) * 1000)
    place = mirror(Path("memory://many"), is_label_file)
    monkeypatch.setenv(remote.BOUND, "3.5e-6")  # 3,500 bytes
    for number in range(6):
        assert content(place / f"{number}.png") == bytes([number]) * 1000
        kept = list((cache / "remote/objects").iterdir())
        assert sum(path.stat().st_size for path in kept) <= 3500
        # Files within a clock tick of each other would have no order.
        for path in kept:
            if path.read_bytes()[:1] == bytes([number]):
                os.utime(path, (number, number))
    assert {path.read_bytes()[0] for path in kept} >= {4, 5} and 0 not in {path.read_bytes()[0] for path in kept}
    monkeypatch.setenv(remote.BOUND, "much")
    with pytest.raises(ConfigError, match="RECAMLABEL_REMOTE_CACHE_GB='much': expected gigabytes"):
        remote.cache_gigabytes()


def test_a_full_disk_makes_it_slower_and_nothing_else(bucket, memory, monkeypatch):
    image = local_source(Path("memory://bucket/set")) / "images/0.png"

    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(remote, "_put", full)
    assert content(image) == (bucket / "images/0.png").read_bytes()


def test_another_machine_makes_the_same_pointer(bucket, memory, monkeypatch, tmp_path):
    image = load_dataset(Path("memory://bucket/set")).images[0]
    sent = Batch(0, "", (image,)).packed()
    assert sent.pointers == {image.id: pointer_text(image.path)}
    monkeypatch.setenv("RECAMLABEL_CACHE", str(tmp_path / "of-a-worker"))
    (arrived,) = sent.unpacked().images
    assert arrived.path.is_relative_to(tmp_path / "of-a-worker") and arrived.id == image.id
    assert content(arrived.path) == (bucket / "images/0.png").read_bytes()
    assert Batch(0, "", ()).packed().pointers == {}
    with pytest.raises(DatasetError, match="a name that no file here can have"):
        place_pointer(remote.Pointer("memory://a/../../b.png", 1, {}).text())


def test_names_that_lead_out_of_the_folder_are_left_out(memory, capsys, cache):
    memory.pipe_file("/odd/a.png", b"1")
    memory.store["/odd/../../../outside.png"] = memory.store["/odd/a.png"]
    place = mirror(Path("memory://odd"), is_label_file)
    assert [path.name for path in place.rglob("*") if path.is_file()] == ["a.png"]
    assert "1 names that no file here can have" in capsys.readouterr().err
    assert not list(cache.parent.glob("outside.png"))


@pytest.mark.parametrize(
    ("address", "error", "text"),
    [
        ("memory://nowhere", DatasetError, "memory://nowhere: no such file or folder there"),
        ("nonsense://a/b", DatasetError, "no kind of address that fsspec knows"),
        ("file:///etc", DatasetError, "a file of this machine; give its path, without 'file://'"),
        ("s3://key:secret@bucket/a", ConfigError, r"^s3://…: an address with '@'"),
        ("s3://bucket/a.csv?X-Amz-Signature=secret", ConfigError, r"^s3://…: an address"),
    ],
)
def test_addresses_that_cannot_be_read(memory, address, error, text):
    with pytest.raises(error, match=text) as caught:
        local_source(Path(address))
    assert "secret" not in str(caught.value)


def test_without_fsspec_or_the_library_of_an_address_it_says_what_to_install(monkeypatch):
    def missing(name: str):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(remote, "import_module", missing)
    with pytest.raises(MissingExtraError, match=r"pip install 'recamlabel\[remote\]'"):
        local_source(Path("s3://bucket"))


def test_results_lie_on_a_disk_of_this_machine_and_it_says_so(bucket, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for arguments in (
        ["fit", str(bucket), "--out", "s3://bucket/run"],
        ["fit", "s3://bucket/run"],
        ["status", "s3://bucket/run"],
        ["convert", str(bucket), "--to", "csv", "--out", "s3://bucket/out"],
        ["label", str(bucket), "--run", "s3://bucket/run", "--out", "out"],
    ):
        code = run_cli(arguments)
        told = capsys.readouterr().err
        if arguments != ["fit", "s3://bucket/run"]:
            assert code == 1 and "s3://bucket/" in told and "lies on a disk of this machine" in told, arguments
        assert code != 70 and not (tmp_path / "s3:").exists(), arguments
    with pytest.raises(StoreError, match="a run folder lies on a disk"):
        RunFolder.open(Path("gs://bucket/run"))


def test_names_of_adapters_are_no_addresses():
    assert as_url("huggingface:/data/set") is None and as_url(Path("fiftyone:mine")) is None
    assert as_url("hf://datasets/a/b") == "hf://datasets/a/b"


@pytest.fixture(scope="module")
def s3():
    """A server of S3 on this machine, and the environment that leads to it."""
    pytest.importorskip("s3fs", reason="s3fs is not installed (extra remote)")
    pytest.importorskip("moto.server", reason="moto[server] is not installed")
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=free_port(), verbose=False)
    server.start()
    patch = pytest.MonkeyPatch()
    for name, value in {
        "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "hush-hush",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server._port}",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        patch.setenv(name, value)
    system = fsspec.filesystem("s3", use_listings_cache=False, skip_instance_cache=True)
    system.mkdir("bucket")
    yield system
    patch.undo()
    server.stop()


def test_a_bucket_of_a_real_server(s3, tmp_path, cache):
    data = make_tiny_csv(tmp_path)
    s3.put(f"{data}/", "bucket/set", recursive=True)
    here, there = load_dataset(data), load_dataset(Path("s3://bucket/set/labels.csv"))
    assert inspect_images(there).hashes == inspect_images(here).hashes
    image = there.images[0].path
    assert "ETag" in pointer_text(image)
    (data / "images/1.png").write_bytes(b"other")
    s3.put_file(str(data / "images/1.png"), "bucket/set/images/9.png")
    s3.pipe_file("bucket/set/images/5.png", b"changed")
    for path in (cache / "remote/objects").iterdir():
        path.unlink()
    with pytest.raises(DatasetError, match=r"s3://bucket/set/images/5\.png: not the file any more"):
        content(image.with_name("5.png"))
    s3.rm_file("bucket/set/images/4.png")
    with pytest.raises(DatasetError, match=r"s3://bucket/set/images/4\.png: no such file"):
        content(image.with_name("4.png"))
    with pytest.raises(DatasetError, match="s3://no-such-bucket/a: no such file or folder there"):
        local_source(Path("s3://no-such-bucket/a"))
    written = [path.read_bytes() for path in cache.rglob("*") if path.is_file()]
    assert written and not any(b"hush-hush" in text or b"nobody" in text for text in written)


def test_a_bucket_without_rights_says_where_credentials_are_from(s3):
    def asks_for_rights(count: int) -> None:
        address = f"{os.environ['AWS_ENDPOINT_URL']}/moto-api/reset-auth"
        request = urllib.request.Request(address, b"%d" % count, {"Content-Type": "text/plain"})
        urllib.request.urlopen(request).close()

    asks_for_rights(0)
    try:
        with pytest.raises(DatasetError, match=r"s3://bucket/a: cannot be read.*credentials are those .* AWS_PROFILE"):
            local_source(Path("s3://bucket/a"))
    finally:
        asks_for_rights(1_000_000)
