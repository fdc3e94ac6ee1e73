from .disk_errors import FullDiskError as FullDiskError
from .reader import EmbeddingStore as EmbeddingStore
from .reader import StoredBatch as StoredBatch
from .writer import StoreWriter as StoreWriter
