"""`ondol broker`, `trigger`, `channel`, `subscription` and `source`, with the words and flags of kn."""
