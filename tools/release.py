"""Build the wheel and the sdist, install each into a fresh environment with no repository near it, and run the demo.

    python tools/release.py --out dist                                        # with the Python that runs this
    python tools/release.py --out dist --python python3.11 --python python3.13
    python tools/release.py --out dist --borrow                               # minutes less: torch and the rest of here

Without `--borrow` pip installs all dependencies, as a user's would: gigabytes, from the index that pip is set to.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OUTPUTS = {"street_camvid.png", "street_camvid.overlay.jpg", "street_kitti.png", "street_kitti.overlay.jpg"}


def build_distributions(out: Path) -> tuple[Path, Path]:
    """Build the sdist, and the wheel from it, with the build tools of this environment; return both, wheel first."""
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT)]
    subprocess.run(build, check=True, stdout=subprocess.DEVNULL, timeout=600)
    newest = [max(out.glob(pattern), key=lambda path: path.stat().st_mtime) for pattern in ("*.whl", "*.tar.gz")]
    return newest[0], newest[1]


def run_installed(distribution: Path, python: str, borrow: bool = False) -> str:
    """Install a wheel or an sdist into a fresh environment and run `dilated demo` there; return what it printed.

    Args:
        distribution: the file.
        python: the interpreter that the environment is made with.
        borrow: let it import the packages of this environment, and install nothing but the distribution.

    Raises:
        subprocess.CalledProcessError: a step failed, with its output.
        RuntimeError: the demo wrote other files than it should, or imported another copy of the package.
    """
    with tempfile.TemporaryDirectory(prefix="dilated-release-") as name:
        folder = Path(name)
        _run(python, "-m", "venv", folder / "env", cwd=folder)
        scripts = folder / "env" / ("Scripts" if os.name == "nt" else "bin")
        pip = [scripts / "python", "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        if borrow:
            backend = importlib.util.find_spec("hatchling")
            folders = [sysconfig.get_path("purelib"), str(Path(backend.origin or "").parents[1]) if backend else ""]
            site = _run(scripts / "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder)
            (Path(site.strip()) / "borrowed.pth").write_text("\n".join(folders), encoding="utf-8")
            pip += ["--no-deps", "--no-build-isolation", "--ignore-installed"]
        _run(*pip, distribution, cwd=folder)
        code = "import dilated, pathlib; print(pathlib.Path(dilated.__file__).parents[1])"
        place = Path(_run(scripts / "python", "-c", code, cwd=folder).strip())
        if not place.resolve().is_relative_to(folder.resolve()):
            raise RuntimeError(f"{distribution.name}: the package is imported from {place}, not from the environment")
        shown = _run(scripts / "dilated", "--version", cwd=folder) + _run(scripts / "dilated", "demo", cwd=folder)
        written = {path.name for path in (folder / "demo").iterdir()}
        if written != OUTPUTS:
            raise RuntimeError(f"{distribution.name}: the demo wrote {sorted(written)}, not {sorted(OUTPUTS)}")
    return shown


def _run(*command: str | Path, cwd: Path) -> str:
    """Run a command that sees no repository; return what it printed."""
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")}
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=cwd, env=environment, text=True, capture_output=True, timeout=3600)
    if done.returncode:
        raise subprocess.CalledProcessError(done.returncode, words, done.stdout, f"{done.stdout}{done.stderr}")
    return done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("dist"), help="where the two files go")
    parser.add_argument("--python", action="append", help="an interpreter to try; may be given again")
    parser.add_argument(
        "--borrow", action="store_true", help="use the packages of this environment, for its own Python"
    )
    options = parser.parse_args()
    wheel, sdist = build_distributions(options.out)
    for python in options.python or [sys.executable]:
        for distribution in (wheel, sdist):
            try:
                version = run_installed(distribution, python, options.borrow).splitlines()[0]
            except subprocess.CalledProcessError as error:
                raise SystemExit(f"{distribution.name}, {python}: {' '.join(error.cmd)}\n{error.stderr}") from None
            print(f"{distribution.name}, {python}: {version}, the demo ran")


if __name__ == "__main__":
    main()
