"""What is done with data before anything is trained on it: check, blend, curate, pack, preview, fetch."""
