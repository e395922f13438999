"""Shows runs: as one HTML page (`page.report`), and as tables that compare settings (`compare`)."""
