"""The command line: `mtlkit train | memory | evaluate | data | bench | experiments | doctor | figures`."""

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from mtlkit import __version__
from mtlkit.bench import NAMES as BENCHES

CHECKPOINT = "checkpoint.safetensors"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status: 0, 1 for an error said in words, 2 for wrong usage, 130 for Ctrl-C."""
    options = _parser().parse_args(arguments)
    from mtlkit.checkpoints import CheckpointError
    from mtlkit.data import DataError, DownloadError
    from mtlkit.parallel import ParallelError
    from mtlkit.training import TrainingError

    try:
        return options.run(options)
    except (CheckpointError, DataError, DownloadError, ParallelError, TrainingError, ValueError) as error:
        print(f"mtlkit: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nmtlkit: interrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("mtlkit", description="Learn multi-task learning by steering it.")
    parser.add_argument("--version", action="version", version=f"mtlkit {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    train = commands.add_parser("train", help="train classification + detection and print the scores")
    _add_data_options(train, "scenes")
    train.add_argument("--seconds", type=_positive, help="train for so many seconds (default: 60)")
    train.add_argument("--epochs", type=_positive, help="train for so many passes over the data")
    train.add_argument("--steps", type=int, help="train for so many steps")
    train.add_argument(
        "--weights",
        type=_weights,
        help="loss weights, e.g. classify=1,detect=1 (default: 1, but classify=0.2 on scenes)",
    )
    _add_recipe_options(train)
    train.add_argument("--precision", choices=("auto", "float32", "bfloat16", "float16"), default="auto")
    train.add_argument(
        "--compile", nargs="?", const="default", help="mode of torch.compile; reduce-overhead: CUDA graphs"
    )
    train.add_argument(
        "--timeout", type=_positive, default=60.0, help="under torchrun: seconds until a silent process counts as gone"
    )
    train.add_argument("--out", type=Path, help=f"folder for {CHECKPOINT}, written now and then and at the end")
    train.add_argument("--save-every", type=_positive, default=30.0, help="seconds between checkpoints (default: 30)")
    train.add_argument("--resume", action="store_true", help="go on with the run in --out; its data and model are kept")
    train.add_argument("--picture", type=Path, help="draw test images with boxes and the loss curves into this file")
    _add_run_options(train)
    train.set_defaults(run=_train)

    memory = commands.add_parser(
        "memory", help="predict the memory that training takes, on any device, without training"
    )
    _add_data_options(memory, "scenes")
    _add_recipe_options(memory)
    memory.add_argument("--json", action="store_true", help="print one JSON object")
    memory.set_defaults(run=_memory)

    evaluate = commands.add_parser("evaluate", help="score a checkpoint on test data")
    evaluate.add_argument("checkpoint", type=Path)
    _add_data_options(evaluate, None)
    _add_run_options(evaluate)
    evaluate.set_defaults(run=_evaluate)

    data = commands.add_parser("data", help="list, download or export data sets").add_subparsers(
        required=True, metavar="ACTION"
    )
    data.add_parser("list", help="what there is").set_defaults(run=_data_list)
    get = data.add_parser("get", help="download, check and unpack")
    get.add_argument("name")
    get.add_argument("--folder", type=Path, help="data folder (default: data/, or $MTLKIT_DATA)")
    get.set_defaults(run=_data_get)
    export = data.add_parser("export", help="write scenes to disk in a known layout")
    export.add_argument("folder", type=Path)
    export.add_argument("--layout", choices=("coco", "voc", "imagefolder"), default="coco")
    export.add_argument("--split", choices=("train", "val", "test"), default="train")
    export.add_argument("--n", type=int, default=100, help="number of scenes")
    export.add_argument("--size", type=int, default=64)
    export.add_argument("--seed", type=int, default=0)
    export.add_argument("--scene-class", default="texture")
    export.set_defaults(run=_data_export)

    bench = commands.add_parser("bench", help="measure, side by side in one run")
    bench.add_argument("what", choices=BENCHES)
    bench.add_argument("--seconds", type=_positive, default=60.0, help="budget of each contestant; length of the soak")
    bench.add_argument("--photos", type=Path, help="folder with oxford-iiit-pet/ and bccd/, for 'photos'")
    bench.add_argument("--figures", type=Path, help="folder for numbers and picture of 'training', e.g. figures")
    bench.add_argument("--json", action="store_true", help="the last line is one JSON object (it always is)")
    bench.set_defaults(run=_bench)

    experiments = commands.add_parser("experiments", help="run an experiment over many seeds into data/results/")
    experiments.add_argument("what", choices=("weighting",))
    experiments.add_argument("--problem", choices=("multimnist", "scenes"), action="append", help="default: all")
    experiments.add_argument("--seeds", type=int, default=10, help="number of seeds (default: 10)")
    experiments.set_defaults(run=_experiments)

    doctor = commands.add_parser("doctor", help="say whether everything is here that the course needs")
    doctor.set_defaults(run=_doctor)

    figures = commands.add_parser("figures", help="draw every picture of the README again")
    figures.add_argument("--folder", type=Path, default=Path("figures"))
    figures.set_defaults(run=_figures)
    return parser


def _add_data_options(parser: argparse.ArgumentParser, default: str | None) -> None:
    parser.add_argument("--data", default=default, help="scenes, pets, pets:FOLDER, voc:FOLDER or coco:FOLDER")
    parser.add_argument("--scene-class", choices=("texture", "count", "random"), help="what a scene's label says")
    parser.add_argument("--image-class", help="for voc and coco: largest or contains:NAME")
    parser.add_argument("--repair", action="store_true", default=None, help="cut or leave out wrong boxes")


def _add_recipe_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--encoder", choices=("conv", "resnet18"), help="default: conv; resnet18 for pets")
    parser.add_argument("--scenes", type=int, help="number of training scenes (default: 20000)")
    parser.add_argument("--size", type=int, help="side of the images in pixels")
    parser.add_argument("--batch-size", type=int, help="images in a batch")
    parser.add_argument("--seed", type=int, help="of data, initialisation and order")
    parser.add_argument("--method", help="weighting method, a name in mtlkit.weighting (default: StaticWeights)")
    parser.add_argument("--accumulate", type=int, default=1, help="go through each batch in so many parts: less memory")
    parser.add_argument("--recompute", action="store_true", help="activation checkpointing: less memory, slower")


def _add_run_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")


def _positive(text: str) -> float:
    if not 0 < float(text) < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text}")
    return float(text)


def _weights(text: str) -> dict[str, float]:
    try:
        return {name: float(value) for name, value in (part.split("=") for part in text.split(","))}
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected task=weight,task=weight, got {text!r}") from None


def _train(options: argparse.Namespace) -> int:
    from mtlkit.parallel import joined
    from mtlkit.training import pick_device

    options.device = pick_device(options.device)
    with joined(options.device, options.timeout) as group:
        return _train_together(options, group)


def _train_together(options: argparse.Namespace, group: Any) -> int:
    """Train as one of the processes of `group`; only the first writes, scores and speaks."""
    import torch

    from mtlkit.checkpoints import load_checkpoint, save_checkpoint
    from mtlkit.recipe import Case
    from mtlkit.training import evaluate

    first = group.rank == 0
    file = _writable(options.out) / CHECKPOINT if options.out else None
    if options.picture:
        _writable(options.picture.parent)
    if int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)) and file and file.exists():
        options.resume = True
    recipe = _recipe(options, file)
    case = Case(recipe, options.weights, group=group)
    if options.device.type == "cuda" and hasattr(case.train_set, "to"):
        case.train_set.to(options.device)
    train_set = case.train_set
    config = asdict(recipe) | {"classes": train_set.classes, "box_classes": train_set.box_classes}
    parts: dict[str, Any] = {
        name: getattr(case, name) for name in ("model", "average", "optimizer", "weighting", "loader")
    }
    before = None
    if options.resume and file:
        before = load_checkpoint(file, **parts)
        case.weighting.weights.update(options.weights or {})
    parameters = sum(p.numel() for p in case.model.parameters())
    if first:
        print(
            f"{len(train_set)} images of {recipe.size} px, {len(train_set.classes)} image classes "
            f"({train_set.label_origin}), {len(train_set.box_classes)} box classes; {parameters:,} parameters"
            + (f"; {group.size} processes" if group.size > 1 else "")
            + (f"; going on after step {before.step}" if before else ""),
            flush=True,
        )

    def save(record: Any) -> None:
        if file and first:
            save_checkpoint(file, record, config, **parts)

    records, interrupted = _train_and_save(case, options, before, save, group)
    if not first:
        return 130 if interrupted else 0
    if interrupted:
        kept = f"; go on with: mtlkit train --resume --out {options.out}" if file else " (no --out: nothing was kept)"
        print(f"\nmtlkit: stopped after step {records[-1].step}{kept}", file=sys.stderr)
        return 130

    test_set = recipe.open("test")
    scores = evaluate(case.average, case.tasks, test_set, device=options.device)
    if options.picture:
        from mtlkit import plots

        plots.run(records, case.average, test_set, scores).savefig(options.picture, dpi=100)
        print(f"drew {options.picture}")
    trained = records[-1].seconds - (before.seconds if before else 0)
    report = scores | {
        "steps": records[-1].step,
        "seconds": round(records[-1].seconds, 2),
        "images_per_second": round(len(records) * case.loader.batch_size / trained, 1),
        "parameters": parameters,
        "image_class": train_set.label_origin,
    }
    if options.device.type == "cuda":
        report["peak_memory_mb"] = round(torch.cuda.max_memory_allocated(options.device) / 1e6, 1)
    _report(report, options.json)
    return 0


def _memory(options: argparse.Namespace) -> int:
    from mtlkit.memory import predict_memory
    from mtlkit.recipe import Case

    recipe = _recipe(options)
    case = Case(replace(recipe, scenes=recipe.batch_size))
    how = {"accumulate": options.accumulate, "recompute": options.recompute}
    found = predict_memory(case.model, case.tasks, next(case.loader), lambda: case.weighting, **how)
    _report({f"{name}_mb": round(size / 1e6, 2) for name, size in found.items()}, options.json)
    return 0


def _recipe(options: argparse.Namespace, file: Path | None = None) -> Any:
    """Return the recipe that the options ask for, or that of the run which is resumed."""
    from mtlkit.checkpoints import read_checkpoint
    from mtlkit.recipe import Recipe

    if getattr(options, "resume", False):
        if file is None:
            raise ValueError("--resume needs --out: the folder that holds the checkpoint")
        config = read_checkpoint(file).config
        return Recipe(**{name: value for name, value in config.items() if name not in ("classes", "box_classes")})
    names = ("size", "encoder", "batch_size", "seed", "scenes", "scene_class", "image_class", "repair", "method")
    return Recipe.for_data(options.data, **{name: getattr(options, name) for name in names})


def _train_and_save(
    case: Any, options: argparse.Namespace, before: Any, save: Callable[[Any], None], group: Any
) -> tuple[list[Any], bool]:
    """Train with a progress bar; save now and then and at the end.

    Ctrl-C, or being told to end, stops it after the step that is under way. But `torchrun` tells a process to end when
    another one is gone: no step will be finished then.
    """
    from tqdm import tqdm

    from mtlkit.data import DataError
    from mtlkit.training import train

    limits = _limits(options, case.loader.batches_per_epoch)
    by_steps = "steps" in limits
    bar = tqdm(
        total=limits["steps"] if by_steps else limits["seconds"],
        unit="step" if by_steps else "s",
        disable=True if group.rank else None,
        bar_format="{percentage:3.0f}%|{bar:30}| {n:.0f}/{total:.0f} {unit}{postfix}",
    )
    parts = (case.model, case.tasks, case.loader, case.weighting, case.optimizer)
    running = train(
        *parts,
        average=case.average,
        device=options.device,
        precision=options.precision,
        accumulate=options.accumulate,
        recompute=options.recompute,
        compile=options.compile,
        after=before,
        group=group,
        **limits,
    )
    records: list[Any] = []
    saved, shown = float("-inf"), time.monotonic()  # saved after the first step too: a full disk shows at once
    interrupted: list[int] = []

    def end(number: int, _: Any) -> None:
        if number == signal.SIGTERM and group.size > 1:
            raise group.broken("told to end by torchrun")
        interrupted.append(number)

    previous = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        for record in running:
            records.append(record)
            bar.n = min(record.step if by_steps else record.seconds, bar.total)
            if time.monotonic() - shown > 0.5:
                shown = time.monotonic()
                bar.set_postfix_str(" ".join(f"{name} {loss:.3f}" for name, loss in record.losses.items()))
            if group.any(bool(interrupted)):
                interrupted.append(signal.SIGINT)
                break
            if time.monotonic() - saved > options.save_every:
                save(record)
                saved = time.monotonic()
    except DataError:  # a bad image in the middle of the night: keep what was learned
        if records:
            save(records[-1])
        raise
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        bar.close()
    if not records:
        raise ValueError("the checkpoint has already come this far: give more --seconds, --epochs or --steps")
    save(records[-1])
    return records, bool(interrupted)


def _limits(options: argparse.Namespace, batches_per_epoch: int) -> dict[str, Any]:
    if options.epochs:
        return {"steps": max(1, round(options.epochs * batches_per_epoch))}
    return {"steps": options.steps} if options.steps else {"seconds": options.seconds or 60.0}


def _writable(folder: Path) -> Path:
    """Make the folder and try it now, not after an hour of training."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        raise ValueError(f"cannot write to {folder}: {error.strerror}; choose another folder") from error


