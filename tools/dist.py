"""Build wheel and source archive reproducibly, and try the wheel where nothing else is: python -m tools.dist"""
from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def run(*command: object, cwd: Path = ROOT, **environment: str) -> str:
    """Output of a command, which must succeed."""
    return subprocess.run([str(part) for part in command], cwd=cwd, check=True, text=True, stdout=subprocess.PIPE,
                          env={**os.environ, **environment}).stdout


def unpack_commit(folder: Path, *paths: str) -> None:
    """Files of the last commit, whatever stands in the working tree."""
    folder.mkdir()
    archive = folder.with_suffix(".tar")
    run("git", "archive", "--output", archive, "HEAD", *paths)
    shutil.unpack_archive(archive, folder)


def build(folder: Path) -> list[Path]:
    """Wheel and source archive of the last commit; every time in them is the commit's."""
    epoch = run("git", "log", "-1", "--format=%ct").strip()
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch) / "source"
        unpack_commit(source)
        for file in source.rglob("*"):
            os.utime(file, (int(epoch), int(epoch)))
        environment = Path(scratch) / "build"
        venv.create(environment, with_pip=True)
        run(environment / "bin" / "python", "-m", "pip", "install", "--quiet", "build")
        run(environment / "bin" / "python", "-m", "build", "--outdir", folder, source, SOURCE_DATE_EPOCH=epoch)
    for path in folder.glob("mindarmour-*.tar.gz"):
        rewrite(path, int(epoch))
    return sorted(folder.glob("mindarmour-*"))


def rewrite(path: Path, epoch: int) -> None:
    """The same archive without what depends on the machine and the moment: order, owners, times."""
    with tarfile.open(path) as archive:
        members = [(member, archive.extractfile(member).read() if member.isfile() else b"") for member in archive]
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for member, data in sorted(members, key=lambda pair: pair[0].name):
            plain = tarfile.TarInfo(member.name)
            plain.type, plain.size, plain.mtime = member.type, len(data), epoch
            plain.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
            archive.addfile(plain, io.BytesIO(data))
    path.write_bytes(gzip.compress(content.getvalue(), mtime=epoch))


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def try_wheel(wheel: Path) -> None:
    """Install the wheel in an empty environment; version, an epsilon, and the demo's network from there."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        venv.create(folder / "empty", with_pip=True)
        python = folder / "empty" / "bin" / "python"
        run(python, "-m", "pip", "install", "--quiet", f"{wheel}[pld,examples]")
        print(run(folder / "empty" / "bin" / "mindarmour", "--version", cwd=folder).strip())
        print(run(python, "-c", "import mindarmour; print(mindarmour.__file__)", cwd=folder).strip())
        unpack_commit(folder / "commit", "examples")
        print(run(python, "-m", "examples.privacy.diff_privacy.demo", "--epochs", "5", cwd=folder / "commit").strip())


def main(folder: Path, tries: bool) -> None:
    """Build twice, compare, and try the wheel."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("mindarmour-*"):
        old.unlink()
    files = build(folder)
    with tempfile.TemporaryDirectory() as scratch:
        again = build(Path(scratch))
        different = [one.name for one, two in zip(files, again) if digest(one) != digest(two)]
    for file in files:
        print(f"{digest(file)}  {file.name}")
    if different:
        sys.exit(f"Two builds of one commit differ in {', '.join(different)}.")
    if tries:
        try_wheel(next(file for file in files if file.suffix == ".whl"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=ROOT / "dist")
    parser.add_argument("--build-only", action="store_true", help="do not install the wheel anywhere")
    arguments = parser.parse_args()
    main(arguments.output, not arguments.build_only)
