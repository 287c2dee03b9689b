"""What factories have configured: import, drift against what was measured, proposals, editing files in place."""
