"""Names: an allow-list, and paths that stay where they are put."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aibox.bundle.weights import check_names, refuse
from aibox.bundle.weights.names import FILES_LIMIT
from aibox.errors import ExitCode, VerificationRefused

GOOD = [
    "model-00001-of-00002.safetensors",
    "model.safetensors.index.json",
    "qwen.Q4_K_M.gguf",
    "config.json",
    "1_Pooling/config.json",
    "tokenizer.model",
    "sentencepiece.bpe.model",
    "merges.txt",
    "chat_template.jinja",
    "additional_chat_templates/tool.jinja",
    "README.md",
    "LICENSE",
    "LICENCE.txt",
    "LICENSE-2.0",
    "NOTICE",
    "USE_POLICY.md",
    "ACCEPTABLE_USE_POLICY",
]
BAD = [
    ("pytorch_model.bin", "pickle"),
    ("model.pt", "pickle"),
    ("model.PTH", "pickle"),
    ("last.ckpt", "pickle"),
    ("data.pkl", "pickle"),
    ("weights.npz", "pickle"),
    ("modeling_x.py", "program code"),
    ("x.pyc", "program code"),
    ("libx.so", "program code"),
    ("install.sh", "program code"),
    ("model.zip", "archive"),
    ("model.nemo", "archive"),
    ("tf_model.h5", "format of weights"),
    ("model.onnx", "format of weights"),
    ("model.onnx_data", "format of weights"),
    ("model.exe", "no kind"),
    ("Makefile", "no kind"),
    ("LICENSE.pdf", "no kind"),
    ("LICENSE.py", "program code"),
    ("model.SafeTensors", "no kind"),
    ("../config.json", "leads elsewhere"),
    ("a/./config.json", "leads elsewhere"),
    ("/etc/config.json", "leads elsewhere"),
    ("a//config.json", "leads elsewhere"),
    (".hidden/config.json", "hides"),
    ("a\\config.json", "characters"),
    ("a\n/config.json", "characters"),
    ("\u202ejson.config.json", "characters"),
    ("", "too long"),
    ("x" * 600 + ".json", "too long"),
    ("a/" * 9 + "config.json", "too long"),
    ("한" * 100 + ".json", "leads elsewhere"),
]


def test_what_models_are_made_of_is_allowed() -> None:
    assert check_names(GOOD) == []


@pytest.mark.parametrize(("path", "said"), BAD)
def test_everything_else_is_refused_with_its_reason(path: str, said: str) -> None:
    [problem] = check_names([*GOOD, path])
    assert problem.path == path
    assert said in problem.what
    assert "docs/model-files.md" in str(problem)


def test_paths_that_cannot_lie_side_by_side_are_refused() -> None:
    assert [p.what for p in check_names(["a.json", "a.json"])] == ["is there twice"]
    assert [p.what for p in check_names(["a.json", "a.json/b.json"])] == ["is a file and a folder"]


def test_too_many_files_are_refused_as_one_problem() -> None:
    assert len(check_names(f"{n}.bin" for n in range(FILES_LIMIT + 1))) == 1


def test_a_refusal_names_files_reasons_and_the_way_out() -> None:
    with pytest.raises(VerificationRefused) as caught:
        refuse(check_names([f"{n}.bin" for n in range(12)]), "tiny")
    assert caught.value.exit_code is ExitCode.VERIFICATION_REFUSED
    assert "tiny" in caught.value.message
    assert "0.bin: may be a pickle" in caught.value.context
    assert caught.value.context.endswith("and 4 more")
    refuse([], "tiny")


@given(st.text(max_size=40))
def test_no_name_breaks_the_check(path: str) -> None:
    for problem in check_names([path]):
        assert str(problem).isprintable()
