"""What an engine does on the hardware of a site: what its start says, and how fast it answers.

Pure: texts of the engine and of its benchmark client in, values out. `aibox.measure` owns the
files and asks the engine.
"""