def _report(report: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps({name: None if value != value else value for name, value in report.items()}))
        return
    for name, value in report.items():
        print(f"{name:<18} {value:.3f}" if isinstance(value, float) else f"{name:<18} {value}")


def _evaluate(options: argparse.Namespace) -> int:
    from torch.optim.swa_utils import AveragedModel

    from mtlkit.checkpoints import CheckpointError, load_checkpoint, read_checkpoint
    from mtlkit.recipe import Recipe
    from mtlkit.tasks import classification_and_detection
    from mtlkit.training import evaluate

    config = dict(read_checkpoint(options.checkpoint).config)
    classes, box_classes = config.pop("classes"), config.pop("box_classes")
    for name in ("data", "scene_class", "image_class", "repair"):
        config[name] = getattr(options, name) or config[name]
    recipe = Recipe(**config)
    model = AveragedModel(recipe.model(len(classes), len(box_classes)))
    load_checkpoint(options.checkpoint, average=model)
    test_set = recipe.open("test")
    if list(test_set.classes) != classes or list(test_set.box_classes) != box_classes:
        raise CheckpointError(
            f"{options.checkpoint} knows the classes {', '.join(classes)} and {', '.join(box_classes)}; this data has "
            f"{', '.join(test_set.classes)} and {', '.join(test_set.box_classes)}"
        )
    _report(evaluate(model, classification_and_detection(box_classes), test_set, device=options.device), options.json)
    return 0


