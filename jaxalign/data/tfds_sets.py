# SPDX-License-Identifier: Apache-2.0
"""The paper's five data sets, as TFDS knows them.

Descriptions need no TFDS. Reading needs no TensorFlow; preparing does, once.
"""

import dataclasses
from pathlib import Path

from jaxalign.data import paper_classes, paper_prompts
from jaxalign.data.examples import CataloguedSource, DatasetInfo
from jaxalign.errors import ArgumentError


@dataclasses.dataclass(frozen=True)
class TfdsSet:
    """One data set of TFDS.

    Attributes:
      name: there and here.
      splits: there; those of `dtd` are the first of its ten folds.
      labels: the classes as TFDS calls them, in its order.
      templates: CLIP's prompts.
      id_format: of an example's id, see `tfds_folder.TfdsSource`.
      credit: text that a report must show.
      license: of the pictures.
    """

    name: str
    splits: tuple[str, ...]
    labels: tuple[str, ...]
    templates: tuple[str, ...]
    id_format: str
    credit: str
    license: str

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes in words, as CLIP was asked for them."""
        return tuple(map(paper_classes.in_words, self.labels))

    def info(self) -> DatasetInfo:
        """Return the description of the data set, without preparing it."""
        return DatasetInfo(
            name=self.name,
            splits=self.splits,
            class_names=self.class_names,
            category_names=(),
            class_prompts=paper_prompts.class_prompts(self.class_names, self.templates),
            credit=self.credit,
            license=self.license,
            class_captions=self.class_names,
        )

    def load(self, split: str, data_dir: Path) -> CataloguedSource:
        """Open a split, preparing the data set on first use.

        Raises:
          ModuleNotFoundError: if it is not prepared and TensorFlow is not installed.
          ValueError: if preparing fails, or for a prepared folder that is damaged or of
            another data set.
        """
        # TFDS takes a second to import.
        from jaxalign.data import tfds_folder, tfds_preparing

        path = tfds_preparing.prepared_folder(self.name, data_dir)
        folder = tfds_folder.read_tfds_folder(path)
        is_numbered = folder.label_names == tuple(map(str, range(len(self.labels))))
        if folder.label_names != self.labels and not is_numbered:
            raise ArgumentError(
                repr(str(path)),
                f"the {len(self.labels)} classes of {self.name} "
                f"({', '.join(self.labels[:3])}, ...)",
                f"others ({', '.join((folder.label_names or ())[:3])}, ...)",
                "delete the folder and start again, or name another `data_dir`",
            )
        if split not in folder.shards:
            raise ArgumentError(
                repr(str(path)),
                f"the split {split!r} of {self.name}",
                ", ".join(folder.shards),
                "delete the folder and start again, or name another `data_dir`",
            )
        return tfds_folder.TfdsSource(
            folder, split, id_format=self.id_format, class_captions=self.class_names
        )


TFDS_SETS = {
    found.name: found
    for found in (
        TfdsSet(
            name="oxford_iiit_pet",
            splits=("train", "test"),
            labels=paper_classes.PETS,
            templates=paper_prompts.PETS,
            id_format="{file_name}",
            credit='Parkhi, Vedaldi, Zisserman and Jawahar, "Cats and Dogs", 2012',
            license="CC BY-SA 4.0",
        ),
        TfdsSet(
            name="cifar100",
            splits=("train", "test"),
            labels=paper_classes.CIFAR100,
            templates=paper_prompts.CIFAR100,
            id_format="{id}",
            credit='Krizhevsky, "Learning Multiple Layers of Features from Tiny '
            'Images", 2009',
            license="none stated",
        ),
        TfdsSet(
            name="caltech101",
            splits=("train", "test"),
            labels=paper_classes.CALTECH101,
            templates=paper_prompts.CALTECH101,
            id_format="{class_name}/{image/file_name}",
            credit="Li, Andreeto, Ranzato and Perona, Caltech 101, 2022",
            license="CC BY 4.0",
        ),
        TfdsSet(
            name="dtd",
            splits=("train", "validation", "test"),
            labels=paper_classes.DTD,
            templates=paper_prompts.DTD,
            id_format="{file_name}",
            credit="Cimpoi, Maji, Kokkinos, Mohamed and Vedaldi, "
            '"Describing Textures in the Wild", 2014',
            license="for research purposes",
        ),
        TfdsSet(
            name="stl10",
            splits=("train", "test", "unlabelled"),
            labels=paper_classes.STL10,
            templates=paper_prompts.STL10,
            id_format="",
            credit='Coates, Lee and Ng, "An Analysis of Single Layer Networks in '
            'Unsupervised Feature Learning", 2011',
            license="none stated",
        ),
    )
}
"""By name."""
