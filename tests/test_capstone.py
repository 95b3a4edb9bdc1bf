"""Notebook 15 with real photographs: its own cells on a real folder, and the same way in a terminal."""

import re
from pathlib import Path

import nbformat

from mtlkit import cli
from mtlkit.lab import LossWeightingLab

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "15_capstone.ipynb"


def cells(changes):
    """Return the code of the notebook up to its exercises, with some of it changed."""
    code = [cell.source for cell in nbformat.read(NOTEBOOK, as_version=4).cells if cell.cell_type == "code"]
    code = code[: next(k for k, source in enumerate(code) if source.startswith("exercise("))]
    whole = "\n\n".join(code)
    for old, new in changes.items():
        assert whole.count(old) >= 1, old
        whole = whole.replace(old, new)
    return whole


def test_the_notebook_takes_a_folder_of_ones_own(real_data, capsys):
    """Blood cells; few steps."""
    changes = {
        'folder, layout = None, "voc"': f"folder, layout = Path({(real_data / 'bccd' / 'BCCD').as_posix()!r}), 'voc'",
        "trained(weight, 120)": "trained(weight, 2)",
        "trained(chosen, 350)": "trained(chosen, 4)",
        'facts={"steps"': 'draws=8, facts={"steps"',
    }
    scope = {}
    try:
        exec(compile(cells(changes), "notebook 15", "exec"), scope)
    finally:
        assert isinstance(scope.get("lab"), LossWeightingLab)
        scope["lab"].close()
    said = capsys.readouterr().out
    assert re.search(r"trainval: 292 photographs, .* wide", said) and "in two of the sets: 0" in said
    assert "Platelets" in said and set(scope["card"].classes["detect"]) == {"Platelets", "RBC", "WBC"}
    assert scope["page"].startswith("<!DOCTYPE html>") and "0.1, 0.3 and 1 tried for 120 steps" in scope["page"]


def test_pets_go_from_photographs_to_a_report_in_a_terminal(real_data, tmp_path, capsys):
    run = ["train", "--case", f"pets:{real_data}", "--size", "64", "--encoder", "conv", "--steps", "4"]
    assert cli.main([*run, "--batch-size", "4", "--out", str(tmp_path)]) == 0
    page = tmp_path / "card.html"
    report = ["report", str(tmp_path / "checkpoint.safetensors"), "--out", str(page), "--draws", "4"]
    assert cli.main([*report, "--note", "nothing was tuned"]) == 0
    text = page.read_text(encoding="utf-8")
    assert "Abyssinian" in text and "nothing was tuned" in text and 'src="data:image/png' in text
