"""Each kind's tiny model, published once."""

import pytest

from tests.plugins.stable_diffusion.tiny import KINDS, Published, publish


@pytest.fixture(scope="session", params=KINDS)
def published(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Published:
    return publish(request.param, tmp_path_factory.mktemp(request.param))
