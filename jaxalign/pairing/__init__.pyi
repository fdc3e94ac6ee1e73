from .embedded_split import EmbeddedSplit as EmbeddedSplit
from .encoded import encoded_pairs as encoded_pairs
