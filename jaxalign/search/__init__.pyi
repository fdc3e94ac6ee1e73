from .hubness import append_offsets as append_offsets
from .hubness import hubness_offsets as hubness_offsets
from .index import PreparedIndex as PreparedIndex
from .index import prepare as prepare
from .ranking import top_k as top_k
from .rewrite import rewrite_rows as rewrite_rows
from .use import SearchMap as SearchMap
from .use import Use as Use
