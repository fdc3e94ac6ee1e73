from .anchors import assess_anchors as assess_anchors
from .assess import assess_map as assess_map
from .blocks import block_of_rows as block_of_rows
from .delta import delta_intervals as delta_intervals
from .functional import rotation_interval as rotation_interval
from .result import Trust as Trust
