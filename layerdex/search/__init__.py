"""Questions to answers: neighbours, classification, evaluation, deduplication, filters."""
