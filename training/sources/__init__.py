"""Where frames come from: each source is a function `pairs` that yields `layout.Pair`, one frame at a time."""
