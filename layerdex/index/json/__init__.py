"""Results as plain data with a written schema: for the command line, and for a service.

May import result types of the rooms below for type checking only, and nothing heavy. Start reading
at `convert`, then ``schema.json``, which `schema` reads.
"""

from layerdex.index.json.answers import clusters_to_json, label_issue_rows
from layerdex.index.json.convert import (
    deletion_to_json,
    dry_run_to_json,
    evaluations_to_json,
    prediction_to_json,
    report_to_json,
    search_to_json,
    to_json,
)
from layerdex.index.json.schema import output_schema, read_schemas

__all__ = [
    "clusters_to_json",
    "deletion_to_json",
    "dry_run_to_json",
    "evaluations_to_json",
    "label_issue_rows",
    "output_schema",
    "prediction_to_json",
    "read_schemas",
    "report_to_json",
    "search_to_json",
    "to_json",
]
