"""Which part runs in which process and how each is put together. (Wiring grows as rooms land.)"""
