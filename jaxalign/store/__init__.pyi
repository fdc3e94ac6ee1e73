from .reader import EmbeddingStore as EmbeddingStore
from .reader import StoredBatch as StoredBatch
from .trouble import FullDiskError as FullDiskError
from .writer import StoreWriter as StoreWriter