def _data_list(_: argparse.Namespace) -> int:
    from mtlkit.data.download import SOURCES, data_folder

    print("scenes   DigitScenes: made in memory from packaged MNIST digits; no download")
    for name, source in SOURCES.items():
        here = " (here)" if (data_folder() / source.folder).is_dir() else ""
        print(f"{name:<8} {source.about}{here}")
    return 0


def _data_get(options: argparse.Namespace) -> int:
    from mtlkit.data.download import get

    folder = get(options.name, options.folder)
    data = "pets" if options.name == "pets" else f"voc:{next(folder.rglob('Annotations')).parent}"
    print(f"ready in {folder}; train with: mtlkit train --data {data}")
    return 0


def _data_export(options: argparse.Namespace) -> int:
    from mtlkit.data import DigitScenes, export

    scenes = DigitScenes(options.split, options.n, options.size, options.seed, scene_class=options.scene_class)
    print(f"wrote {options.n} scenes to {export(scenes, options.folder, options.layout, options.split)}")
    return 0


def _bench(options: argparse.Namespace) -> int:
    from mtlkit import bench

    print(json.dumps(bench.run(options.what, options.seconds, options.photos, options.figures)))
    return 0


def _experiments(options: argparse.Namespace) -> int:
    from mtlkit import experiments

    for outcome in experiments.weighting(options.problem or (), options.seeds):
        print(f"{outcome.problem} {outcome.setting} seed {outcome.seed}: test {outcome.test}", flush=True)
    return 0


def _doctor(_: argparse.Namespace) -> int:
    from mtlkit.doctor import examine

    return 0 if examine() else 1


def _figures(options: argparse.Namespace) -> int:
    from mtlkit.figures import draw_all

    for file in draw_all(options.folder):
        print(f"drew {file}")
    return 0
