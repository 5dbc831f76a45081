"""The schema's revisions, one per file."""
