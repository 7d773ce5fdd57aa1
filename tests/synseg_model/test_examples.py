"""The examples in docstrings run, and the public API has them."""

import doctest
import functools
import inspect
import re
from importlib import import_module
from pathlib import Path

import pytest

import synseg_model

pytest.importorskip("torch", reason="the examples load a model with the torch engine")

ROOT = Path(synseg_model.__file__).parent
MODULES = sorted(
    ".".join(path.relative_to(ROOT.parent).with_suffix("").parts)
    for path in ROOT.rglob("*.py")
    if re.search(r"(?m)^ +>>> ", path.read_text(encoding="utf-8"))
)
# An example of a class may use what the example of the class itself has made.
PUBLIC = {
    "synseg_model.segmenter": ["Segmenter"],
    "synseg_model.result": ["Result"],
    "synseg_model.vocabulary": ["Vocabulary"],
    "synseg_model.engine": ["Engine"],
    "synseg_model.losses": ["MCCLLoss"],
    "synseg_model.synergy": ["synergy_features"],
    "synseg_model.network.synseg": ["SynSeg"],
}
WITH_METHODS = ("Segmenter", "Result", "Vocabulary")
PLAIN = {"Result.maps", "Result.labels", "Result.ids"}  # attributes that say all in a line


def examples():
    """List every example, with that of the class around it."""
    listed = []
    finder = doctest.DocTestFinder(exclude_empty=True, recurse=True)
    for name in MODULES:
        module = import_module(name)
        found = {test.name: test for test in finder.find(module, name) if test.examples}
        for test in found.values():
            owner = found.get(test.name.rpartition(".")[0])
            listed.append(pytest.param(test, owner, id=test.name.removeprefix("synseg_model.")))
    return listed


@pytest.fixture(autouse=True)
def _load_engines_once(monkeypatch):
    monkeypatch.setattr("synseg_model.segmenter.load_engine", _load_engine)


@functools.cache
def _load_engine(*arguments, **options):
    from synseg_model.engines.load import load_engine

    return load_engine(*arguments, **options)


@pytest.mark.parametrize(("test", "owner"), examples())
def test_the_example_runs(test, owner):
    report, runner = [], doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    if owner is not None:
        runner.run(owner, out=report.append, clear_globs=False)
        test.globs = dict(owner.globs)
    runner.run(test, out=report.append, clear_globs=False)
    assert runner.summarize(verbose=False).failed == 0, "".join(report)


@pytest.mark.parametrize(("module", "name"), [(module, name) for module, names in PUBLIC.items() for name in names])
def test_the_public_api_has_examples(module, name):
    public = getattr(import_module(module), name)
    objects = {name: public}
    if name in WITH_METHODS:
        objects |= {f"{name}.{part}": value for part, value in vars(public).items() if _is_documented(part, value)}
    missing = {name for name, value in objects.items() if ">>> " not in (inspect.getdoc(value) or "")}
    assert missing - PLAIN == set()


def _is_documented(name, value) -> bool:
    kinds = (property, classmethod, functools.cached_property)
    return not name.startswith("_") and (inspect.isfunction(value) or isinstance(value, kinds))
