"""The data directory of a moment as a file system: pages made when they are read (FUSE)."""
