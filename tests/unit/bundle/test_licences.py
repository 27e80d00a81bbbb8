"""Licences: open source is for anybody, names of their own are looked up, the rest is not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aibox.bundle import licences
from aibox.bundle.manifest import Kind
from aibox.pins import Redistribution

ALLOW, OPERATOR, FORBID = (
    Redistribution.ALLOW,
    Redistribution.OPERATOR_ONLY,
    Redistribution.FORBID,
)
NOT_OURS = [kind for kind in Kind if kind is not Kind.PROJECT]


@pytest.mark.parametrize(
    "licence",
    [
        "Apache-2.0", "apache-2.0", "Apache 2.0", "Apache License, Version 2.0",
        "Apache Software License", "MIT", "mit", "MIT License", "The MIT License (MIT)",
        "BSD License", "BSD-3-Clause", 'BSD 3-Clause "New" or "Revised" License',
        "BSD-3-Clause and Apache-2.0", "MPL-2.0 AND (Apache-2.0 OR MIT)",
        "Mozilla Public License 2.0 (MPL 2.0)", "GPL-3.0-or-later", "GPL-2.0-only", "GPL-2+",
        "GNU General Public License v2 or later (GPLv2+)", "LGPL-2.1+", "GPL-1+ or Artistic",
        "GPL-2.0-or-later WITH Classpath-exception-2.0", "GPL-3+ with Bison exception",
        "Public Domain", "public-domain", "PSF-2.0", "Python Software Foundation License",
        "Expat", "ISC License (ISCL)", "Historical Permission Notice and Disclaimer (HPND)",
        "CC0-1.0", "CC-BY-4.0", "BSL-1.0", "MIT/X11", "0BSD",
        "BSD-3-Clause, Apache-2.0, dependency licenses",
        "BSD-derived (http://www.repoze.org/LICENSE.txt)",
        "apache-2.0 (with a USAGE_POLICY file)", "apache-2.0 (with the gpt-oss usage policy)",
        "other: Upstage Solar License", "Upstage Solar Licence",
    ],
)  # fmt: skip
def test_open_licences_are_for_anybody(licence: str) -> None:
    assert licences.classify(licence, Kind.MODEL) is ALLOW


@pytest.mark.parametrize(
    "licence",
    [
        "llama3.1", "llama3.3 community licence", "llama4 community licence", "Llama 2",
        "gemma", "Gemma Terms of Use", "HyperCLOVA X SEED Model License Agreement",
        "HyperCLOVA X SEED Model License Agreement (conditions: over 10M monthly users, "
        "competing product)", "other: hyperclovax-seed", "other: kanana", "other: Kanana License",
        "kanana (custom: separate commercial licence for API, SI and on-premise offers)",
        "other: k-exaone", "other: K-EXAONE AI Model License Agreement", "other: qwen",
        "other (NVIDIA open model)", "NVIDIA Driver License Agreement", "CUDA Toolkit EULA",
        "BUSL-1.1", "BSL 1.1", "SSPL-1.0", "Elastic-2.0", "unknown", "", "other", "Proprietary",
        "MIT AND Proprietary", "Apache-2.0 with additional terms", "not MIT",
        "MIT (evaluation only)", "CC-BY-ND-4.0", "(((", ")MIT",
    ],
)  # fmt: skip
def test_conditions_and_unknown_licences_are_for_the_operator_alone(licence: str) -> None:
    assert licences.classify(licence, Kind.MODEL) is OPERATOR


@pytest.mark.parametrize(
    "licence",
    [
        "EXAONE AI Model License Agreement 1.2 - NC (non-commercial)", "other: exaone",
        "CC-BY-NC-4.0", "cc-by-nc-4.0", "CC BY-NC-SA 4.0", "MIT (non-commercial use only)",
        "Apache-2.0 AND CC-BY-NC-4.0", "Research only", "tencent-hunyuan-community",
        "CC-BY-NC-4.0 OR some terms nobody here knows",
    ],
)  # fmt: skip
def test_what_excludes_commerce_or_countries_is_not_carried(licence: str) -> None:
    assert licences.classify(licence, Kind.MODEL) is FORBID


def test_of_two_licences_to_choose_from_the_laxer_counts() -> None:
    assert licences.classify("CC-BY-NC-4.0 OR MIT", Kind.MODEL) is ALLOW
    assert licences.classify("MIT AND (llama3.1 OR CC-BY-NC-4.0)", Kind.MODEL) is OPERATOR


def test_only_our_own_files_need_no_known_licence() -> None:
    assert licences.classify("unknown", Kind.PROJECT) is ALLOW
    assert {licences.classify("unknown", kind) for kind in NOT_OURS} == {OPERATOR}


def test_every_judgement_has_a_reason_and_every_class_an_explanation() -> None:
    for licence in ("MIT", "gemma", "cc-by-nc-4.0", ""):
        assert licences.judge(licence, Kind.MODEL).reason
    assert "the operator brings the weights" in licences.explain(FORBID)
    assert len({licences.explain(item) for item in Redistribution}) == 3


WORDS = st.sampled_from(
    ["MIT", "Apache-2.0", "GPL-2+", "gemma", "CC-BY-NC-4.0", "(", ")", "AND", "or", "with", ",",
     "/", "nothing known", "exception", " ", "|"]
)  # fmt: skip


@given(st.text(max_size=200) | st.lists(WORDS, max_size=60).map(" ".join))
def test_any_text_has_a_class(text: str) -> None:
    assert licences.classify(text, Kind.WHEEL) in Redistribution


@given(st.text(max_size=60), st.text(max_size=60))
def test_nothing_beside_it_makes_a_non_commercial_licence_free(before: str, after: str) -> None:
    text = f"{before} non-commercial {after}"
    if " or " not in text.lower() and "|" not in text:
        assert licences.classify(text, Kind.MODEL) is not ALLOW


def test_a_text_too_long_to_read_is_never_for_anybody() -> None:
    assert licences.classify("MIT AND " * 500 + "MIT", Kind.MODEL) is OPERATOR
    assert licences.classify("MIT AND " * 500 + "CC-BY-NC-4.0", Kind.MODEL) is FORBID
