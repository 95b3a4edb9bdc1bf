"""Explicit, resumable, checked downloads: `mtlkit data list`, `mtlkit data get NAME`."""

import gzip
import hashlib
import lzma
import os
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pooch
import requests
from torchvision.datasets.voc import DATASET_YEAR_DICT
from tqdm import tqdm

DAMAGED = (tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, lzma.LZMAError, EOFError)
COMPLETE = ".complete"  # says which archives a folder was unpacked from


class DownloadError(RuntimeError):
    """A download cannot be finished; the message says what is kept and how to go on."""


@dataclass(frozen=True)
class Archive:
    """One file to download: its address and a checksum, `md5:...` or `sha256:...`, where its bytes are fixed."""

    url: str
    checksum: str | None = None


@dataclass(frozen=True)
class Source:
    """A data set that can be downloaded.

    Attributes:
        about: what it is, its size and its licence.
        archives: what is fetched and unpacked.
        folder: where below the data folder it goes.
        content: globs below the folder, each with the SHA-256 over its files, where the archive's own bytes are not
            fixed.
        most: bytes that all archives, and all files in them, may have.
    """

    about: str
    archives: tuple[Archive, ...]
    folder: str
    content: tuple[tuple[str, str], ...] = ()
    most: int = 3 * 10**9


_PETS = "https://www.robots.ox.ac.uk/~vgg/data/pets/data"
_VOC = DATASET_YEAR_DICT["2007"], DATASET_YEAR_DICT["2007-test"]
_BCCD = "d272fb14cdff6e473fafeeeba32aba5f560e9e43"
_FSDD = "26eb9aaf76e81b692f806f9140c2d2777410d7a1"
_VADER = "44fc044cd877310ee8278a0eadf34bcd50d41d06"
SOURCES = {
    "pets": Source(
        "Oxford-IIIT Pet: 7,349 photographs, 37 breeds, head boxes for half; 810 MB; CC BY-SA 4.0",
        (
            Archive(f"{_PETS}/images.tar.gz", "md5:5c4f3ee8e5d25df40f4fd59a7f44e54c"),
            Archive(f"{_PETS}/annotations.tar.gz", "md5:95a8c909bbe2e81eed6a22bccdf3f68f"),
        ),
        "oxford-iiit-pet",
    ),
    "bccd": Source(
        "BCCD: 364 microscope images of blood cells with boxes of 3 kinds; 8 MB; MIT",
        (Archive(f"https://codeload.github.com/Shenggan/BCCD_Dataset/zip/{_BCCD}"),),
        "bccd",
        (
            ("**/BCCD/JPEGImages/*.jpg", "010366f089377a7091ed222dfb34e6501f69398f69028878721cc3d6432f11dc"),
            ("**/BCCD/Annotations/*.xml", "748a1ebff39016d9cf8c37d71f64dc80c38d1d04c0371ba14a1e0935e98e7f9f"),
            ("**/BCCD/ImageSets/Main/*.txt", "5ce4472453171cce95be741c7efe3be0f855c96234f7cf02b7a76a2efa96fb56"),
        ),
        most=10**8,
    ),
    "fsdd": Source(
        "Free Spoken Digit Dataset: 3,000 recordings of ten digits by six speakers; 16 MB; CC BY-SA 4.0",
        (Archive(f"https://codeload.github.com/Jakobovski/free-spoken-digit-dataset/zip/{_FSDD}"),),
        "fsdd",
        (("**/recordings/*.wav", "0fbe6612aaa20a80ef4371894a46e060038337a518fe3d4728cb7eee7caa013c"),),
        most=2 * 10**8,
    ),
    "sentiment": Source(
        "Hutto and Gilbert: 24,000 rated sentences of tweets, film and product reviews, editorials; 5 MB; MIT",
        (Archive(f"https://codeload.github.com/cjhutto/vaderSentiment/zip/{_VADER}"),),
        "hutto_sentiment",
        most=10**8,
    ),
    "voc2007": Source(
        "Pascal VOC 2007: 9,963 photographs with boxes of 20 kinds; 870 MB; Flickr terms of use",
        tuple(Archive(year["url"], f"md5:{year['md5']}") for year in _VOC),
        "voc2007",
    ),
}


def data_folder() -> Path:
    """Return where data goes: `$MTLKIT_DATA`, or `data/` beside the package."""
    return Path(os.environ.get("MTLKIT_DATA") or Path(__file__).parents[2] / "data")


