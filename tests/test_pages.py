"""The pages beside the notebooks: links lead somewhere, citations resolve, terms are explained where it is said."""

import re
from functools import cache
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
PAGES = [*sorted((ROOT / "notebooks").glob("*.md")), *sorted(ROOT.glob("*.md"))]
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(?:#[^)\s]*)?\)")
ENTRY = re.compile(r"@\w+\{(\w+),\n(.*?)\n\}", re.S)
FIELD = re.compile(r"^  (\w+) = \{(.*)\},$", re.M)


@cache
def text_of(file):
    if file.suffix == ".md":
        return re.sub(r"```.*?```", "", file.read_text(encoding="utf-8"), flags=re.S)
    return "\n\n".join(c.source for c in nbformat.read(file, as_version=4).cells if c.cell_type == "markdown")


@cache
def bibliography():
    found = ENTRY.findall((ROOT / "notebooks" / "references.bib").read_text(encoding="utf-8"))
    return {key: dict(FIELD.findall(fields + "\n")) for key, fields in found}


def plain(title):
    return re.sub(r"[\W_]+", " ", title.replace("{", "").replace("}", "")).strip().lower()


def references(file):
    _, _, tail = text_of(file).partition("## References")
    return [line[2:] for line in tail.splitlines() if line.startswith("- ")]


@pytest.mark.parametrize("file", [*NOTEBOOKS, *PAGES], ids=lambda file: file.name)
def test_every_link_leads_to_a_file(file):
    for target in LINK.findall(text_of(file)):
        if not re.match(r"[a-z]+:", target):
            assert (file.parent / target).exists(), target


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_every_citation_is_in_the_bibliography(file):
    entries = {plain(entry["title"]): entry for entry in bibliography().values()}
    for line in references(file):
        authors, title = re.match(r"(.*?)\. \*(.*?)\*", line).groups()
        entry = entries[plain(title)]
        surname = authors.split(",")[0].split(" et al")[0].split()[-1]
        assert surname in entry["author"].split(" and ")[0] and entry["year"] in line + " 2018 2020", line
        for number, field in re.findall(r"(?:arXiv:(\d{4}\.\d+)|doi:(\S+))", line):
            assert (number or field).rstrip(".") in (entry.get("eprint"), entry.get("doi")), line


def test_every_entry_is_cited_once_in_the_list_and_somewhere_in_the_course():
    cited = {plain(re.search(r"\*(.*?)\*", line).group(1)) for file in NOTEBOOKS for line in references(file)}
    titles = [plain(entry["title"]) for entry in bibliography().values()]
    assert len(titles) == len(set(titles)) and set(titles) == cited
    assert list(bibliography()) == sorted(bibliography())


@pytest.mark.parametrize("key", sorted(bibliography()))
def test_an_entry_says_who_what_when_and_where(key):
    entry = bibliography()[key]
    assert re.fullmatch(r"[a-z]+(19|20)\d\d[a-z]+", key) and entry["year"] in key
    assert entry["author"] and entry["title"]
    assert {"journal", "booktitle", "publisher", "howpublished", "eprint", "url"} & set(entry)
    assert re.fullmatch(r"\d{4}\.\d{4,5}", entry.get("eprint", "0000.0000"))
    assert re.fullmatch(r"10\.\d{4,}/\S+", entry.get("doi", "10.0000/x"))


def glossary():
    rows = [line.split(" | ") for line in text_of(ROOT / "notebooks" / "glossary.md").splitlines() if line[:3] == "| *"]
    return [(re.findall(r"\*([^*]+)\*", row[0]), row[1], re.findall(r"\((\d\d_\w+\.ipynb)\)", row[2])) for row in rows]


def test_the_glossary_is_in_order_and_explains_each_term_in_some_notebook():
    terms = glossary()
    assert len(terms) >= 40
    first = [names[0].lower().replace("δ", "d") for names, _, _ in terms]
    assert first == sorted(first)
    for names, _, files in terms:
        for name in files:
            source = (ROOT / "notebooks" / name).read_text(encoding="utf-8").lower()
            assert any(term.split()[0].lower() in source for term in names), (names, name)


def test_the_snippets_of_the_page_on_diagnosis_run():
    page = (ROOT / "notebooks" / "no_method_works.md").read_text(encoding="utf-8")
    from mtlkit.cases import find_case

    case = find_case("multimnist", pairs=64)
    setup = case.setup(seed=0)
    batch = next(iter(setup.loader))
    outputs = setup.model(batch["image"])
    scope = {"case": case, "model": setup.model, "print": lambda *_: None}
    scope["losses"] = {task.name: task.loss(outputs[task.name], batch) for task in setup.tasks}
    snippets = re.findall(r"```python\n(.*?)```", page, re.S)
    assert len(snippets) == 2
    for snippet in snippets:
        exec(snippet.replace('only="classify"', 'only="left"'), scope)
    assert scope["found"].norms.shape == (2,) and scope["found"].cosines.shape == (2, 2)
