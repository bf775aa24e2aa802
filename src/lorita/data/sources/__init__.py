"""From a name, a file or Python rows to one table of cells."""
