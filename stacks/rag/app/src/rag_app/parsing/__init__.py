"""From files to text: one reader per format, run in a jail, because every document is a stranger.

`jail` and `zygote` start one confined process for each document; inside it `dispatch` picks the
reader by content. `hygiene` and `builder` give all readers the same clean text and segments.
"""

# Raise it with any change that gives another text for the same file: a release with another
# version reads the original files again.
PARSING_VERSION = 2
