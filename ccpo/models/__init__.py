"""Models as plain Hugging Face folders: prepared, loaded, adapted, saved."""
