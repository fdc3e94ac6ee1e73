from .creating import create_rows as create_rows
from .matching import MatchedRows as MatchedRows
from .matching import match_rows as match_rows
from .opening import open_rows as open_rows
from .row_set import Rows as Rows
from .row_set import RowSet as RowSet
from .row_writer import RowWriter as RowWriter
