"""Imports go in one direction, and each hard thing has one owner: the table of docs/architecture.md, enforced."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = [p.relative_to(ROOT).as_posix() for top in ("replica", "solvers") for p in sorted((ROOT / top).rglob("*.py"))]

#: What only the files named may import.
OWNERS = {
    "h5py": {"solvers/store.py"},
    "concurrent": {"solvers/scan.py", "replica/workers.py", "replica/sweep.py"},
    "distributed": {"solvers/cluster.py"},
    "multiprocessing": {"replica/workers.py"},
    "adaptive": {"solvers/refine.py"},
    "cupy": {"replica/dense.py"},
    "bokeh": {"replica/explorer.py", "replica/export.py"},
    "numba": {
        f"solvers/{name}.py"
        for name in (
            "batch", "iteration", "newton", "kernels", "special", "spectra", "linear", "quadrature", "relaxation", "ode",
            "trajectory", "channels", "half_spaces", "label_slopes",
        )
    },
    "xarray": {"replica/results.py"},
    "matplotlib": {"replica/plotting.py", "replica/panels.py"},
    "click": {
        f"replica/{name}.py"
        for name in (
            "cli", "cli_branches", "cli_explore", "cli_files", "cli_giant_steps", "cli_mixture", "cli_optimise", "cli_refine",
            "cli_scan", "cli_spectrum", "cli_staircase", "cli_validate",
        )
    },
    "tqdm": {"replica/cli.py"},
    "pydantic": {"replica/config.py", "replica/inputs.py"},
    "solvers": {
        *(name for name in FILES if name.startswith("solvers/")),
        *(f"replica/{name}.py" for name in (
            "compile", "channel_kernel", "trajectories", "experiments", "results", "plotting", "cli", "balanced_network",
            "figures", "figures_srf", "branches_plot", "cli_branches", "cli_refine", "cli_scan", "stopping", "sensitivity",
            "optimise", "spectrum", "giant_steps/recursion", "giant_steps/files", "cli_giant_steps", "evaluations",
            "gradient_features/mixture", "gradient_features/parity", "gradient_features/dictionary", "cli_validate",
            "scan_validation", "sweep", "explorer", "export",
        )),
    },
}

#: Files whose path starts so, and what they may not import, themselves or inside a function.
FORBIDDEN = [
    ("solvers/", {"sympy", "replica"}),
    ("replica/models/", {
        "replica.compile", "replica.trajectories", "replica.lowering", "replica.printing", "replica.loss_kernel",
        "replica.channel_kernel", "replica.evaluations", "numba", "solvers",
    }),
    ("solvers/solve.py", {"solvers.scan", "solvers.store"}),
    ("solvers/store.py", {"solvers.solve", "solvers.scan"}),
    *(
        (f"solvers/{leaf}.py", {"solvers"})
        for leaf in ("special", "spectra", "linear", "quadrature", "result", "methods", "relaxation", "riccati", "half_spaces")
    ),
    ("solvers/problem.py", {"solvers"}),
]

#: The one upward call: `Model.compile` reaches the compiler when it is called, not when it is imported.
UPWARD = ("replica/model.py", "replica.compile")


def imports(name: str) -> set[str]:
    """Everything a file imports, absolute and dotted, inside functions too."""
    package = ["", *name.removesuffix(".py").split("/")][1:-1]
    found = set()
    for node in ast.walk(ast.parse((ROOT / name).read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join([*package[: len(package) + 1 - node.level], *filter(None, [node.module])])
            base = base if node.level else str(node.module)
            found |= {base} | {f"{base}.{alias.name}" for alias in node.names}
    return found


def within(found: str, package: str) -> bool:
    return found == package or found.startswith(package + ".")


@pytest.mark.parametrize("name", FILES)
def test_hard_things_are_imported_by_their_owners_only(name):
    wrong = {
        f for f in imports(name) for package, owners in OWNERS.items() if within(f, package) and name not in owners
    }
    assert not wrong, f"{name} imports {sorted(wrong)}"


@pytest.mark.parametrize("prefix, packages", FORBIDDEN, ids=[prefix for prefix, _ in FORBIDDEN])
def test_no_import_goes_up(prefix, packages):
    for name in FILES:
        if name.startswith(prefix) and not name.endswith("/__init__.py"):
            wrong = {f for f in imports(name) for package in packages if within(f, package)}
            assert not wrong, f"{name} imports {sorted(wrong)}"


def test_the_one_upward_call_is_made_inside_a_function():
    name, target = UPWARD
    assert target in imports(name)
    top_level = [node for node in ast.parse((ROOT / name).read_text()).body if isinstance(node, ast.ImportFrom)]
    assert not [node for node in top_level if node.module == "compile"]


def test_importing_the_solvers_loads_no_symbols():
    """The same claim at run time: a worker starts without sympy."""
    import subprocess
    import sys

    code = "import sys, solvers; print([m for m in ('sympy', 'replica', 'xarray', 'matplotlib') if m in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert loaded.strip() == "[]"
