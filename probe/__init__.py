"""The node side: finds out, by trying, what containers can do here. Standard library only, Python 3.6 and later."""
