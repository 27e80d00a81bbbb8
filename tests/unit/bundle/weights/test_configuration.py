"""Texts and JSON of a model: no pointer to code, no disguise, no absurd shape."""

from __future__ import annotations

import io
import json
import pickle
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aibox.bundle.weights import check_file, configuration


def problems(path: str, data: bytes | object, said: str = "") -> list[str]:
    content = data if isinstance(data, bytes) else json.dumps(data).encode()
    found = check_file(path, io.BytesIO(content), len(content), try_template=lambda _: said)
    return [problem.what for problem in found]


def test_plain_configuration_passes() -> None:
    config = {"architectures": ["X"], "rope": {"type": "yarn"}, "trust_remote_code": False}
    assert problems("config.json", config) == []
    assert problems("config.json", b"\xef\xbb\xbf{}") == []
    assert problems("tokenizer_config.json", {"chat_template": None}) == []


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"auto_map": {"AutoModel": "m.X"}}, "auto_map points to code"),
        ({"auto_map": None}, "auto_map points to code"),
        ({"text_config": [{"auto_map": {}}]}, "text_config.0.auto_map"),
        ({"trust_remote_code": True}, "trust_remote_code"),
        ({"vision": {"trust_remote_code": "false"}}, "vision.trust_remote_code"),
    ],
)
def test_pointers_to_code_are_refused_wherever_they_are(config: object, said: str) -> None:
    [found] = problems("config.json", config)
    assert said in found


def test_a_key_spelt_with_escapes_is_the_same_key() -> None:
    [found] = problems("config.json", rb'{"\u0061uto_map": 1}')
    assert "auto_map" in found


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff{}", "not JSON"),
        (b"[" * 200_000, "not JSON"),
        (b"[" * 40 + b"]" * 40, "too deeply"),
        (b'{"a":' * 100 + b"1" + b"}" * 100, "too deeply"),
        (b'{"a": 1, "a": 2}', "twice"),
        (b"9" * 10_000, "not JSON"),
    ],
)
def test_what_is_no_sane_json_is_refused(data: bytes, said: str) -> None:
    [found] = problems("config.json", data)
    assert said in found


def test_sizes_have_limits() -> None:
    large = b'{"a": "' + b"x" * configuration.LIMIT + b'"}'
    assert "at most" in problems("config.json", large)[0]
    assert problems("tokenizer.json", large) == []
    assert "pickle" in problems("tokenizer.json", b"\x80\x04" + large)[0]


def test_an_index_names_only_shards_beside_it() -> None:
    name = "model.safetensors.index.json"
    assert problems(name, {"weight_map": {"a": "model-00001-of-00002.safetensors"}}) == []
    for shard in ("../a.safetensors", "/a.safetensors", "a.bin", "x/a.safetensors", 1, ""):
        assert problems(name, {"weight_map": {"a": shard}}) != []
    assert problems(name, {"weight_map": ["a"]}) == ["its weight_map is not an object"]
    assert problems(name, b"[]") != []


def test_templates_are_found_where_tokenizers_keep_them() -> None:
    evil = "{{ x.__class__ }}"
    for config in (
        {"chat_template": evil},
        {"chat_template": [{"name": "default", "template": evil}]},
        {"chat_template": {"rag": evil}},
        {"processor": {"chat_template": evil}},
        {"chat_templates": [evil]},
    ):
        [found] = problems("tokenizer_config.json", config)
        assert "__class__" in found
        assert "chat_template" in found
    assert "slow" in problems("tokenizer_config.json", {"chat_template": "{{ x }}"}, "slow")[0]


def a_zip() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("data.pkl", b"x")
    return stream.getvalue()


DISGUISES = [
    *((pickle.dumps({"a": [1]}, protocol), "pickle") for protocol in (0, 2, 3, 4, 5)),
    (b"cos\nsystem\n(S'id'\ntR.", "pickle"),
    (a_zip(), "zip archive"),
    (b"\x1f\x8b\x08" + bytes(20), "compressed"),
    (b"\x28\xb5\x2f\xfd" + bytes(20), "compressed"),
    (b"\x89HDF\r\n\x1a\n", "arrays"),
    (b"\x93NUMPY\x01\x00", "arrays"),
    (b"\x7fELF\x02\x01", "program"),
    (b"MZ\x90\x00\x03", "program"),
    (b"#!/bin/sh\n", "program"),
    (b"a" * 257 + b"ustar\x0000", "tar"),
]


@pytest.mark.parametrize(("data", "said"), DISGUISES)
@pytest.mark.parametrize("path", ["vocab.txt", "README.md", "LICENSE", "config.json", "t.jinja"])
def test_nothing_hides_under_another_name(path: str, data: bytes, said: str) -> None:
    [found] = problems(path, data)
    assert said in found
    assert "under another name" in found


def test_texts_pass() -> None:
    assert problems("vocab.txt", "[PAD]\nMZ\nhello\n한글\n".encode()) == []
    assert problems("LICENSE", b"") == []


@pytest.mark.parametrize(
    ("data", "sound"),
    [
        (b"\n\x0e\n\x05<unk>\x15\x00\x00\x00\x00", True),
        (b"IQ== 0\nIg== 1\n", True),
        (pickle.dumps([1]), False),
        (b"", False),
        (b"anything", False),
    ],
)
def test_a_vocabulary_is_one_of_two_formats(data: bytes, sound: bool) -> None:
    assert (problems("tokenizer.model", data) == []) is sound


@pytest.mark.parametrize("path", ["modeling.py", "../config.json", "a.bin"])
def test_a_refused_name_is_not_even_read(path: str) -> None:
    assert len(problems(path, b"")) == 1


JSON = st.recursive(
    st.none() | st.booleans() | st.text(max_size=5) | st.just("{{ x.__class__ }}"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["a", "auto_map", "chat_template", "template", "name"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=10,
)


def points_to_code(value: object, below_template: bool = False) -> bool:
    """By recursion, where the check goes without."""
    if isinstance(value, str):
        return below_template and "__class__" in value
    if isinstance(value, list):
        return any(points_to_code(item, below_template) for item in value)
    if not isinstance(value, dict):
        return False
    return "auto_map" in value or any(
        points_to_code(item, below_template or key == "chat_template")
        for key, item in value.items()
    )


@settings(max_examples=200)
@given(JSON)
def test_a_pointer_to_code_is_never_missed_nor_imagined(config: object) -> None:
    assert bool(problems("config.json", config)) is points_to_code(config)


@settings(max_examples=200)
@given(
    st.sampled_from(["config.json", "x.jinja", "tokenizer.model", "a.txt", "model.safetensors"]),
    st.binary(max_size=200),
)
def test_no_bytes_break_the_check(path: str, data: bytes) -> None:
    problems(path, data)
