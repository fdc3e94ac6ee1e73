from .alignment_map import AlignmentMap as AlignmentMap
from .carry import Carried as Carried
from .carry import carry as carry
from .carry_rows import carry_rows as carry_rows
from .fit import fit_map as fit_map
from .fit_groups import fit_groups as fit_groups
from .numbers import MapNumbers as MapNumbers
from .numbers import apply_part as apply_part
