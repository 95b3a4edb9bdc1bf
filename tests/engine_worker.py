"""A script of the page on other loops, as a process of two runs it: `python engine_worker.py ENGINE FOLDER [trap]`.

The last parameters of each process are left in FOLDER.
"""

import os
import re
import sys
from pathlib import Path

import torch

PAGE = (Path(__file__).parents[1] / "notebooks" / "other_loops.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.S)
ENGINES = dict(zip(("accelerate", "fabric", "ray"), BLOCKS[1:4], strict=True))
SAVE = "torch.save([p.detach() for p in model.parameters()], f'{FOLDER}/{group.rank}.pt')\n"
TRAPS = {
    "inner": ("group.prepare(model)", "inner, model = model, accelerator.prepare(model)", "inner)"),
    "wrapped": ("group.prepare(model)", "model = accelerator.prepare(model)", "model)"),
}


def script(engine: str, trap: str = "") -> str:
    """Return a script of the page, which leaves its parameters; or one that steps into the trap."""
    code = ENGINES[engine]
    if trap:
        old, new, model = TRAPS[trap]
        code = code.replace(old, new).replace("model, group)", model)
    if engine == "ray":
        code = code.replace("\n\n\nray.train", f"\n    {SAVE}\n\nray.train")
    else:
        code += SAVE
    return f"{BLOCKS[0]}\nFOLDER = {os.environ['LEFT_IN']!r}\n{code}"


if __name__ == "__main__":
    os.environ["LEFT_IN"] = sys.argv[2]
    torch.set_num_threads(1)
    exec(compile(script(sys.argv[1], *sys.argv[3:]), sys.argv[1], "exec"), {"__name__": "__main__"})
