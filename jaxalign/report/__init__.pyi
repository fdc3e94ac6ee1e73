from .page import write_report as write_report
from .results import read_results as read_results
from .results import write_results as write_results
from .table import format_table as format_table
from .trust import describe_trust as describe_trust
