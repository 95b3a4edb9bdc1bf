"""What a class may see of the answers: the file `mtlkit.toml` beside the notebooks, or in a folder above them."""

import tomllib
from collections.abc import Collection, Iterable
from pathlib import Path

FILE = "mtlkit.toml"


def settings_of(allowed: bool | Iterable[str]) -> str:
    """Return the content of `mtlkit.toml`.

    Args:
        allowed: `True` for all solutions, `False` for none, or the exercises and notebooks ("02.1", "05") whose
            solutions may be seen.
    """
    allowed = allowed or False
    value = str(allowed).lower() if isinstance(allowed, bool) else "[" + ", ".join(f'"{one}"' for one in allowed) + "]"
    return (
        "# Are solutions, last hints and quiz answers shown in this folder? true, false, or only for a list of\n"
        f'# exercises and notebooks, such as ["02.1", "05"].\nsolutions = {value}\n'
    )


def may_see(id: str) -> bool:
    """Whether the solution of an exercise ("02.1"), or the answers of a notebook's quiz ("02"), may be seen here.

    Raises:
        ValueError: if `mtlkit.toml` says anything other than `true`, `false` or a list.
    """
    folder = Path.cwd()
    file = next((found for place in (folder, *folder.parents) if (found := place / FILE).is_file()), None)
    if file is None:
        return True
    try:
        allowed = tomllib.loads(file.read_text(encoding="utf-8")).get("solutions", True)
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} cannot be read ({error}): write solutions = true, false, or a list") from error
    if not isinstance(allowed, bool | list) or (
        isinstance(allowed, list) and not all(isinstance(one, str) for one in allowed)
    ):
        raise ValueError(f'{file}: solutions = {allowed!r}; expected true, false, or a list such as ["02.1", "05"]')
    return allows(allowed, id)


def allows(allowed: bool | Collection[str], id: str) -> bool:
    """Whether such a setting lets the answers of an exercise or a quiz be seen."""
    return allowed if isinstance(allowed, bool) else id in allowed or id.partition(".")[0] in allowed
