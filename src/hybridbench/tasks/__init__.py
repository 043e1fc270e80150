"""Tasks: what is learned. Real and generated data sets, as shipped tables and prepared as rotation angles."""

from hybridbench.tasks.prepare import PreparedTask, prepare, prepare_table, split_rows
from hybridbench.tasks.registry import TASKS, Task, get, names
from hybridbench.tasks.tables import compare_tables, datasheet, make_table, read_table, write_tables

__all__ = [
    "TASKS",
    "PreparedTask",
    "Task",
    "compare_tables",
    "datasheet",
    "get",
    "make_table",
    "names",
    "prepare",
    "prepare_table",
    "read_table",
    "split_rows",
    "write_tables",
]
