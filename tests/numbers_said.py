"""Reads what the notebooks say and print, and the tables that it comes from."""

import re
from functools import cache
from pathlib import Path

import nbformat

from mtlkit.experiments import differences, read, summarise

FILES = {file.name[:2]: file for file in (Path(__file__).parents[1] / "notebooks").glob("[0-9]*.ipynb")}
NUMBER = r"(-?\d{1,3}(?:,\d{3})+|-?\d+(?:\.\d+)?)"
# what a reader takes for a finding: a decimal, thousands, a percentage, a multiple
FINDING = re.compile(r"(?<![\w.,-])(?:\d{1,3}(?:,\d{3})+|\d+\.\d+(?! ·)|\d+ %|\d+(?:\.\d+)? times)(?!\.?\d)")
WORDS = ["two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
COUNTED = "seeds|steps|methods|hours|comparisons|epochs|splits|runs"
COUNT = re.compile(rf"\b(\d+|{'|'.join(WORDS)}) (?:other |more |further )?(?:{COUNTED})\b", re.IGNORECASE)
NOT_PROSE = re.compile(r"\$\$.*?\$\$|\$[^$]*\$|`[^`]*`|exercise \d+\.\d|\]\([^)]*\)")


@cache
def cells(number):
    return nbformat.read(FILES[number], as_version=4).cells


@cache
def text_of(number):
    whole = " ".join(" ".join(cell.source for cell in cells(number) if cell.cell_type == "markdown").split())
    return whole.split("## References")[0]


def printed(number, pattern):
    """Return the numbers that a notebook has printed in a place where the pattern has N."""
    outputs = [o for cell in cells(number) if cell.cell_type == "code" for o in cell.outputs]
    found = re.search(pattern.replace("N", NUMBER), "\n".join(o.get("text", "") for o in outputs))
    assert found, f"notebook {number} prints nothing like {pattern!r}"
    return [value(group) for group in found.groups()]


def value(said):
    return float(said.replace(",", ""))


def counted(word):
    """Return the whole number that a word says; 0 for no number."""
    return int(word) if word.isdigit() else WORDS.index(word) + 2 if word in WORDS else 0


@cache
def shown(number):
    """Return what stands in a notebook's code and in what it has printed or drawn."""
    parts = [cell.source for cell in cells(number) if cell.cell_type == "code"]
    for output in (o for cell in cells(number) if cell.cell_type == "code" for o in cell.outputs):
        parts += [output.get("text", ""), str(output.get("data", {}).get("text/plain", ""))]
    return "\n".join(parts)


@cache
def told_by_tables(prefixes, seeds=False):
    """Return what the heads of tables say, or the numbers of seeds in them."""
    folder = Path(__file__).parents[1] / "data" / "results"
    found = [file for prefix in prefixes for file in folder.glob(f"{prefix}*.csv")]
    if seeds:
        return " ".join(str(len({row.seed for row in read(file.stem)})) for file in found)
    return "\n".join(line for file in found for line in file.read_text().splitlines() if line.startswith("#"))


@cache
def table(name):
    return summarise(read(name))


def mean(name, setting, column):
    return table(name)[setting][column].mean


def gap(name, column, opponent, setting):
    return differences(read(name), column, opponent, [setting])[setting]


def ends(values):
    """Return the smallest and the largest."""
    values = list(values)
    return [min(values), max(values)]
