# SPDX-License-Identifier: Apache-2.0
"""The two models and the data set of a study: embeddings, credit."""

import dataclasses
from typing import Any, cast

from jaxalign.data import catalog
from jaxalign.encoders.encoders import Encoders
from jaxalign.encoders.pretrained import Dtype
from jaxalign.workflows.models import load_model
from jaxalign.workflows.splits import Embedded, embed_both


@dataclasses.dataclass(frozen=True)
class TwoModels:
    """Settings that studies of two models share; they are stored with every result."""

    source: str = "jaxalign/openmoji-clip"
    target: str = "jaxalign/openmoji-siglip"
    dtype: str = "float32"
    dataset: str = "openmoji"
    data_dir: str | None = None
    batch_size: int = 128

    def load(self) -> tuple[Encoders, Encoders]:
        """Load both models: before the results' folder is made, to see them fail."""
        dtype = cast(Dtype, self.dtype)
        return load_model(self.source, dtype), load_model(self.target, dtype)

    def embed(self, models: tuple[Encoders, Encoders] | None = None) -> Embedded:
        """Embed the data set with both models, loaded here without them."""
        data = {"data_dir": self.data_dir, "batch_size": self.batch_size}
        return embed_both(models or self.load(), self.dataset, **data)

    def credit(self) -> str:
        """Say whose data it is."""
        info = catalog.dataset_info(self.dataset)
        return f"{info.credit} {info.license}"

    def as_json(self) -> dict[str, Any]:
        """Return all settings as JSON values."""
        settings = dataclasses.asdict(self)
        lists = {name: list(v) for name, v in settings.items() if isinstance(v, tuple)}
        return settings | lists
