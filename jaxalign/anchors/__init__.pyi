from .anchors import ALL as ALL
from .anchors import Anchors as Anchors
from .anchors import PairedRows as PairedRows
from .arrays import array_pairs as array_pairs
from .arrays import process_rows as process_rows
from .stores import match_stores as match_stores
from .stores import store_pairs as store_pairs
