"""Real clients against a real deployment: the fixtures are those of tests/integration."""

import importlib.util
import pathlib
import shutil
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
INTEGRATION = HERE.parent / "integration"
MODULES = HERE.parents[1] / "build" / "browser"
sys.path.insert(0, str(INTEGRATION))
pytest.register_assert_rewrite("cases")

import npm  # noqa: E402  # pylint: disable=wrong-import-position

_spec = importlib.util.spec_from_file_location("integration_fixtures", INTEGRATION / "conftest.py")
_fixtures = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_fixtures)

cluster = _fixtures.cluster


@pytest.fixture(scope="session")
def modules():
    """The directory with libraries.mjs and the npm libraries, which are installed if they changed."""
    with npm.installed(HERE, MODULES):
        shutil.copytree(HERE / "pages", MODULES / "pages", dirs_exist_ok=True)
        shutil.copy(HERE / "libraries.mjs", MODULES)
    return MODULES
