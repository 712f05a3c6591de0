"""What is shown of a system and of a run: pictures of paths and masks, plots, the claims board, reports in HTML."""
