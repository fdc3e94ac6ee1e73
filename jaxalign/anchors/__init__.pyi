from .anchors import ALL as ALL
from .anchors import Anchors as Anchors
from .arrays import array_pairs as array_pairs
from .arrays import process_rows as process_rows
from .paired_rows import PairedRows as PairedRows
from .stores import match_stores as match_stores
from .stores import store_pairs as store_pairs
