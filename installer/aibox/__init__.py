"""aibox: one signed bundle turns a bare server into an assistant that cites its sources."""

__version__ = "0.1.0"