def get(name: str, folder: str | Path | None = None, *, sources: dict[str, Source] = SOURCES) -> Path:
    """Download a data set, check it, unpack it, and return its folder. What is already there is not fetched again.

    Args:
        name: one of `SOURCES`.
        folder: data folder; `data_folder()` if not given.
        sources: what can be had.

    Raises:
        DownloadError: if the name is unknown, the network or the disk fails, a checksum differs, there is more than
            announced, or an archive holds a path outside its folder. What was fetched so far is kept, and the next call
            goes on from there; nothing of an archive is unpacked that is not whole.
    """
    if name not in sources:
        raise DownloadError(f"unknown data set {name!r}: expected one of {', '.join(sources)}")
    source, target = sources[name], Path(folder or data_folder()) / sources[name].folder
    done = target / COMPLETE
    said = "\n".join(f"{archive.url} {archive.checksum}" for archive in source.archives)
    try:
        if done.is_file() and done.read_text(encoding="utf-8") == said:
            return target
        (target / ".archives").mkdir(parents=True, exist_ok=True)
        for archive in source.archives:
            unpack(_fetch(archive, target / ".archives", source.most), target, source.most)
        for pattern, expected in source.content:
            if content_hash(target, pattern) != expected:
                raise DownloadError(
                    f"the files {pattern} in {target} are not the ones expected; delete that folder and try again"
                )
        shutil.rmtree(target / ".archives")
        done.write_text(said, encoding="utf-8")
    except OSError as error:
        raise DownloadError(
            f"cannot write to {target}: {error.strerror or error}; free some space and try again"
        ) from error
    return target


def _fetch(archive: Archive, folder: Path, most: int) -> Path:
    name = archive.url.rsplit("/", 1)[1]
    try:
        downloader = _resume(folder / name, most)
        return Path(pooch.retrieve(archive.url, archive.checksum, fname=name, path=folder, downloader=downloader))
    except requests.RequestException as error:
        raise DownloadError(
            f"cannot reach {archive.url} ({type(error).__name__}). Are you online? What has arrived is kept: the same "
            "command goes on from there. Without a network, the data set 'scenes' needs no download"
        ) from error
    except ValueError as error:  # pooch's word for a wrong checksum
        (folder / f"{name}.partial").unlink(missing_ok=True)
        raise DownloadError(f"{archive.url} does not have the checksum {archive.checksum}: try again later") from error


def _resume(file: Path, most: int) -> Callable[[str, Any, Any], None]:
    """Return a downloader for pooch that keeps what has arrived in `file.partial` and asks only for the rest."""
    partial = file.with_name(f"{file.name}.partial")

    def download(url: str, output: str, _: Any) -> None:
        have = partial.stat().st_size if partial.exists() else 0
        with requests.get(url, stream=True, timeout=30, headers={"Range": f"bytes={have}-"} if have else {}) as reply:
            if reply.status_code != 416:  # 416: nothing is left to send
                reply.raise_for_status()
                have = have if reply.status_code == 206 else 0
                total = have + int(reply.headers.get("Content-Length", 0))
                with (
                    partial.open("ab" if have else "wb") as part,
                    tqdm(desc=file.name, total=total or None, initial=have, unit="B", unit_scale=True) as bar,
                ):
                    for chunk in reply.iter_content(1 << 16):
                        if max(total, bar.n + len(chunk)) > most:
                            raise _too_large(url, most)
                        bar.update(part.write(chunk))
                if total and partial.stat().st_size < total:
                    raise requests.ConnectionError(f"{partial.stat().st_size} of {total} bytes arrived")
        partial.replace(output)

    return download


def _too_large(what: object, most: int) -> DownloadError:
    return DownloadError(f"{what} is larger than {most / 1e6:,.0f} MB, and it should not be: do not trust this file")


def unpack(archive: Path, target: Path, most: int = Source.most) -> None:
    """Unpack the plain files of a .zip or .tar below `target`; links and special files are left out.

    Args:
        archive: the file.
        target: where to.
        most: bytes that all files together may have.

    Raises:
        DownloadError: if a member's path leads out of `target`, the archive is damaged, or there is more in it than
            `most`. Nothing is unpacked then.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=".unpacking-", dir=target.parent))
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as zip_file:
                files = {info.filename: info for info in zip_file.infolist() if not info.is_dir()}
                _copy_all(archive, beside, files, zip_file.open, most)
        else:
            with tarfile.open(archive) as tar_file:
                members = {member.name: member for member in tar_file if member.isreg()}
                _copy_all(archive, beside, members, tar_file.extractfile, most)
                while tar_file.fileobj is not None and tar_file.fileobj.read(1 << 20):
                    pass  # to the checksum, which stands at the end
        for file in [file for file in beside.rglob("*") if file.is_file()]:
            place = target / file.relative_to(beside)
            place.parent.mkdir(parents=True, exist_ok=True)
            file.replace(place)
    except DAMAGED as error:
        raise DownloadError(f"{archive} is damaged ({error}): delete it and try again") from error
    finally:
        shutil.rmtree(beside)


def _copy_all(
    archive: Path, target: Path, members: dict[str, Any], open_member: Callable[[Any], Any], most: int
) -> None:
    for name in members:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name:
            raise DownloadError(
                f"{archive} holds the path {name!r}, which leads out of its folder: do not trust this file"
            )
    left = most
    for name, member in members.items():
        file = target / name
        file.parent.mkdir(parents=True, exist_ok=True)
        with open_member(member) as source, file.open("wb") as copy:
            while chunk := source.read(1 << 20):
                left -= len(chunk)
                if left < 0:
                    raise _too_large(f"what is in {archive}", most)
                copy.write(chunk)


def content_hash(folder: Path, pattern: str) -> str:
    """Return the SHA-256 over names and bytes of the files that match, in the order of their names."""
    digest = hashlib.sha256()
    for file in sorted(folder.glob(pattern), key=lambda path: path.name):
        digest.update(file.name.encode() + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()
