"""The weighting methods as a family tree."""

from matplotlib import rc_context

from mtlkit.plots.style import BLUE, RED, STYLE, Picture

# what a method looks at → how it gets its weights → method → year, and what it is a special case of or made from
FAMILIES: dict[str, dict[str, dict[str, tuple[int, str]]]] = {
    "nothing: fixed or random": {
        "": {"EqualWeights": (0, ""), "StaticWeights": (0, ""), "RandomWeights": (2022, "the control")},
    },
    "losses": {
        "by a rule": {
            "GeometricMean": (2019, "the sum of the logarithms"),
            "DWA": (2019, "speed of the last windows"),
            "UWSO": (2024, "where Uncertainty would end"),
        },
        "the worst one": {
            "Tchebycheff": (1976, "SmoothTchebycheff at μ = 0"),
            "SmoothTchebycheff": (2024, "EqualWeights as μ grows"),
        },
        "learned beside the model": {
            "Uncertainty": (2018, "w about 1 / (2 l)"),
            "IMTLL": (2021, "ends at the sum of the logarithms"),
            "FAMO": (2023, "equal rates of log l"),
        },
    },
    "lengths of gradients": {
        "learned beside the model": {"GradNorm": (2018, "equal lengths, at one layer")},
        "by their history": {
            "ExcessMTL": (2024, "how far a task still has to go"),
            "DBMTL": (2023, "logarithms, then equal lengths"),
        },
    },
    "directions of gradients": {
        "changed one by one": {
            "GradDrop": (2020, "one sign per coordinate"),
            "PCGrad": (2020, "no part against the others"),
            "GradVac": (2021, "PCGrad with a moving target"),
        },
        "good for the worst off": {
            "MGDA": (2012, "the shortest in the hull"),
            "MGDAUB": (2018, "MGDA at the features"),
            "CAGrad": (2021, "the mean at c = 0"),
            "SDMGrad": (2023, "MGDA at λ = 0, the mean as λ grows"),
            "UPGrad": (2024, "half of PCGrad for two tasks"),
        },
        "fair to all": {
            "NashMTL": (2022, "a bargain"),
            "FairGrad": (2024, "NashMTL at α = 1"),
            "IMTLG": (2021, "equal projections"),
            "ConFIG": (2024, "IMTLG with another length"),
        },
        "made orthogonal": {"AlignedMTL": (2023, "equal lengths, no angles")},
    },
}


def method_tree() -> Picture:
    """Show every method of `mtlkit.weighting.METHODS` by what it looks at, with its year and its relatives."""
    lines = [(look, how, list(methods.items())) for look, hows in FAMILIES.items() for how, methods in hows.items()]
    total = sum(len(methods) for *_, methods in lines) + 0.6 * len(lines)
    with rc_context(STYLE):
        figure = Picture(figsize=(10, 0.24 * total))
        axes = figure.subplots()
        y, roots = 0.0, dict[str, list[float]]()
        for look, how, methods in lines:
            ends = [y - k for k in range(len(methods))]
            branch = sum(ends) / len(ends)
            roots.setdefault(look, []).append(branch)
            axes.text(0.30, branch, how, va="center")
            for end, (name, (year, note)) in zip(ends, methods, strict=True):
                axes.plot([0.50, 0.53, 0.55], [branch, end, end], color="0.6", linewidth=0.8)
                axes.text(
                    0.56, end, name, va="center", color=RED if look.endswith("gradients") else BLUE, weight="bold"
                )
                axes.text(0.75, end, f"{year or ''}", va="center", color="0.35", fontsize=8)
                axes.text(0.79, end, note, va="center", color="0.35", fontsize=8)
            y -= len(methods) + 0.6
        for look, branches in roots.items():
            middle = sum(branches) / len(branches)
            axes.text(0.0, middle, look, va="center", weight="bold")
            for branch in branches:
                axes.plot([0.24, 0.27, 0.29], [middle, branch, branch], color="0.6", linewidth=0.8)
        axes.set(xlim=(0, 1.05), ylim=(y + 0.4, 0.8))
        axes.axis("off")
    count = sum(len(methods) for *_, methods in lines)
    figure.alt = f"A tree of {count} weighting methods: " + "; ".join(
        f"{look}: {', '.join(name for methods in hows.values() for name in methods)}" for look, hows in FAMILIES.items()
    )
    return figure
