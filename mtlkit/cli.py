"""The command line: `mtlkit train | memory | evaluate | report | data | bench | experiments | doctor | ...`."""

import argparse
import io
import json
import os
import re
import secrets
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mtlkit import __version__
from mtlkit.bench import NAMES as BENCHES


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status: 0, 1 for an error said in words, 2 for wrong usage, 130 for Ctrl-C."""
    options = _parser().parse_args(arguments)
    warnings.showwarning = _notes()  # type: ignore[assignment]
    for stream in (sys.stdout, sys.stderr):  # an old console does not know every letter of a class's name
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if (here := os.getcwd()) not in sys.path:
        sys.path.append(here)  # a case of one's own: my_module:CASE
    from mtlkit.data import DataError, DownloadError
    from mtlkit.machine import ParallelError
    from mtlkit.training import CheckpointError, TrainingError

    try:
        return options.run(options)
    except (CheckpointError, DataError, DownloadError, ParallelError, TrainingError, ValueError) as error:
        print(f"mtlkit: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # who reads has enough, as in `mtlkit data look FOLDER | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("\nmtlkit: interrupted", file=sys.stderr)
        return 130


def _notes() -> Callable[..., None]:
    """Return what says a warning as what it is for who runs a command: a note, once."""
    said: set[str] = set()

    def note(message: Warning | str, category: type[Warning], *_: Any) -> None:
        if issubclass(category, UserWarning) and str(message) not in said:
            said.add(str(message))
            print(f"mtlkit: note: {message}", file=sys.stderr)

    return note


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("mtlkit", description="Learn multi-task learning by steering it.")
    parser.add_argument("--version", action="version", version=f"mtlkit {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    train = commands.add_parser("train", help="train a case and print the scores")
    _add_case_options(train, "scenes")
    train.add_argument(
        "--seconds", type=_positive, help="train for this many seconds (default: the case's own, 60 on scenes)"
    )
    train.add_argument("--epochs", type=_positive, help="train for this many passes over the data")
    train.add_argument("--steps", type=_whole, help="train for this many steps; the first limit reached ends it")
    train.add_argument(
        "--weights",
        type=_weights,
        help="loss weights, e.g. classify=1,detect=1 (default: the case's own)",
    )
    _add_setup_options(train)
    train.add_argument("--precision", choices=("auto", "float32", "bfloat16", "float16"), default="auto")
    train.add_argument(
        "--compile", nargs="?", const="default", help="mode of torch.compile; reduce-overhead: CUDA graphs"
    )
    train.add_argument(
        "--timeout", type=_positive, default=60.0, help="under torchrun: seconds until a silent process counts as gone"
    )
    train.add_argument("--out", type=Path, help="folder for checkpoint.safetensors, written now and then and last")
    train.add_argument("--save-every", type=_positive, default=30.0, help="seconds between checkpoints (default: 30)")
    train.add_argument("--resume", action="store_true", help="continue the run in --out, with its data and model")
    train.add_argument("--picture", type=Path, help="draw test images with boxes and the loss curves into this file")
    _add_run_options(train)
    train.set_defaults(run=_command("train"))

    memory = commands.add_parser(
        "memory", help="predict the memory that training takes, on any device, without training"
    )
    _add_case_options(memory, "scenes")
    _add_setup_options(memory)
    memory.set_defaults(weights=None)
    memory.add_argument("--json", action="store_true", help="print one JSON object")
    memory.set_defaults(run=_command("memory"))

    evaluate = commands.add_parser("evaluate", help="score a checkpoint on test data")
    evaluate.add_argument("checkpoint", type=Path)
    _add_case_options(evaluate, None)
    _add_run_options(evaluate)
    evaluate.set_defaults(run=_command("evaluate"))

    report = commands.add_parser("report", help="write a report card of a checkpoint, one HTML file")
    report.add_argument("checkpoint", type=Path)
    _add_case_options(report, None)
    report.add_argument("--out", type=Path, default=Path("report.html"), help="the file (default: report.html)")
    report.add_argument("--draws", type=_whole, default=200, help="draws of the bootstrap over samples (default: 200)")
    report.add_argument("--note", action="append", help="a line that says what was tuned on what; may be repeated")
    report.set_defaults(run=_command("report"))

    data = commands.add_parser("data", help="list, download or export data sets").add_subparsers(
        required=True, metavar="ACTION"
    )
    data.add_parser("list", help="list cases and downloads").set_defaults(run=_data_list)
    get = data.add_parser("get", help="download, check and unpack")
    get.add_argument("name")
    get.add_argument("--folder", type=Path, help="data folder (default: data/, or $MTLKIT_DATA)")
    get.set_defaults(run=_data_get)
    look = data.add_parser("look", help="show what is in a folder of photographs, and what looks wrong")
    look.add_argument("folder", type=Path)
    look.add_argument(
        "--picture", type=Path, default=Path("look.png"), help="a sheet of photographs (default: look.png)"
    )
    look.set_defaults(run=_command("look"))
    export = data.add_parser("export", help="write scenes to disk in a known layout")
    export.add_argument("folder", type=Path)
    export.add_argument("--layout", choices=("coco", "voc", "imagefolder"), default="coco")
    export.add_argument("--split", choices=("train", "val", "test"), default="train")
    export.add_argument("--n", type=_whole, default=100, help="number of scenes")
    export.add_argument("--size", type=_whole, default=64)
    export.add_argument("--seed", type=_seed, default=0)
    export.add_argument("--scene-class", default="texture")
    export.set_defaults(run=_data_export)

    bench = commands.add_parser("bench", help="run a benchmark: contestants side by side in one run")
    bench.add_argument("what", choices=BENCHES)
    bench.add_argument("--seconds", type=_positive, default=60.0, help="budget of each contestant; length of the soak")
    bench.add_argument("--case", default="scenes", help="the case for quality, sharing, training, live and soak")
    bench.add_argument("--photos", type=Path, help="folder with oxford-iiit-pet/ and bccd/, for 'photos'")
    bench.add_argument("--figures", type=Path, help="folder for numbers and a picture of 'training', e.g. figures")
    bench.add_argument("--device", default="cpu", help="where 'weighting' and 'training' compute: cpu, cuda, ...")
    bench.add_argument("--json", action="store_true", help="the last line is one JSON object (it always is)")
    bench.set_defaults(run=_bench)

    experiments = commands.add_parser("experiments", help="run an experiment over many seeds into data/results/")
    kinds = ("weighting", "text", "claims", "architectures", "fields", "insight", "frontiers")
    experiments.add_argument("what", choices=kinds)
    experiments.add_argument(
        "--case", "--problem", action="append", help="for weighting: any case (default: multimnist and scenes)"
    )
    experiments.add_argument(
        "--workers", type=_whole, help="runs side by side (default: one per core, or 1 where seconds are the budget)"
    )
    experiments.add_argument(
        "--seeds", type=_whole, help="number of seeds (default: 10 for weighting and claims, else 5)"
    )
    experiments.set_defaults(run=_experiments)

    progress = commands.add_parser("progress", help="show which exercises and questions you have solved so far")
    progress.add_argument("--forget", action="store_true", help="delete the file that records it")
    progress.set_defaults(run=_progress)

    doctor = commands.add_parser("doctor", help="check whether everything that the course needs is here")
    doctor.set_defaults(run=_doctor)

    figures = commands.add_parser("figures", help="redraw every picture of the README")
    figures.add_argument("--folder", type=Path, default=Path("figures"))
    figures.set_defaults(run=_figures)

    export = commands.add_parser("export", help="write the course for a class: for students, nbgrader or otter-grader")
    form = export.add_mutually_exclusive_group(required=True)
    form.add_argument("--student", type=Path, metavar="DIR", help="notebooks without solutions and last hints")
    form.add_argument("--nbgrader", type=Path, metavar="DIR", help="a course directory for nbgrader")
    form.add_argument("--otter", type=Path, metavar="DIR", help="notebooks for otter assign")
    export.add_argument(
        "--only", nargs="+", default=[], metavar="NN", help="only these notebooks, such as 02 05 (default: all)"
    )
    export.add_argument(
        "--allow", nargs="+", default=[], metavar="ID", help="show students the solutions of these, e.g. 02 03.1"
    )
    export.add_argument("--seed", type=_whole, help="seed of the hidden draws (default: a random one)")
    export.add_argument("--notebooks", type=Path, default=Path("notebooks"), help="folder of the course's notebooks")
    export.set_defaults(run=_export)
    return parser


def _add_case_options(parser: argparse.ArgumentParser, default: str | None) -> None:
    parser.add_argument(
        "--case",
        "--data",
        default=default,
        help="scenes, multimnist, text, pets, pets:FOLDER, voc:FOLDER, coco:FOLDER, or your own: my_module:CASE",
    )
    parser.add_argument(
        "--knob", type=_knob, action="append", metavar="NAME=VALUE", help="set a knob of the case; may be repeated"
    )
    parser.add_argument("--scene-class", help="knob of scenes, what a scene's label says: texture, count or random")
    parser.add_argument("--image-class", help="knob of voc and coco: largest or contains:NAME")
    parser.add_argument("--repair", action="store_true", default=None, help="knob of photographs: mend wrong boxes")
    parser.add_argument("--encoder", help="knob of images: conv or resnet18")
    parser.add_argument("--scenes", type=_whole, help="knob of scenes: number of training scenes")
    parser.add_argument("--size", type=_whole, help="knob of images: side in pixels")


def _add_setup_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--batch-size", type=_whole, help="samples in a batch (default: the case's own)")
    parser.add_argument("--seed", type=_seed, help="seed of data, initialisation and order")
    parser.add_argument("--method", help="weighting method, a name in mtlkit.weighting (default: StaticWeights)")
    parser.add_argument(
        "--accumulate", type=_whole, default=1, help="process each batch in this many parts: less memory"
    )
    parser.add_argument("--recompute", action="store_true", help="activation checkpointing: less memory, slower")


def _add_run_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")


def _positive(text: str) -> float:
    try:
        if 0 < float(text) < float("inf"):
            return float(text)
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")


def _whole(text: str, least: int = 1) -> int:
    if not re.fullmatch(r"\d+", text) or int(text) < least:
        raise argparse.ArgumentTypeError(f"expected a whole number, {least} or more, got {text!r}")
    return int(text)


def _seed(text: str) -> int:
    return _whole(text, least=0)


def _knob(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE, got {text!r}")
    return name.replace("-", "_"), value


def _weights(text: str) -> dict[str, float]:
    try:
        return {name: float(value) for name, value in (part.split("=") for part in text.split(","))}
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected task=weight,task=weight, got {text!r}") from None


def _command(name: str) -> Callable[[argparse.Namespace], int]:
    """Return a command of `mtlkit.commands`, imported when it is run: torch takes seconds."""

    def run(options: argparse.Namespace) -> int:
        from mtlkit import commands

        return getattr(commands, name)(options)

    return run


def _data_list(_: argparse.Namespace) -> int:
    from mtlkit.cases import CASES
    from mtlkit.data.download import SOURCES, data_folder

    print("cases (mtlkit train --case NAME):")
    for case in CASES.values():
        print(f"  {case.name:<11}{case.about}")
    print("downloads (mtlkit data get NAME):")
    for name, source in SOURCES.items():
        here = " (here)" if (data_folder() / source.folder).is_dir() else ""
        print(f"  {name:<11}{source.about}{here}")
    return 0


def _data_get(options: argparse.Namespace) -> int:
    from mtlkit.data.download import get

    folder = get(options.name, options.folder)
    found = next(folder.rglob("Annotations"), folder).parent
    cases = {"pets": "pets", "sentiment": f"snippets:{folder}", "fsdd": f"speech:{folder}", "bccd": f"cells:{found}"}
    data = cases.get(options.name, f"voc:{found}")
    print(f"ready in {folder}; train with: mtlkit train --case {data}")
    return 0


def _data_export(options: argparse.Namespace) -> int:
    from mtlkit.data import DigitScenes, export

    scenes = DigitScenes(options.split, options.n, options.size, options.seed, scene_class=options.scene_class)
    print(f"wrote {options.n} scenes to {export(scenes, options.folder, options.layout, options.split)}")
    return 0


def _bench(options: argparse.Namespace) -> int:
    from mtlkit import bench

    names = ("what", "seconds", "photos", "figures", "case", "device")
    print(json.dumps(bench.run(**{name: getattr(options, name) for name in names})))
    return 0


def _experiments(options: argparse.Namespace) -> int:
    from mtlkit import experiments

    for experiment in experiments.experiments_of(options.what, options.case):
        seeds = experiment.seeds or options.seeds or experiments.SEEDS[options.what]
        for _ in experiments.run(experiment, seeds, workers=options.workers):
            pass
        print(f"{experiment.file()} is complete")
    return 0


def _progress(options: argparse.Namespace) -> int:
    from mtlkit.exercises import tell_progress

    tell_progress(forget=options.forget)
    return 0


def _doctor(_: argparse.Namespace) -> int:
    from mtlkit.upkeep.doctor import examine

    return 0 if examine() else 1


def _export(options: argparse.Namespace) -> int:
    from mtlkit.upkeep import export

    seed = options.seed or secrets.randbelow(10**6)
    if options.student:
        files = export.export_student(options.student, options.notebooks, options.only, options.allow)
    elif options.nbgrader:
        files = export.export_nbgrader(options.nbgrader, options.notebooks, options.only, seed=seed)
    else:
        files = export.export_otter(options.otter, options.notebooks, options.only, seed=seed)
    for file in files:
        print(f"wrote {file}")
    return 0


def _figures(options: argparse.Namespace) -> int:
    from mtlkit.upkeep.figures import draw_all

    for file in draw_all(options.folder):
        print(f"drew {file}")
    return 0
