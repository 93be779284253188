"""The privacy report: theory beside measurement on one page. Imports no MindSpore."""
from mindarmour.privacy.reporting.report import Report
from mindarmour.privacy.reporting.statement import SCHEMA, SCHEMA_VERSION, Disclosure, statement_of

__all__ = ["SCHEMA", "SCHEMA_VERSION", "Disclosure", "Report", "statement_of"]
