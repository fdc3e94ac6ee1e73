from .batch import EmbeddedSet as EmbeddedSet
from .batch import EmbeddingBatch as EmbeddingBatch
from .fetch import fetch as fetch
from .fetch import gather as gather
from .inputs import embedding_batches as embedding_batches
from .into_stores import embed_into_stores as embed_into_stores
from .shares import Share as Share
from .stream import embed as embed
