"""What is on disk: catalog, segments and the directory that holds both. Nobody else knows."""
