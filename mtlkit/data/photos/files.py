"""What lies in a folder: images under whatever names, text in whatever encoding. Nothing outside of it is opened."""

import codecs
import json
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree

from mtlkit.data.errors import DataError
from mtlkit.data.photos.splits import role_of

NO_IMAGE = {".xml", ".json", ".txt", ".csv", ".md", ".yaml", ".yml", ".html", ".pdf", ".zip", ".db", ".py", ".tsv"}
MARKS = {  # the longer ones first: UTF-32's begins with UTF-16's
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


class Folder:
    """The files below a folder, but hidden ones and what macOS leaves behind.

    Args:
        root: the folder; "~" is the home folder.

    Raises:
        DataError: if it is not there, or no folder.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root).expanduser()
        if self.root.is_file():
            raise DataError(f"{self.root} is a file: give the folder that holds it and the images")
        if not self.root.is_dir():
            raise DataError(f"there is no folder {self.root}: say where the photographs are")
        self.links_out: set[str] = set()
        self.files = sorted(self._walk(), key=str)
        self._exact = {str(file.relative_to(self.root).as_posix()): file for file in self.images()}
        self._near: dict[str, list[Path]] = {}
        self._anywhere: dict[str, list[Path]] = {}
        self._folders = {str(PurePosixPath(path).parent) for path in self._exact}
        for path, file in self._exact.items():
            folder = str(PurePosixPath(path).parent)
            for name in {_key(file.name), _key(file.stem)}:
                self._near.setdefault(f"{_key(folder)}/{name}", []).append(file)
                self._anywhere.setdefault(name, []).append(file)

    def _walk(self) -> Iterator[Path]:
        inside = Path(os.path.realpath(self.root))
        for folder, folders, names in os.walk(self.root):
            for name in [name for name in folders if (Path(folder) / name).is_symlink()]:  # none is followed
                self.links_out.add(str((Path(folder) / name).relative_to(self.root)))
            folders[:] = [name for name in folders if not name.startswith(".") and name != "__MACOSX"]
            for name in names:
                file = Path(folder) / name
                if name.startswith(".") or name == "Thumbs.db":
                    continue
                if file.is_symlink() and not Path(os.path.realpath(file)).is_relative_to(inside):
                    self.links_out.add(str(file.relative_to(self.root)))
                elif file.is_file():  # no pipe, no link to nothing
                    yield file

    def having(self, ending: str) -> list[Path]:
        """Return the files with this ending, in any case."""
        return [file for file in self.files if file.suffix.lower() == ending]

    def images(self) -> list[Path]:
        """Return the files that may be images: all that are nothing else by their ending."""
        return [file for file in self.files if file.suffix.lower() not in NO_IMAGE]

    def find_image(self, name: str, near: Iterable[Path], kind: str | None = None) -> Path:
        """Return the image that an annotation means by `name`.

        Looked for by its path and by ever shorter ends of it, in the folders `near` and in the whole folder; then with
        other cases or another ending in those; then, if there are no images in those, anywhere below, if there is one.

        Args:
            name: a name or a path, however it is spelled.
            near: folders in which it may lie.
            kind: "train", "val", ...: it is not looked for in folders of another kind, where numbers begin again.

        Raises:
            DataError: if there is none or several.
        """
        parts = [part for part in PurePosixPath(name.strip().replace("\\", "/")).parts if part not in ("/", ".", "..")]
        if not parts:
            raise DataError(f"the name of its image is {name!r}")
        folders = [str(folder.relative_to(self.root).as_posix()) for folder in near]
        folders = list(dict.fromkeys([*folders, "."]))
        for spelled in dict.fromkeys([tuple(parts), tuple(unquote(part) for part in parts)]):
            ends = ["/".join(spelled[k:]) for k in range(len(spelled))]
            for end in ends:
                for folder in folders:
                    path = end if folder == "." else f"{folder}/{end}"
                    if path in self._exact:
                        return self._exact[path]
            last = spelled[-1]
            for wanted in (_key(last), _key(PurePosixPath(last).stem)):
                for folder in folders:
                    if found := self._near.get(f"{_key(folder)}/{wanted}"):
                        return self._only(found, name)
            if any(folder in self._folders for folder in folders):
                continue
            for wanted in (_key(last), _key(PurePosixPath(last).stem)):
                if found := self._of_kind(self._anywhere.get(wanted, []), kind, spelled):
                    return self._only(found, name)
        links = [link for link in sorted(self.links_out) if PurePosixPath(link).name in (*parts, *folders)]
        why = (
            f"; {links[0]} is a link that leads out of the folder and is not followed: copy the files" if links else ""
        )
        raise DataError(f"its image {name!r} is not there{why}")

    def _of_kind(self, found: list[Path], kind: str | None, spelled: tuple[str, ...]) -> list[Path]:
        """Return those that do not lie in a folder of another split, nor in another one than is named."""
        kinds = {"train", "val", "trainval"} if kind == "trainval" else {kind}
        found = [file for file in found if kind is None or role_of(file.parent, self.root) in {None, *kinds}]
        if len(spelled) > 1 and _key(spelled[-2]) in {_key(PurePosixPath(folder).name) for folder in self._folders}:
            found = [file for file in found if _key(file.parent.name) == _key(spelled[-2])]
        return found

    def _only(self, found: list[Path], name: str) -> Path:
        if len(found) > 1:
            said = " and ".join(str(file.relative_to(self.root)) for file in found[:3])
            raise DataError(f"its image {name!r} may be {said}: give each image its own name")
        return found[0]


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def read_text(file: Path, encodings: Iterable[str] = ("utf-8",)) -> list[str]:
    """Return what a text file may say: by its byte order mark, else in each of the encodings that can read it.

    Raises:
        DataError: if none can, or the file cannot be opened.
    """
    data = read_bytes(file)
    for mark, encoding in MARKS.items():
        if data.startswith(mark):
            encodings = (encoding,)
            break
    texts, error = [], None
    for encoding in encodings:
        try:
            texts.append(data.decode(encoding))
        except UnicodeDecodeError as wrong:
            error = error or wrong
    if not texts:
        where = f"byte {error.start} is {error.object[error.start]:#x}" if error else ""
        raise DataError(f"{file}: is not in UTF-8 ({where}): save it in UTF-8")
    return texts


def read_bytes(file: Path) -> bytes:
    """Return the bytes of a file.

    Raises:
        DataError: if it cannot be read.
    """
    try:
        return file.read_bytes()
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror or error})") from error


def read_json(file: Path) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises:
        DataError: if it is none, or not in UTF-8.
    """
    (text,) = read_text(file)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        said = "it is empty" if not text.strip() else f"not valid JSON: {error}"
        raise DataError(f"{file}: is not a COCO annotation file ({said}); write it again") from error
    if not isinstance(content, dict):
        raise DataError(f"{file}: is not a COCO annotation file (a {type(content).__name__}); expected an object")
    return content


def read_xml(file: Path) -> ElementTree.Element:
    """Return the root of an XML file, in whatever encoding it is declared or marked to be.

    Raises:
        DataError: if it is not well formed.
    """
    data = read_bytes(file)
    declared = re.match(rb"""[^<]*<\?xml[^>]*encoding=["']([\w.:-]+)""", data)
    encoding = next((encoding for mark, encoding in MARKS.items() if data.startswith(mark)), None)
    tried = [encoding] if encoding else [declared[1].decode(), "utf-8"] if declared else ["utf-8"]
    for name in tried:
        try:
            text = data.decode(name)
            return ElementTree.fromstring(re.sub(r"^\s*<\?xml[^>]*\?>", "", text, count=1))
        except (UnicodeDecodeError, LookupError):
            continue
        except (ElementTree.ParseError, ValueError) as error:
            raise DataError(f"{file}: is not a Pascal VOC annotation ({error}); correct the file") from error
    raise DataError(f"{file}: is not a Pascal VOC annotation (not in {' or '.join(tried)}); save it in UTF-8")


def as_id(value: Any) -> str | None:
    """Return an id as text, for tools write the same one as a number or a string; `None` if it is none."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip() or None if isinstance(value, int | str) else None


def as_size(value: Any) -> int:
    """Return a width or height; 0 where nothing, or no number, is said."""
    try:
        return max(0, round(float(value)))
    except (TypeError, ValueError, OverflowError):
        return 0


def says_yes(value: object) -> bool:
    """Whether a mark such as "difficult" is set, however a tool writes it."""
    return str(value).strip().lower() in ("1", "1.0", "true", "yes", "y")


def short(value: Any) -> str:
    """Return a value as text that fits into a message."""
    try:
        text = repr(value)
    except ValueError:  # a number of thousands of digits
        return "a number too long to write"
    return text if len(text) < 80 else f"{text[:70]}..."
