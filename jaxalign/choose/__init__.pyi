from .candidates import FAMILIES as FAMILIES
from .candidates import USES as USES
from .candidates import Candidate as Candidate
from .candidates import CandidateScore as CandidateScore
from .choose import MapChoice as MapChoice
from .choose import choose_map as choose_map
