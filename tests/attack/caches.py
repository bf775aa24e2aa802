"""Caches that are damaged, planted or open to others: the same bytes come out, and nothing is run.

python -m tests.attack.caches

Every file that a run leaves in a cache is cut, emptied, filled with zeros or noise, or replaced by
a library or pickle with a canary, by a link, or by a folder; the folders are opened to others. The
same command then ends with the same adapter, without a crash and without the canary.
"""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.attack.forks import Forks, wait
from tests.attack.hostile import Canary

LIBRARY = """
#include <stdlib.h>
__attribute__((constructor)) static void run(void) {{ (void)!system("touch {canary}"); }}
"""


def harms(work: Path) -> dict[str, Callable[[Path], None]]:
    """What is done to a file of a cache, by name."""
    canary = work / "canary"
    planted = work / "planted.so"
    (work / "planted.c").write_text(LIBRARY.format(canary=canary))
    compile_it = ["cc", "-shared", "-fPIC", str(work / "planted.c"), "-o", str(planted)]
    subprocess.run(compile_it, check=True)
    pickled = pickle.dumps(Canary(canary))

    def halve(file: Path) -> None:
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])

    def noise(file: Path) -> None:
        raw = bytearray(file.read_bytes())
        raw[::7] = bytes(255 - byte for byte in raw[::7])
        file.write_bytes(raw)

    def link(file: Path) -> None:
        there = file.replace(work / f"elsewhere{file.suffix}")
        file.symlink_to(there)

    def folder(file: Path) -> None:
        file.unlink()
        file.mkdir()

    def plant(file: Path) -> None:
        shutil.copy(planted, file)

    def open_up(file: Path) -> None:
        file.chmod(0o666)
        file.parent.chmod(0o777)

    return {
        "cut in half": halve,
        "emptied": lambda file: _write(file, b""),
        "zeros": lambda file: _write(file, bytes(file.stat().st_size)),
        "noise": noise,
        "a planted library": plant,
        "a pickle": lambda file: _write(file, pickled),
        "a link": link,
        "a folder": folder,
        "open to others": open_up,
    }


def _write(file: Path, content: bytes) -> None:
    file.write_bytes(content)


def main() -> None:
    work = Path(tempfile.mkdtemp(prefix="lorita-caches-"))
    os.environ |= {
        "HF_HOME": str(work / "caches/hf"), "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_CACHE": str(work / "caches/tables"), "XDG_CACHE_HOME": str(work / "caches/x"),
        "XDG_STATE_HOME": str(work / "state"),
    }  # fmt: skip
    forks = Forks(work)
    train = prepare(forks, work)
    for number in range(2):
        forks.finish([*train, work / f"whole{number}"])
        if number == 0:
            forks.import_all()
    whole = adapter(work / "whole1")
    files = sorted(p.relative_to(work) for p in (work / "caches").rglob("*") if p.is_file())
    shutil.copytree(work / "caches", work / "kept", symlinks=True)
    print(f"{len(files)} files in the caches", flush=True)
    for name, harm in harms(work).items():
        for file in files:
            attack(forks, work, [*train, work / "out"], file, name, harm, whole)
        print(f"{name}: {len(files)} files, the same bytes", flush=True)
    shutil.rmtree(work)


def prepare(forks: Forks, work: Path) -> list[str | Path]:
    """A model as a GGUF file, which is converted into a cache, and the command that trains it."""
    from tests import tiny
    from tests.export.models import save_base

    save_base(work / "model", "llama")
    tiny.write_csv(work / "data.csv", tiny.make_texts(24))
    more = ["--data", work / "data.csv", "--text-field", "prompt", "--dtype", "float32"]
    more += [
        "--max-steps",
        "2",
        "--max-new-tokens",
        "2",
        "--no-proof",
        "--use-cpu",
        "--overwrite",
        "--output-dir",
    ]
    forks.finish(["train", "--model", work / "model", *more, work / "run"])
    forks.finish(["export", "gguf", work / "run", work / "model.gguf", "--merged"])
    shutil.rmtree(work / "caches")
    return ["train", "--model", work / "model.gguf", *more]


def attack(
    forks: Forks,
    work: Path,
    words: list[str | Path],
    file: Path,
    name: str,
    harm: Callable[[Path], None],
    whole: bytes,
) -> None:
    """One harm to one file; exits with a message if it shows."""
    shutil.rmtree(work / "caches")
    shutil.copytree(work / "kept", work / "caches", symlinks=True)
    harm(work / file)
    forks.log.write_text("")
    code = wait(forks.start(words))
    same = code == 0 and adapter(work / "out") == whole
    if (work / "canary").exists() or not same:
        ran = "the canary was run; " if (work / "canary").exists() else ""
        tail = forks.log.read_text(errors="replace")[-2000:]
        sys.exit(f"{file}, {name}: {ran}exit code {code}, same bytes: {same}; it said:\n{tail}")


def adapter(run: Path) -> bytes:
    return (run / "adapter_model.safetensors").read_bytes()


if __name__ == "__main__":
    main()
