"""The price list and the scenarios as they are delivered."""

from __future__ import annotations

import pytest

from aibox import content
from aibox.tco import prices, scenarios
from aibox.tco.prices import PriceList
from aibox.tco.scenarios import Scenarios


@pytest.fixture(scope="session")
def priced() -> PriceList:
    return prices.load(content.find().prices / "prices.toml")


@pytest.fixture(scope="session")
def published() -> Scenarios:
    return scenarios.load(content.find().prices / "scenarios.toml")
