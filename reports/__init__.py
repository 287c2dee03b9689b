"""The two faces of a report: coming in (schema, collector) and going out (site reports)."""
