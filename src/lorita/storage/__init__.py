"""What lies on disk or on the hub: plain files, the cache, the files of a run folder."""
