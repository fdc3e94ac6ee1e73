# SPDX-License-Identifier: Apache-2.0
"""One way to fit a map and to use it in searches: what is tried on held-out anchors."""

import dataclasses
from typing import Any

from jaxalign.array_types import Modality
from jaxalign.families.family import Family
from jaxalign.families.orthogonal import Orthogonal
from jaxalign.families.scorer import ScorerFamily
from jaxalign.search.use import Use


@dataclasses.dataclass(frozen=True)
class Candidate:
    """One way to fit a map, and to use it.

    Attributes:
      family: of the map of rows, or of the scorer beside the default map of rows.
      fit_on: the modality it is fitted on, or "all".
      use: in searches.
    """

    family: Family | ScorerFamily
    fit_on: Modality
    use: Use

    @property
    def scorer(self) -> ScorerFamily | None:
        """The family of the scorer, if it is one."""
        return self.family if isinstance(self.family, ScorerFamily) else None

    @property
    def of_rows(self) -> Family:
        """The family of the map of rows."""
        return self.family if isinstance(self.family, Family) else Orthogonal()

    def describe(self) -> str:
        """Say in a few words what is done, fit first.

        >>> from jaxalign.families.likelihood_ratio import LikelihoodRatio
        >>> Candidate(LikelihoodRatio(), "text", Use.SCORER).describe()
        'likelihood ratio fitted on text, offsets (k = 5)'
        """
        use = self.use.describe()
        if self.scorer is not None:
            use = f"offsets (k = {self.use.offsets})" if self.use.offsets else ""
        return f"{self.family.describe()} fitted on {self.fit_on}, {use}".rstrip(", ")

    def to_json(self) -> dict[str, Any]:
        """Give the candidate as JSON values, for a map's card."""
        return {
            "family": self.family.to_json(),
            "fit_on": self.fit_on,
            "use": self.use.to_json(),
        }
