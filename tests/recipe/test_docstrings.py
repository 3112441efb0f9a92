"""The examples in the docstrings of the recipe's classes are true."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

from cnnc import recipe


@pytest.mark.parametrize("module", [each.name for each in pkgutil.iter_modules(recipe.__path__, "cnnc.recipe.")])
def test_examples_in_docstrings_are_true(module: str) -> None:
    assert doctest.testmod(importlib.import_module(module)).failed == 0
