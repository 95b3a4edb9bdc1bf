import dataclasses
import hashlib
import io
import random
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from mtlkit.data import SOURCES, DownloadError, VocFolder
from mtlkit.data.download import Archive, Source, content_hash, get, unpack

BODY = random.Random(0).randbytes(500_000)


def tar_of(files, links=()):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        for name, target in links:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            tar.addfile(info)
    return buffer.getvalue()


def zip_of(files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


class Server:
    """A local web server that can break off after `limit` bytes and that notes the ranges it was asked for."""

    def __init__(self, content):
        self.content, self.limit, self.asked = content, None, []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                asked = self.headers.get("Range")
                server.asked.append(asked)
                start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
                if start >= len(server.content) and asked:
                    self.send_error(416)
                    return
                rest = server.content[start:]
                self.send_response(206 if asked else 200)
                self.send_header("Content-Length", str(len(rest)))
                self.end_headers()
                self.wfile.write(rest[: server.limit])

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/set.tar.gz"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def close(self):
        self.http.shutdown()
        self.http.server_close()


@pytest.fixture
def server():
    server = Server(tar_of({"images/a.bin": BODY}))
    yield server
    server.close()


def sources(server, checksum=None, content=()):
    checksum = checksum or f"md5:{hashlib.md5(server.content).hexdigest()}"
    return {"set": Source("a test", (Archive(server.url, checksum),), "set", content)}


def test_a_download_is_checked_unpacked_and_tidied_up(server, tmp_path):
    folder = get("set", tmp_path, sources=sources(server))
    assert (folder / "images" / "a.bin").read_bytes() == BODY
    assert sorted(path.name for path in folder.iterdir()) == [".complete", "images"]


def test_a_download_cut_off_half_way_goes_on_where_it_stopped(server, tmp_path):
    server.limit = len(server.content) // 2
    with pytest.raises(DownloadError, match="goes on from there"):
        get("set", tmp_path, sources=sources(server))
    server.limit = None
    folder = get("set", tmp_path, sources=sources(server))
    assert (folder / "images" / "a.bin").read_bytes() == BODY
    first, second = server.asked
    start = int(second.removeprefix("bytes=").removesuffix("-"))
    assert first is None and len(server.content) // 4 < start <= len(server.content) // 2


def test_a_wrong_checksum_is_refused_and_nothing_is_unpacked(server, tmp_path):
    with pytest.raises(DownloadError, match="checksum"):
        get("set", tmp_path, sources=sources(server, checksum="md5:" + "0" * 32))
    assert not (tmp_path / "set" / "images").exists()


def test_the_content_is_checked_where_the_archive_cannot_be(server, tmp_path):
    (tmp_path / "right").mkdir()
    (tmp_path / "right" / "a.bin").write_bytes(BODY)
    right = content_hash(tmp_path / "right", "*.bin")
    get("set", tmp_path / "one", sources=sources(server, content=(("images/*.bin", right),)))
    with pytest.raises(DownloadError, match="not the ones expected"):
        get("set", tmp_path / "two", sources=sources(server, content=(("images/*.bin", "0" * 64),)))


def test_the_real_cells_are_recognised_and_can_be_read(real_data, tmp_path):
    """The files of the real data set, zipped as GitHub does, behind a local server."""
    files = sorted((real_data / "bccd").glob("BCCD/**/*.*"))
    server = Server(zip_of({f"BCCD_Dataset-x/{f.relative_to(real_data / 'bccd')}": f.read_bytes() for f in files}))
    real = SOURCES["bccd"]
    local = {"bccd": Source(real.about, (Archive(server.url),), real.folder, real.content)}
    folder = get("bccd", tmp_path, sources=local)
    server.close()
    cells = VocFolder(folder / "BCCD_Dataset-x" / "BCCD", "test", 64, label="contains:Platelets", repair=True)
    assert len(cells) == 72 and cells[0]["boxes"].shape[1] == 4


def test_offline_is_said_in_words(tmp_path):
    nowhere = {"set": Source("a test", (Archive("http://127.0.0.1:9/set.zip"),), "set")}
    with pytest.raises(DownloadError, match=r"Are you online\?.*'scenes' needs no download"):
        get("set", tmp_path, sources=nowhere)
    with pytest.raises(DownloadError, match="expected one of pets, bccd, fsdd, sentiment, voc2007"):
        get("imagenet", tmp_path)


@pytest.mark.parametrize("make", [tar_of, zip_of])
@pytest.mark.parametrize("name", ["../outside.txt", "/outside.txt", "a/../../outside.txt", "..\\outside.txt", "C:/x"])
def test_a_path_that_leads_outside_is_refused_before_anything_is_written(tmp_path, make, name):
    archive = tmp_path / "bad"
    archive.write_bytes(make({"good.txt": b"x", name: b"x"}))
    with pytest.raises(DownloadError, match="leads out of"):
        unpack(archive, tmp_path / "target")
    assert not (tmp_path / "target").exists() and not (tmp_path / "outside.txt").exists()


def test_links_are_left_out(tmp_path):
    archive = tmp_path / "links.tar.gz"
    archive.write_bytes(tar_of({"good.txt": b"x"}, links=[("passwords", "/etc/passwd")]))
    unpack(archive, tmp_path / "target")
    assert [path.name for path in (tmp_path / "target").iterdir()] == ["good.txt"]


@pytest.mark.parametrize("make", [tar_of, zip_of])
def test_a_damaged_archive_is_named(tmp_path, make):
    archive = tmp_path / "set.bin"
    archive.write_bytes(make({"a.bin": BODY})[:700])
    with pytest.raises(DownloadError, match=r"set.bin is damaged"):
        unpack(archive, tmp_path / "target")


def test_what_is_there_is_not_fetched_again(server, tmp_path):
    folder = get("set", tmp_path, sources=sources(server))
    asked = len(server.asked)
    assert get("set", tmp_path, sources=sources(server)) == folder and len(server.asked) == asked
    server.content = tar_of({"images/b.bin": BODY})
    assert (get("set", tmp_path, sources=sources(server)) / "images/b.bin").exists()  # another archive is fetched


def damaged(make):
    data = bytearray(make({"first.bin": b"x" * 1000, "second.bin": BODY, "third.bin": BODY[::-1]}))
    data[len(data) // 2] ^= 0xFF
    return bytes(data)


@pytest.mark.parametrize("make", [tar_of, zip_of])
def test_nothing_of_a_damaged_archive_is_left(tmp_path, make):
    archive = tmp_path / "set.bin"
    archive.write_bytes(damaged(make))
    with pytest.raises(DownloadError, match=r"set.bin is damaged"):
        unpack(archive, tmp_path / "target")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["set.bin"]


@pytest.mark.parametrize("make", [tar_of, zip_of])
def test_an_archive_that_unpacks_to_more_than_announced_is_refused(tmp_path, make):
    archive = tmp_path / "bomb"
    archive.write_bytes(make({"a.bin": bytes(10**7), "b.bin": bytes(10**7)}))
    with pytest.raises(DownloadError, match="larger than 15 MB"):
        unpack(archive, tmp_path / "target", most=15 * 10**6)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bomb"]


def test_a_download_larger_than_announced_is_broken_off(server, tmp_path):
    small = {"set": dataclasses.replace(sources(server)["set"], most=1000)}
    with pytest.raises(DownloadError, match="do not trust"):
        get("set", tmp_path, sources=small)
    assert not (tmp_path / "set/images").exists()


def test_changed_annotations_of_the_cells_are_noticed(real_data, tmp_path):
    files = {f"x/{f.relative_to(real_data / 'bccd')}": f.read_bytes() for f in (real_data / "bccd").glob("BCCD/**/*.*")}
    name = "x/BCCD/Annotations/BloodImage_00007.xml"
    files[name] = files[name].replace(b"RBC", b"WBC")
    server = Server(zip_of(files))
    local = {"bccd": dataclasses.replace(SOURCES["bccd"], archives=(Archive(server.url),))}
    with pytest.raises(DownloadError, match=r"Annotations/\*.xml .* not the ones expected"):
        get("bccd", tmp_path, sources=local)
    server.close()
