"""What the README says one can write, run as it stands there."""

import re
import shlex
from pathlib import Path

import pytest
from photo_folders import obj, voc

from mtlkit import cli
from mtlkit.experiments import RESULTS

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
SECTION = README.partition("## With your own model")[2].partition("\n## ")[0]
BLOCKS = re.findall(r"```python\n(.*?)\n```", SECTION, re.S)
COMMANDS = re.findall(r"(?:^    | && )mtlkit (.+?)(?=  | &&|$)", README, re.M)
OF_TABLES = {file.read_text(encoding="utf-8").splitlines()[0].removeprefix("# mtlkit ") for file in RESULTS.iterdir()}


@pytest.mark.parametrize("command", [*COMMANDS, *sorted(OF_TABLES)])
def test_a_command_that_is_written_down_is_one(command):
    cli._parser().parse_args(shlex.split(command))


def test_readme_notebook_00_and_the_cards_give_the_same_minutes():
    folder = Path(__file__).parents[1] / "notebooks"
    said = dict(re.findall(r"^\| (\d\d) \| \[.*?\]\(.*?\) \| (\d+) \|", README, re.M))
    start = (folder / "00_start_here.ipynb").read_text(encoding="utf-8")
    table = dict(re.findall(r"\| (\d\d) \| \[[^|]*\| [^|]*\| (\d+) \|", start))
    cards = {
        file.name[:2]: found[1]
        for file in folder.glob("[0-9]*.ipynb")
        if (found := re.search(r"\*\*Time\*\* (\d+) minutes", file.read_text(encoding="utf-8")))
    }
    assert cards == table == {number: minutes for number, minutes in said.items() if number != "00"}
    assert len(said) == 16


def lines(code):
    return sum(bool(line.strip()) for line in code.splitlines())


def test_each_example_is_short_and_counted_right():
    ours, torchjd, libmtl, text, photos, own_loop = BLOCKS
    assert max(map(lines, (ours, text, photos))) <= 30 and lines(own_loop) == 2
    said = re.search(r"TorchJD \((\d+) lines; the ones above are (\d+)\) and in LibMTL \((\d+)\)", SECTION)
    assert [int(number) for number in said.groups()] == [lines(torchjd), lines(ours), lines(libmtl)]


@pytest.mark.parametrize("index", [0, 1, 3, 4])
def test_the_examples_run(index, tmp_path, capsys):
    """TorchJD's too; LibMTL is not installed."""
    code = BLOCKS[index]
    if index == 4:
        voc(tmp_path, 12, lambda k: [obj((5, 5, 40, 40), ("cat", "dog")[k % 2])])
        code = code.replace("FOLDER", tmp_path.as_posix()).replace("seconds=300", "steps=50")
    names = {}
    exec(compile(code, f"README, example {index}", "exec"), names)
    said = capsys.readouterr().out
    if index == 1:
        assert float(said.split()[1]) < 0.3 and float(said.split()[3]) > 0.9
        return
    scores = names["evaluate"](
        names.get("average", names["model"]), names["tasks"], names.get("unseen", names.get("samples"))
    )
    assert str(scores) in said and all(value == value for value in scores.values())
    if index == 0:
        assert scores["price/mae"] < 0.3 and scores["sold/accuracy"] > 0.9
    if index == 3:
        assert scores == {"topic/accuracy": 1, "mood/accuracy": 1}


def test_the_loop_of_ones_own_runs():
    import torch
    from torch import nn

    from mtlkit.weighting import UPGrad

    net = nn.ModuleDict({"trunk": nn.Linear(3, 4), "a": nn.Linear(4, 1), "b": nn.Linear(4, 1)})
    net.trunk, x = net["trunk"], torch.randn(5, 3)
    losses = [net[name](net["trunk"](x)).square().mean() for name in ("a", "b")]
    exec(BLOCKS[5], {"price_loss": losses[0], "sold_loss": losses[1], "net": net, "UPGrad": UPGrad})
    assert all(parameter.grad is not None for parameter in net.parameters())
