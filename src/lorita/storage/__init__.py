"""Disk and hub: atomic files, the cache, hub downloads and uploads, the run folder."""
