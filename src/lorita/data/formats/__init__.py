"""From a table of cells to rows: which columns mean what."""
