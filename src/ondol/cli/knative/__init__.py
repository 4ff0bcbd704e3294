"""The commands `ondol service`, `revision`, `route` and `domain`, with the words and flags of kn."""
