# SPDX-License-Identifier: Apache-2.0
"""Files and folders of rows as other tools write them."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import safetensors.numpy

ROWS = np.random.default_rng(0).normal(size=(10, 3)).astype(np.float16)
# Where parts of a folder end; one of them is empty.
CUTS = (0, 4, 4, 7, 10)


def table(rows=ROWS):
    """Embeddings between other columns, among them nulls, floats and lists."""
    n, d = rows.shape
    return pa.table(
        {
            "key": [f"k{i}" for i in range(n)],
            "emb": pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), d),
            "similarity": pa.array([None if i % 3 else i / 7 for i in range(n)]),
            "tags": [["a"] * (i % 3) for i in range(n)],
        }
    )


def write(folder, name, rows=ROWS):
    """Write rows in the format that the name's suffix tells; return the reference."""
    path = folder / name
    if path.suffix == ".npy":
        np.save(path, rows)
    elif path.suffix == ".npz":
        np.savez(path, rows=rows, labels=np.arange(len(rows)))
        return f"{path}::rows"
    elif path.suffix == ".safetensors":
        safetensors.numpy.save_file({"rows": rows, "ids": np.arange(3)}, path)
        return f"{path}::rows"
    else:
        pq.write_table(table(rows), path, row_group_size=4, compression="zstd")
        return f"{path}::emb"
    return str(path)


def write_folder(
    folder, rows=ROWS, *, digits=1, first=8, modalities=("image", "text"), metadata=True
):
    """Write a folder as clip-retrieval does: parts 8 to 11 by default, 9 is empty."""
    names = {"image": "img_emb", "text": "text_emb"}
    for part, (start, stop) in enumerate(zip(CUTS, CUTS[1:], strict=False), first):
        for modality in modalities:
            (folder / names[modality]).mkdir(parents=True, exist_ok=True)
            sign = 1 if modality == "image" else -1
            name = f"{names[modality]}/{names[modality]}_{part:0{digits}d}.npy"
            np.save(folder / name, sign * rows[start:stop])
        if metadata:
            (folder / "metadata").mkdir(exist_ok=True)
            pq.write_table(
                table(rows).slice(start, stop - start).drop_columns("emb"),
                folder / f"metadata/metadata_{part:0{digits}d}.parquet",
            )
    return folder
