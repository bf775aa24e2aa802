"""From a table of cells to rows: what each column means."""
