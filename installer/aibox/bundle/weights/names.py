"""Which files of a model repository may lie on a box, judged by their names alone."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import PurePosixPath

from aibox.bundle.weights.problem import Problem

FILES_LIMIT = 10_000
PATH_LIMIT = 512
DEPTH_LIMIT = 8

DATA = frozenset({".safetensors", ".gguf", ".json", ".jinja", ".txt", ".md", ".model"})
_TEXT = re.compile(r"(LICEN[CS]E|NOTICE|COPYING|COPYRIGHT|README|AUTHORS)[\w.-]*|[\w.-]*POLICY")
_TEXT_SUFFIX = re.compile(r"|\.txt|\.md|\.rst|\.\d+", re.IGNORECASE)

_PICKLE = "may be a pickle, which runs code when it is loaded; take safetensors or GGUF"
_CODE = "is program code; a model on a box is data only"
_ARCHIVE = "is an archive; its content cannot be judged by its name"
_FORMAT = "is a format of weights that is not supported; take safetensors or GGUF"
_REASONS = {
    **dict.fromkeys(
        (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".npy", ".npz"), _PICKLE
    ),
    **dict.fromkeys((".py", ".pyc", ".so", ".sh", ".ipynb", ".whl", ".dll", ".dylib"), _CODE),
    **dict.fromkeys((".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".nemo"), _ARCHIVE),
    **dict.fromkeys(
        (".h5", ".keras", ".onnx", ".onnx_data", ".pb", ".tflite", ".msgpack", ".ot"), _FORMAT
    ),
}


def check_names(paths: Iterable[str]) -> list[Problem]:
    """Every path that is not of an allowed kind, or that could not be laid out as a folder."""
    chosen = list(paths)
    if len(chosen) > FILES_LIMIT:
        return [Problem("(the repository)", f"has more than {FILES_LIMIT} files")]
    problems = [Problem(path, what) for path in chosen if (what := _refusal(path))]
    folders = {str(parent) for path in chosen for parent in PurePosixPath(path).parents}
    problems += [Problem(path, "is a file and a folder") for path in chosen if path in folders]
    twice = sorted(path for path, count in Counter(chosen).items() if count > 1)
    return problems + [Problem(path, "is there twice") for path in twice]


def is_text(name: str) -> bool:
    """Whether a file name is that of a licence, a notice, a policy or a read-me."""
    suffix = PurePosixPath(name).suffix
    return bool(_TEXT.fullmatch(name.removesuffix(suffix)) and _TEXT_SUFFIX.fullmatch(suffix))


def _refusal(path: str) -> str:
    """Why a path is refused; empty if it is not."""
    parts = path.split("/")
    if not path or len(path) > PATH_LIMIT or len(parts) > DEPTH_LIMIT:
        return "has a path that is too long"
    if "\\" in path or not path.isprintable():
        return "has a path with characters that no file name needs"
    if any(not part or part.startswith(".") or len(part.encode()) > 255 for part in parts):
        return "has a path that leads elsewhere, or hides"
    suffix = PurePosixPath(parts[-1]).suffix
    if suffix in DATA or is_text(parts[-1]):
        return ""
    return _REASONS.get(suffix.lower(), "is of no kind that a model needs")
