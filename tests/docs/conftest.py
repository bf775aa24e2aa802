"""The world in which the documentation's commands run, made once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.docs import place
from tests.docs.warm import warm
from tests.hub_server import hub_server


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[place.World]:
    folder = tmp_path_factory.mktemp("docs")
    place.save_models(folder)
    place.fill_data(folder / "data")
    place.write_stubs(folder / "stubs")
    with hub_server() as hub, hub_server() as sizes:
        sizes.add("bigscience/bloomz-560m", place.save_config(folder / "sizes"))
        hub.add("bigscience/bloomz-560m", folder / "hub")
        hub.add("fka/awesome-chatgpt-prompts", place.hub_data(folder / "fka"), dataset=True)
        hub.uploads = folder / "uploads"
        hub.uploads.mkdir()
        variables = place.variables(folder, hub.endpoint)
        with warm(folder / "warm", **variables) as programs:
            real = {"HF_ENDPOINT": sizes.endpoint, "HF_HOME": str(folder / "hf-sizes")}
            made = place.World(folder, programs, variables, real)
            place.make_runs(made)
            yield made
